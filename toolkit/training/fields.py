"""Fields of a dataclass that can be set: as what, within which bounds, and from text.

A recipe's and a job's options on the command line are made from them. Imports no torch.
"""

from __future__ import annotations

import contextlib
import math
import types
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from toolkit.errors import CnnkitError
from toolkit.models import Recipe
from toolkit.recipes import About


@dataclass(frozen=True, kw_only=True)
class FieldSpec:
    """One field that can be set: its type, choices and range. A bound that is None is open.

    `word` is the field's on the command line; `low` and `high` are values that the field may have, `above`
    and `below` are ones that it may not reach. A field that is not a recipe's is never optional: it is given
    or left out.
    """

    name: str
    word: str
    of_recipe: bool
    kind: type[bool] | type[int] | type[float] | type[str] | type[Path]
    optional: bool
    choices: tuple[str, ...]
    help: str
    low: float | None
    high: float | None
    below: float | None
    tried: tuple[float, ...] | None = None
    log: bool = False
    relative: bool = False
    above: float | None = None

    @property
    def wanted(self) -> str:
        """Say what values the field takes."""
        if self.choices:
            return " or ".join(self.choices)
        if self.kind not in (int, float):
            return {bool: "true or false", Path: "a path"}.get(self.kind, "text")
        words = "a whole number" if self.kind is int else "a number"
        if self.high is not None:
            words += f" from {self.low:g} to {self.high:g}"
        elif self.below is not None:
            words += f" from {self.low:g} to below {self.below:g}"
        elif self.low is not None:
            words += f" from {self.low:g}"
        elif self.above is not None:
            words += f" above {self.above:g}"
        return words + (" or none" if self.optional else "")

    def parse(self, given: Any) -> Any:
        """Turn text or a value into the field's value. Raises CnnkitError in words."""
        try:
            value = self._convert(given)
            fits = value is None or self._fits(value)
        except (TypeError, ValueError, KeyError, OverflowError):
            fits = False
        if fits:
            return value
        if self.of_recipe:
            raise CnnkitError(f"recipe field {self.word} cannot be {given!r}; it takes {self.wanted}")
        listed = ", ".join(self.choices or (("true", "false") if self.kind is bool else ()))
        wanted = f"none of {listed}" if listed else f"no {self.wanted.removeprefix('a ')}"
        raise CnnkitError(f"{given!r} is {wanted}")

    def _fits(self, value: Any) -> bool:
        return (
            (not self.choices or value in self.choices)
            and (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def _convert(self, given: Any) -> Any:
        text = str(given).strip().lower()
        if self.optional and text in ("none", ""):
            return None
        if self.kind is bool:
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text]
        if self.choices:
            return text
        if self.kind in (str, Path):
            return self.kind(given)
        if isinstance(given, bool):
            raise ValueError
        if self.kind is int:
            with contextlib.suppress(ValueError):  # a float would round a number of more than 53 bits
                return int(text)
        number = float(text)
        if not math.isfinite(number) or (self.kind is int and number != int(number)):
            raise ValueError
        return int(number) if self.kind is int else number


@cache
def settings_of(declared: type) -> Mapping[str, FieldSpec]:
    """Return the fields of a dataclass that say what they are About, by name, in its order."""
    found = {}
    for name, hint in get_type_hints(declared, include_extras=True).items():
        about = next((about for about in get_args(hint)[1:] if isinstance(about, About)), None)
        if get_origin(hint) is not Annotated or about is None:
            continue
        kind = get_args(hint)[0]
        may_be_none = isinstance(kind, types.UnionType)
        if may_be_none:
            (kind,) = (a for a in get_args(kind) if a is not type(None))
        choices = get_args(kind) if get_origin(kind) is Literal else ()
        found[name] = FieldSpec(
            name=name,
            word=about.word or name.replace("_", "-"),
            kind=str if choices else kind,
            of_recipe=declared is Recipe,
            optional=declared is Recipe and may_be_none,
            choices=choices,
            help=about.help,
            low=about.low,
            high=about.high,
            below=about.below,
            tried=about.tried,
            log=about.log,
            relative=about.relative,
            above=about.above,
        )
    return found
