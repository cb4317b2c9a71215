"""Recipes changed: by name and text from the command line, by TOML files, and checked for sense.

Imports no torch, so that the command line can be made from the fields of a recipe and of a job.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.errors import CnnkitError, NotFoundError, unknown_name
from toolkit.models import ModelSpec, Recipe
from toolkit.training.fields import FieldSpec, settings_of

NOTHING_THAWS = "--unfreeze-at needs --freeze: without it all layers learn from the start"


@dataclass(frozen=True, kw_only=True)
class FieldNeed:
    """What a field does nothing without: another `field`, with which `met` is true, as by what is `typed`.

    Some do nothing without it under --freeze alone.
    """

    field: str
    met: Callable[[Recipe], bool]
    typed: str
    under_freeze: bool = False


_STEPS = FieldNeed(field="schedule", met=lambda recipe: recipe.schedule == "step", typed="--schedule step")
_NEEDS: Mapping[str, FieldNeed] = {
    "step_epochs": _STEPS,
    "step_gamma": _STEPS,
    "randaugment_level": FieldNeed(
        field="randaugment", met=lambda recipe: recipe.randaugment > 0, typed="--randaugment 2"
    ),
    "layer_decay": FieldNeed(
        field="unfreeze_at",
        met=lambda recipe: recipe.unfreeze_at is not None,
        typed="--unfreeze-at N, without which --freeze lets the head alone learn, at the whole rate",
        under_freeze=True,
    ),
}


def settings() -> Mapping[str, FieldSpec]:
    """Return every field of a recipe that can be set, by name, in the order of the dataclass."""
    return settings_of(Recipe)


def find(
    spec: ModelSpec,
    named: str,
    *,
    usual: str = "default",
    beside: Mapping[str, Sequence[Any]] | None = None,
    freeze: bool = False,
) -> Recipe:
    """Return the recipe of a name, or of a TOML file: its fields over those of its `base`, else the `usual`.

    A file's fields make sense, and are heeded, together with those that are given `beside`: the values of
    each, none where they are not known yet. Raises NotFoundError and CnnkitError in words.
    """
    if not named.endswith(".toml"):
        return check(spec.recipe(named))
    path = Path(named)
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise NotFoundError(f"recipe file {path} cannot be read: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CnnkitError(f"{path} is no TOML file: {error}") from None
    base = spec.recipe(str(data.pop("base", usual)))
    try:
        recipe = dataclasses.replace(_changed(base, data), name=path.stem, source=path.name)
        if first_that_makes_sense(recipe, beside or {}) is None:
            check(recipe)
        for word in data:
            insist_that_fields_are_heeded(recipe, [word], beside or (), freeze=freeze)
        return recipe
    except CnnkitError as error:
        raise type(error)(f"{path}: {error}") from None


def first_that_makes_sense(recipe: Recipe, fields: Mapping[str, Sequence[Any]]) -> dict[str, Any] | None:
    """Return the first values of fields, one of each, with which a recipe makes sense; None for none."""
    known = {word: values for word, values in fields.items() if values}
    for values in itertools.product(*known.values()):
        chosen = dict(zip(known, values, strict=True))
        with contextlib.suppress(CnnkitError):
            override(recipe, chosen)
            return chosen
    return None


def override(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Return a recipe with fields changed by name (dashes or underscores), from text or values.

    Changing the optimizer drops a momentum that the new one does not know, unless it is given, too. Pixels
    that are given are asked for, also where they are the recipe's.
    """
    return check(_changed(recipe, changes))


def _changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    known = settings()
    values: dict[str, Any] = {}
    for word, given in changes.items():
        name = word.replace("-", "_")
        if name not in known:
            raise unknown_name("recipe field", word, [s.word for s in known.values()])
        values[name] = known[name].parse(given)
    own_pixels = recipe.own_pixels or "pixels" in values
    if values.get("optimizer", "sgd") != "sgd":
        values = {"momentum": 0.0, "nesterov": False, **values}
    values = {name: value for name, value in values.items() if value != getattr(recipe, name)}
    changed = tuple(dict.fromkeys((*recipe.changed, *values)))
    return dataclasses.replace(recipe, **values, own_pixels=own_pixels, changed=changed)


