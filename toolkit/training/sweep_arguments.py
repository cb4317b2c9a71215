"""The arguments of a sweep in Python: those that are one for all cells, and axes. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from toolkit.artifacts import CHECKPOINT
from toolkit.errors import CnnkitError
from toolkit.listings import MOST_PIXELS
from toolkit.models import Recipe
from toolkit.splits import MOST_FOLDS, Fold
from toolkit.training import jobs, recipes
from toolkit.training.axes import named_axis, recipe_fields

# those by which every cell reads people's own pictures alike
READING = ("group", "exclude", "columns", "skip_damaged", "max_pixels", "levels", "grey")


def source_of_all(word: str, given: object) -> str | None:
    """Return the name or file that all cells start from, or learn from. Raises CnnkitError for another."""
    if given is None:
        return None
    if not isinstance(given, str | Path):
        raise CnnkitError(
            f"{word} is one for all cells of a sweep, a name or a file, and cannot be {given!r}"
        )
    return str(given)


def insist_on_switch(word: str, given: object) -> None:
    """Raise CnnkitError where a switch of all cells is neither on nor off."""
    if not isinstance(given, bool):
        raise CnnkitError(f"{word} is one for all cells of a sweep, True or False, and cannot be {given!r}")


def words_over(given: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the fields that a search varies: a list of them, or text as it is typed (`lr,batch`).

    Raises CnnkitError for what is neither.
    """
    words = given.split(",") if isinstance(given, str) else () if given is None else given
    if not isinstance(words, Iterable):
        raise CnnkitError(f"over cannot be {given!r}; it takes recipe fields, as ['lr', 'batch']")
    return tuple(str(word).strip() for word in words)


def axes_of(varied: Mapping[str, Any], folds: int | None) -> dict[str, tuple[str, ...]]:
    """Return what is varied, by its word, folds of a count, too; an option that is None is left out.

    Raises CnnkitError for what is no axis, or cannot have such values.
    """
    named = dict(varied)
    if folds is not None:
        if varied.get("fold") is not None:
            raise CnnkitError(f"--folds {folds} varies the fold, and --fold names one: leave one of them out")
        if not isinstance(folds, int) or not 2 <= folds <= MOST_FOLDS:
            raise CnnkitError(f"folds cannot be {folds!r}; it takes a whole number from 2 to {MOST_FOLDS}")
        named["fold"] = [f"{number}/{folds}" for number in range(1, folds + 1)]
    options = {setting.word for setting in jobs.options().values()} | {"recipe"}
    kept = {
        word: values
        for word, values in named.items()
        if values is not None or word.replace("_", "-") not in options
    }
    chosen = dict(named_axis(word, values) for word, values in kept.items())
    for text in chosen.get("fold", ()):
        Fold.parse(text)
    return chosen


def insist_that_axes_are_heeded(
    found: Iterable[Recipe],
    axes: Mapping[str, tuple[str, ...]],
    over: Sequence[str],
    *,
    teacher: str | None,
    freeze: bool,
) -> None:
    """Raise CnnkitError for an axis, or a field that is searched, that does nothing in any cell."""
    typed = [word for word, texts in axes.items() if texts != ("none",)]
    single = {word: texts for word, texts in recipe_fields(axes).items() if len(texts) == 1}
    for recipe in found:
        same = recipes.first_that_makes_sense(recipe, single)
        jobs.insist_that_all_is_heeded(
            recipe if same is None else recipes.override(recipe, same),  # others may make sense of it
            (*typed, *over),
            teacher=teacher,
            freeze=freeze,
            varied=(*over, *(word for word in axes if word not in single)),
        )


def read_by(given: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the arguments of `cnnkit train` that say how pictures are read, but for what is usual."""
    told: list[str] = []
    for name, value in given.items():
        setting = jobs.options()[name]
        if value is None or value is False or (name == "max_pixels" and value == MOST_PIXELS):
            continue
        told += [f"--{setting.word}"] if value is True else [f"--{setting.word}", str(value)]
    return tuple(told)


def starting_with(
    pretrained: str | None, *, freeze: bool, teacher: str | None, artifacts: Path
) -> tuple[str, ...]:
    """Return the arguments of what every cell starts from and learns from; a teacher is told by its file.

    Each cell has artifacts of its own, in which the name of a trained network means nothing.
    """
    told = ("--pretrained", pretrained) if pretrained is not None else ()
    if freeze:
        told = (*told, "--freeze")
    if teacher is None:
        return told
    from toolkit.opening import Selection, open_model

    file = open_model(teacher, Selection(root=artifacts, formats=(CHECKPOINT,))).path
    return (*told, "--teacher", str(file.absolute()))


def weights_of(found: Iterable[Recipe]) -> tuple[str, ...]:
    """Return the class weights that recipes name, as they are typed: files may be among them."""
    named = (recipe.class_weights for recipe in found)
    return tuple(part for weights in named if weights for part in ("--class-weights", weights))
