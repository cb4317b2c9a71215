"""JSON files read through typed dataclasses: a wrong value is one line with the file and the field's path.

msgspec checks types and bounds and tells a path, though not which key of a mapping is at fault, nor the
value, nor which words a field takes: those are looked up here. It drops keys that it does not know:
`unknown` keeps them for whoever writes the file again.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from toolkit.errors import CorruptError, reading
from toolkit.figures import one_line
from toolkit.traces import paired

Struct = TypeVar("Struct")
# more than 64 bits are nobody's count, and would not fit a float where a share is taken of them
_MOST = 2**63 - 1
Count = Annotated[int, Meta(ge=0, le=_MOST)]
Positive = Annotated[int, Meta(ge=1, le=_MOST)]
# seeds may be of any size: what is drawn depends on their lowest 64 bits
Seed = Annotated[int, Meta(ge=0)]
Magnitude = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
# bounds that no measurement comes near (30 years of milliseconds), so that sums and ratios stay finite
_MOST_MEASURED = 1e12
Amount = Annotated[float, Meta(ge=0, le=_MOST_MEASURED)]
Rate = Annotated[float, Meta(gt=0, le=_MOST_MEASURED)]
Signed = Annotated[float, Meta(ge=-_MOST_MEASURED, le=_MOST_MEASURED)]

_LONGEST_VALUE = 60
_FAULT = re.compile(r"(?P<reason>.*?)(?: - at (?P<key>`key` in )?`\$(?P<place>.*)`)?", re.S)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_UNNAMED = "..."  # what msgspec writes for a key of a mapping
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


def convert(
    kind: type[Struct],
    data: Any,
    *,
    what: str,
    again: str = "make it again",
    beside: str | None = None,
    finite: bool = True,
) -> Struct:
    """Return plain JSON values as a `kind`, a dataclass or a type that msgspec knows.

    `beside` names a field whose entries stand in the file beside the other keys: paths leave it out.
    Raises CorruptError in one line: `what`, the field's path, what is there and what belongs there, and
    what to do (`again`). NaN and infinite numbers, which JSON does not have, belong nowhere unless
    `finite` is off.
    """
    try:
        fault = _not_finite(data) if finite else None
        found = msgspec.convert(data, kind) if fault is None else None
    except msgspec.ValidationError as error:
        fault = _located(kind, data, error)
    if fault is None:
        return found  # type: ignore[return-value]  # it was converted
    raise CorruptError(f"{what} is damaged: {fault.words(beside)}; {again}")


def read_json(path: Path, *, again: str = "make it again") -> Any:
    """Return the JSON of a file as plain values. Raises CorruptError; FileNotFoundError as it is."""
    with reading(path):
        data = path.read_bytes()
    try:
        return json.loads(paired(data.decode(json.detect_encoding(data), "surrogatepass")))
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"{path} is damaged and no readable JSON: {error}; {again}") from None


def plain(value: Any) -> Any:
    """Turn dataclasses, paths (made absolute) and numpy numbers into JSON values; NaN becomes null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value.absolute())
    if hasattr(value, "tolist"):  # a numpy number or array
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


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


@dataclasses.dataclass(frozen=True)
class _Fault:
    """A value that does not belong where it stands; `lacks` tells that it is not there at all."""

    path: tuple[str, ...]
    value: Any = None
    belongs: str = ""
    lacks: bool = False

    def words(self, beside: str | None) -> str:
        path = one_line(".".join(name for name in self.path if name != beside))
        if self.lacks:
            return f"it lacks `{path}`"
        return f"{f'`{path}`' if path else 'it'} is {_shown(self.value)}; {self.belongs}"


def _not_finite(data: Any) -> _Fault | None:
    """Return the first number that JSON does not have; a loop, since files nest as deep as they like."""
    try:
        json.dumps(data, allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        pass  # looked for below, which takes ten times as long
    else:
        return None
    left: list[tuple[tuple[str, ...], Any]] = [((), data)]
    while left:
        path, value = left.pop()
        if isinstance(value, float) and not math.isfinite(value):
            return _Fault(path, value, "a finite number belongs there")
        if isinstance(value, Mapping):
            left += reversed([((*path, str(key)), item) for key, item in value.items()])
        elif isinstance(value, list | tuple):
            left += reversed([((*path, str(place)), item) for place, item in enumerate(value)])
    return None


def _located(kind: Any, data: Any, error: msgspec.ValidationError, path: tuple[str, ...] = ()) -> _Fault:
    """Follow msgspec's path through types and values, and find the key where it names none."""
    told = _FAULT.fullmatch(str(error))
    assert told is not None  # the expression takes any text
    for name, index in _STEP.findall(told["place"] or ""):
        step = name or index
        if step == _UNNAMED:
            return _in_mapping(kind, data, path, str(error))
        kind, path = _inside(kind, step), (*path, step)
        data = data[int(step)] if isinstance(data, list | tuple) else data[step]
    reason = told["reason"]
    if reason.startswith("Object missing required field"):
        return _Fault((*path, reason.rpartition("field ")[2].strip("`")), lacks=True)
    belongs = _belongs(reason, kind)
    return _Fault(path, data, f"{belongs} as its key" if told["key"] else belongs)


def _in_mapping(kind: Any, data: Any, path: tuple[str, ...], message: str) -> _Fault:
    inner = _inside(kind, _UNNAMED)
    for key, item in data.items() if isinstance(data, Mapping) else enumerate(data):
        try:
            msgspec.convert(item, inner)
        except msgspec.ValidationError as error:
            return _located(inner, item, error, (*path, str(key)))
    return _Fault(path, data, message)


def _parts(kind: Any) -> tuple[Any, ...]:
    """Return the members of a union, each without what it is annotated with; another type alone."""
    if get_origin(kind) is Annotated:
        return _parts(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return tuple(part for member in get_args(kind) for part in _parts(member))
    return (kind,)


def _inside(kind: Any, step: str) -> Any:
    """Return the type of a field, an item or a mapping's value."""
    for part in _parts(kind):
        args, origin = get_args(part), get_origin(part)
        if step == _UNNAMED or step.isdigit():
            if origin is tuple and args[-1] is not ...:
                return args[int(step)]
            if args and origin is not Literal:
                return args[-1] if isinstance(origin, type) and issubclass(origin, Mapping) else args[0]
        elif hasattr(part, "__annotations__"):
            hints = get_type_hints(part, include_extras=True)
            if step in hints:
                return hints[step]
    return Any


def _belongs(reason: str, kind: Any) -> str:
    """Say in words what msgspec expected: "Expected `float | null`, got `str`" or "`int` >= 1"."""
    parts = _parts(kind)
    choices = [json.dumps(word) for part in parts if get_origin(part) is Literal for word in get_args(part)]
    if choices:
        return f"{' or '.join([*choices, *(['null'] if type(None) in parts else [])])} belongs there"
    expected = re.match(r"Expected `(.+?)`(.*?)(?:, got .*)?$", reason)
    if expected is None:
        return reason[:1].lower() + reason[1:]
    words = " or ".join(_WORDS.get(word.strip(), word.strip()) for word in expected[1].split("|"))
    return f"{words}{expected[2]} belongs there"


def _shown(value: Any) -> str:
    try:
        text = one_line(json.dumps(value, ensure_ascii=False, default=str))
    except RecursionError:
        return "nested too deep"
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"
