"""What a sweep may vary, and the values of one axis as they are typed. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from toolkit.errors import CnnkitError, unknown_name
from toolkit.training import jobs, recipes
from toolkit.training.fields import FieldSpec

# the options of a job that a sweep may vary, beside the recipe and its fields
_OPTIONS = (
    "seed",
    "device",
    "threads",
    "precision",
    "layout",
    "loader",
    "workers",
    "store",
    "images",
    "size",
    "fold",
)


def axes() -> Mapping[str, FieldSpec | None]:
    """Return what a sweep may vary, by its word; None for the recipe, which is any name or file."""
    by_word = {setting.word: setting for setting in jobs.options().values()}
    fields = {setting.word: setting for setting in recipes.settings().values()}
    return {"recipe": None, **{word: by_word[word] for word in _OPTIONS}, **fields}


def recipe_fields(chosen: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Return those of some axes that are fields of a recipe."""
    words = {setting.word for setting in recipes.settings().values()}
    return {word: texts for word, texts in chosen.items() if word in words}


def axis_values(word: str, values: Iterable[Any]) -> tuple[str, ...]:
    """Return the values of an axis as text, each once. Raises CnnkitError for what the option cannot be."""
    setting = axes()[word]
    texts: dict[Any, str] = {}
    for value in values:
        text = str(value).strip()
        read = setting.parse(text) if setting else text
        # a switch, an absent value and a whole number, 1e3, have several spellings, which are one cell
        spelling = str(read).lower() if isinstance(read, bool | int | None) else text
        texts.setdefault(read, spelling)  # 0.1 and 0.10 are one value, called as it was typed first
    if not texts:
        raise CnnkitError(f"axis {word} has no values")
    return tuple(texts.values())


def named_axis(name: str, values: Any) -> tuple[str, tuple[str, ...]]:
    """Return an axis by its word with its values, one or several. Raises CnnkitError for what is no axis."""
    word = name.replace("_", "-")
    if word not in axes():
        raise unknown_name("axis of a sweep", name, axes())
    several = not isinstance(values, str) and isinstance(values, Iterable)
    return word, axis_values(word, values if several else [values])