def check(recipe: Recipe) -> Recipe:
    """Return the recipe if its fields make sense together. Raises CnnkitError in words."""
    for name, setting in settings().items():
        setting.parse(getattr(recipe, name))
    sgd = recipe.optimizer == "sgd"
    if recipe.lr == 0:
        raise CnnkitError("recipe field lr cannot be 0; nothing would be learned")
    if recipe.clip_norm == 0:
        raise CnnkitError("recipe field clip-norm cannot be 0; none turns clipping off")
    if recipe.momentum and not sgd:
        raise CnnkitError(f"momentum belongs to sgd, and the optimizer is {recipe.optimizer}: --momentum 0")
    if recipe.nesterov and not (sgd and recipe.momentum):
        raise CnnkitError("nesterov needs sgd and a momentum: --optimizer sgd --momentum 0.9")
    if recipe.schedule == "one-cycle" and recipe.warmup_epochs:
        raise CnnkitError("one-cycle warms up by itself: --warmup-epochs 0, or --schedule cosine")
    _check_cycles(recipe)
    if recipe.sampling == "balanced" and recipe.class_weights in ("balanced", "effective"):
        raise CnnkitError(
            f"--sampling balanced draws every class equally often, and --class-weights "
            f"{recipe.class_weights} would even them out once more: leave one of them out"
        )
    return recipe


def _check_cycles(recipe: Recipe) -> None:
    """Raise CnnkitError where a recipe's cycles or averages cannot be had."""
    if recipe.average_from is not None and recipe.ema_decay:
        raise CnnkitError("--average-from and --ema-decay are two averages of the weights: --ema-decay none")
    if recipe.cycles == 1:
        return
    if recipe.schedule not in ("cosine", "one-cycle"):
        raise CnnkitError(f"schedule {recipe.schedule} has no cycles: --schedule cosine, or --cycles 1")
    if recipe.cycles > recipe.epochs:
        raise CnnkitError(
            f"--cycles {recipe.cycles} needs as many epochs or more, and there are {recipe.epochs}"
        )
    if recipe.unfreeze_at is not None:
        raise CnnkitError("--unfreeze-at begins the schedule anew by itself: leave out --cycles")


def insist_that_fields_are_heeded(
    recipe: Recipe, typed: Collection[str], beside: Iterable[str] = (), *, freeze: bool = False
) -> None:
    """Raise CnnkitError for a typed field, by name or word, that does nothing as another one is.

    Where that other one is given `beside`, they are combined by somebody who varies both.
    """
    others = {word.replace("-", "_") for word in beside}
    for name in (word.replace("-", "_") for word in typed):
        need = _need_of(name, freeze=freeze)
        if need is not None and need.field not in others and not need.met(recipe):
            value = getattr(recipe, need.field)
            now = f"{settings()[need.field].word} is {'none' if value is None else value}"
            raise CnnkitError(f"{settings()[name].word} does nothing while {now}: {need.typed}")


def _need_of(name: str, *, freeze: bool) -> FieldNeed | None:
    """Return what a field does nothing without, where only the head learns (`freeze`) or all layers do."""
    need = _NEEDS.get(name)
    return None if need is None or (need.under_freeze and not freeze) else need


def heeded(recipe: Recipe, fields: Mapping[str, str], *, freeze: bool) -> dict[str, str]:
    """Return those of some fields, by words or names, that do something as a recipe with all of them is.

    Raises what `override` raises.
    """
    made = override(recipe, fields)
    needs = {word: _need_of(word.replace("-", "_"), freeze=freeze) for word in fields}
    return {word: text for word, text in fields.items() if (need := needs[word]) is None or need.met(made)}


def insist_that_a_share_is_held_out(recipe: Recipe, instead: str) -> None:
    """Raise CnnkitError for a share that was asked for, where something else is held out `instead`."""
    share = recipe.validation_fraction
    if share and "validation_fraction" in recipe.changed:
        raise CnnkitError(idle_share(f"{share:g}", instead))


def idle_share(share: str, instead: str) -> str:
    """Say that a share does nothing, where something else is held out `instead`."""
    return (
        f"validation-fraction {share} does nothing while {instead} is held out: leave it out "
        "(--validation-fraction 0 overrules a recipe file's)"
    )


def insist_that_layers_thaw(recipe: Recipe, *, freeze: bool) -> None:
    """Raise CnnkitError where --unfreeze-at would do nothing."""
    at, epochs = recipe.unfreeze_at, recipe.epochs
    if at is None:
        return
    if not freeze:
        raise CnnkitError(NOTHING_THAWS)
    if at >= epochs:
        raise CnnkitError(
            f"--unfreeze-at {at} lets the body learn after {at} epochs, and there are {epochs}: --epochs "
            f"{at + 1} or more, an earlier --unfreeze-at, or none, with which only the head learns"
        )


def summary(recipe: Recipe) -> str:
    """Say a recipe in a few words: its name, its main figures and what was changed."""
    epochs = "1 epoch" if recipe.epochs == 1 else f"{recipe.epochs} epochs"
    text = (
        f"{recipe.name}: {epochs}, batch {recipe.batch}, {recipe.optimizer} {recipe.lr:g}, {recipe.schedule}"
    )
    return f"{text} (changed: {', '.join(recipe.changed)})" if recipe.changed else text
