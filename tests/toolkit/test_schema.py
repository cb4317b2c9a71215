"""JSON into dataclasses: what is wrong is named by its path, whatever it lies in, in one line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from toolkit import schema
from toolkit.errors import CorruptError
from toolkit.schema import Count, Magnitude


@dataclass(frozen=True, kw_only=True)
class Leaf:
    size: Count | None = None
    times: tuple[Magnitude, ...] = ()
    pair: tuple[str, int] = ("a", 1)
    kind: Literal["low", "high"] | None = None
    signed: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Tree:
    name: str
    leaf: Leaf = field(default_factory=Leaf)
    leaves: Mapping[str, Leaf] = field(default_factory=dict)
    rows: tuple[Mapping[str, Leaf], ...] = ()
    sizes: Mapping[str, Annotated[int, Meta(ge=1)]] = field(default_factory=dict)
    deep: Mapping[str, Mapping[str, tuple[Magnitude, ...]]] | None = None


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], "it is []; an object belongs there"),
        ({}, "it lacks `name`"),
        ({"name": 3}, "`name` is 3; text belongs there"),
        ({"name": "x", "leaf": {"size": True}}, "`leaf.size` is true; a whole number or null belongs there"),
        ({"name": "x", "leaf": {"size": -1}}, "`leaf.size` is -1; a whole number >= 0 belongs there"),
        ({"name": "x", "leaf": {"times": [1, "2"]}}, '`leaf.times.1` is "2"; a number belongs there'),
        ({"name": "x", "leaf": {"pair": ["a"]}}, '`leaf.pair` is ["a"]; a list of length 2 belongs there'),
        ({"name": "x", "leaf": {"pair": ["a", "b"]}}, '`leaf.pair.1` is "b"; a whole number belongs there'),
        ({"name": "x", "leaf": {"kind": "mid"}}, '`leaf.kind` is "mid"; "low" or "high" or null belongs'),
        ({"name": "x", "leaf": {"kind": 2}}, '`leaf.kind` is 2; "low" or "high" or null belongs there'),
        ({"name": "x", "leaves": {"a": {}, "b.c": {"size": "1"}}}, '`leaves.b.c.size` is "1"; a whole'),
        ({"name": "x", "leaves": {"a": None}}, "`leaves.a` is null; an object belongs there"),
        ({"name": "x", "rows": [{}, {"k": {"times": [-1.5]}}]}, "`rows.1.k.times.0` is -1.5; a number >= 0"),
        ({"name": "x", "sizes": {"a": 1, "b": 0}}, "`sizes.b` is 0; a whole number >= 1 belongs there"),
        ({"name": "x", "deep": {"a": {"b": [1], "c": [{}]}}}, "`deep.a.c.0` is {}; a number belongs there"),
        ({"name": "x", "leaf": {"size": 10**400}}, "`leaf.size` is 10000"),
        ({"name": "x\ny", "leaves": {"k\nl": "m\u2028"}}, '`leaves.k\\nl` is "m\\u2028"; an object belongs'),
    ],
)
def test_a_wrong_value_is_told_with_its_path_what_is_there_and_what_belongs_there(
    data: Any, said: str
) -> None:
    with pytest.raises(CorruptError) as caught:
        schema.convert(Tree, data, what="x.json", again="write it again")
    text = str(caught.value)
    assert text.startswith(f"x.json is damaged: {said}")
    assert text.endswith("; write it again")
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("place", ["leaf.times.1", "leaf.signed", "leaves.a.size", "unknown.key.0"])
def test_a_number_that_json_does_not_have_belongs_nowhere(number: str, place: str) -> None:
    data: Any = {"name": "x", "leaf": {"times": [1, 2]}, "leaves": {"a": {}}, "unknown": {"key": [1]}}
    *steps, last = place.split(".")
    at = data
    for step in steps:
        at = at[step]
    at[int(last) if isinstance(at, list) else last] = json.loads(number)
    with pytest.raises(CorruptError, match=rf"`{place}` is -?(NaN|Infinity); a finite number belongs there"):
        schema.convert(Tree, data, what="x.json")


def test_a_field_whose_entries_stand_beside_the_others_is_not_in_the_path() -> None:
    with pytest.raises(CorruptError, match=r"`a\.size` is"):
        schema.convert(Tree, {"name": "x", "leaves": {"a": {"size": "1"}}}, what="x", beside="leaves")


def test_what_is_right_is_taken_as_it_stands() -> None:
    data = {"name": "x", "leaf": {"times": [1, 2.5], "pair": ["b", 2], "kind": "low"}, "sizes": {"a": 1}}
    leaf = Leaf(times=(1, 2.5), pair=("b", 2), kind="low")
    assert schema.convert(Tree, data, what="x") == Tree(name="x", leaf=leaf, sizes={"a": 1})


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: (
    st.lists(inner) | st.dictionaries(st.text(), inner)
)), st.sampled_from(["name", "leaf", "leaves", "rows", "sizes", "deep"]))  # fmt: skip
def test_whatever_stands_in_a_field_is_read_or_refused_in_one_line(value: Any, name: str) -> None:
    try:
        schema.convert(Tree, {"name": "x", name: value}, what="x.json")
        said = f"`{name}`"
    except CorruptError as error:
        said = str(error)
    assert f"`{name}" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"{", "is damaged and no readable JSON"),
        (b"\xff\xfe\x00", "is damaged and no readable JSON"),
        (b"[" * 100_000, "is damaged and no readable JSON"),
        (b"1" * 10_000, "is damaged and no readable JSON"),
    ],
)
def test_a_file_that_is_no_json_is_refused_in_one_line(text: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(text)
    with pytest.raises(CorruptError, match=said) as caught:
        schema.read_json(path)
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(CorruptError, match="cannot be read"):
        schema.read_json(tmp_path)
    with pytest.raises(FileNotFoundError):
        schema.read_json(tmp_path / "absent.json")


def test_keys_that_no_field_names_are_kept_in_their_places() -> None:
    data = {"name": "x", "new": 1, "leaf": {"size": 3, "newer": [2]}, "leaves": {"a": {}}}
    found = schema.convert(Tree, data, what="x")
    kept = schema.unknown(found, data)
    assert kept == {"new": 1, "leaf": {"newer": [2]}}
    assert schema.merged({"name": "y", "leaf": {"size": 4}}, kept) == {
        "name": "y", "leaf": {"size": 4, "newer": [2]}, "new": 1,
    }  # fmt: skip


def test_plain_turns_everything_into_json_values() -> None:
    @dataclass
    class Point:
        where: Path
        value: float

    made = schema.plain(
        {"p": Point(where=Path("x"), value=float("nan")), "n": np.float32(0.5), "a": np.arange(2)}
    )
    assert made == {"p": {"where": str(Path("x").absolute()), "value": None}, "n": 0.5, "a": [0, 1]}
