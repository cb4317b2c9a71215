"""JSON files read through typed dataclasses: a wrong value is one line with the file and the field's path.

msgspec checks types and bounds and tells path and type; the value that is there is looked up here. It
drops keys that it does not know: `unknown` keeps them for whoever writes the file again.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from toolkit.errors import CorruptError

Struct = TypeVar("Struct")

_LONGEST_VALUE = 60
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+|\.\.\.)\]")
# msgspec's names of types, as people call them
_WORDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "null",
    "array": "a list",
    "object": "an object",
}


def convert(kind: type[Struct], data: Any, *, what: str, again: str = "make it again") -> Struct:
    """Return plain JSON values as a `kind`, a dataclass or a type that msgspec knows.

    Raises CorruptError in one line: `what`, the field's path, what is there and what belongs there, and
    what to do (`again`).
    """
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise CorruptError(f"{what} is damaged: {_words(str(error), data)}; {again}") from None


def read_json(path: Path, *, again: str = "make it again") -> Any:
    """Return the JSON of a file as plain values. Raises CorruptError; FileNotFoundError as it is."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CorruptError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"{path} is damaged: {error}; {again}") from None


def unknown(kind: Any, data: Any) -> dict[str, Any]:
    """Return the parts of JSON values that a dataclass has no field for, nested as they stand there."""
    if not isinstance(data, Mapping) or not dataclasses.is_dataclass(kind):
        return {}
    own = {f.name: getattr(kind, f.name) for f in dataclasses.fields(kind)}
    found: dict[str, Any] = {}
    for key, value in data.items():
        if key not in own:
            found[key] = value
        elif inner := unknown(own[key], value):
            found[key] = inner
    return found


def merged(data: Mapping[str, Any], kept: Mapping[str, Any]) -> dict[str, Any]:
    """Return JSON values with those that `unknown` kept put back in their places."""
    found = dict(data)
    for key, value in kept.items():
        known = found.get(key)
        both = isinstance(known, Mapping) and isinstance(value, Mapping)
        found[key] = merged(known, value) if both and known is not None else found.get(key, value)
    return found


def _words(message: str, data: Any) -> str:
    """Turn msgspec's "Expected `float | null`, got `str` - at `$.metrics.x`" into words with the value."""
    reason, _, place = message.partition(" - at `")
    steps = _STEP.findall(place.removesuffix("`").removeprefix("$"))
    names = [name or index for name, index in steps]
    path = ".".join(names)
    if reason.startswith("Object missing required field"):
        field = reason.rpartition("field ")[2].strip("`")
        return f"it lacks `{'.'.join([*names, field])}`"
    expected = re.match(r"Expected (.+?)(?:, got .*)?$", reason)
    belongs = _belongs(expected[1]) if expected else reason[:1].lower() + reason[1:]
    there = _shown(_value(data, names))
    return f"`{path}` is {there}; {belongs}" if path else f"it is {there}; {belongs}"


def _belongs(expected: str) -> str:
    """Say in words what msgspec expected: "`float | null`" or "`int` >= 1"."""
    kinds, _, bound = expected.strip().removeprefix("`").partition("`")
    words = " or ".join(_WORDS.get(kind.strip(), kind.strip()) for kind in kinds.split("|"))
    return f"{words}{bound} belongs there"


def _value(data: Any, names: list[str]) -> Any:
    for name in names:
        if isinstance(data, Mapping) and name in data:
            data = data[name]
        elif isinstance(data, list) and name.isdigit() and int(name) < len(data):
            data = data[int(name)]
        elif isinstance(data, Mapping | list):
            # msgspec writes `[...]` for a key or an item that it does not name
            return ...
    return data


def _shown(value: Any) -> str:
    if value is ...:
        return "not what belongs there"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"
