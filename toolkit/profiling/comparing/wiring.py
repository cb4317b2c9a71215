"""Where parts of two networks have their inputs from: the same parts in another order answer otherwise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest

from toolkit.figures import names_text
from toolkit.profiling.comparing.groups import PartGroup
from toolkit.profiling.comparing.parts import NetworkPart, ReadNetwork

# operators whose inputs may change places, as graphs and as torch call them
SYMMETRIC = frozenset(
    {
        *("Add", "Mul", "Max", "Min", "Sum", "Mean", "And", "Or", "Xor", "Equal"),
        *("add", "mul", "maximum", "minimum", "logical_and", "logical_or", "logical_xor", "eq"),
    }
)
Key = frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Rewiring:
    """A part, or an answer of the network, that has its values from elsewhere in the other network."""

    what: str
    before: str
    after: str


@dataclass(frozen=True, order=True)
class _Origin:
    """What makes a value; `node` is counted from the part's last one, and `output` in that node."""

    label: str
    node: int = 0
    output: int = 0

    def __str__(self) -> str:
        told = f"{self.label}, output {self.output + 1}" if self.output else self.label
        return f"{told}, {self.node} before its last node" if self.node else told


NOTHING = _Origin("a constant")


@dataclass(frozen=True)
class _Maker:
    """The part that makes a value, and where in it; `key` is None of one that the other network lacks."""

    part: NetworkPart
    key: Key | None
    label: str
    place: tuple[int, int]


def rewired(groups: Sequence[PartGroup], first: ReadNetwork, second: ReadNetwork) -> Iterator[Rewiring]:
    """Yield what both networks have and feed from other parts, or in another order.

    A part that one network has alone is passed over where it has one input, and so is what cannot be told:
    such networks differ anyway. Nothing is told of networks of two dialects, whose values are not the same.
    """
    if first.dialect != second.dialect:
        return
    given = frozenset(first.given) & frozenset(second.given)
    sides = [_Side(groups, place, given) for place in (0, 1)]
    shared = sides[0].alone.keys() & sides[1].alone.keys()
    for side in sides:
        side.placed = shared
    for key in sides[0].alone:
        if key in shared:
            yield from _of_part(sides[0], sides[1], key)
    for name, value in first.answers.items():
        made, other = sides[0].origin(value), sides[1].origin(second.answers.get(name, ""))
        if made is not None and other is not None and made != other:
            yield Rewiring(what=f"output {name}", before=f"made by {made}", after=f"made by {other}")


class _Side:
    """One network: its parts by their modules, and what makes each of its values."""

    def __init__(self, groups: Sequence[PartGroup], place: int, given: frozenset[str]) -> None:
        self._groups, self._place, self._given = groups, place, given
        self.placed: Set[Key] = frozenset()  # parts whose nodes and outputs both sides count alike

    def _own(self, group: PartGroup) -> tuple[NetworkPart, ...]:
        return (group.before, group.after)[self._place]

    @cached_property
    def alone(self) -> Mapping[Key, NetworkPart]:
        """The parts that both have in the same nodes, each the only one of its modules."""
        found: dict[Key, list[NetworkPart]] = {}
        for group in self._groups:
            if group.before and group.after and not group.fused_otherwise:
                for part in self._own(group):
                    found.setdefault(frozenset(part.modules), []).append(part)
        return {key: parts[0] for key, parts in found.items() if len(parts) == 1}

    @cached_property
    def _makers(self) -> Mapping[str, _Maker]:
        found: dict[str, _Maker] = {}
        for group in self._groups:
            whole = tuple(dict.fromkeys(n for one in (*group.before, *group.after) for n in one.modules))
            for part in self._own(group):
                # told in one order, in whichever each side has them
                own = whole if group.fused_otherwise else tuple(n for n in whole if n in part.modules)
                key = frozenset(own) if group.before and group.after else None
                for node, made in enumerate(reversed(part.makes)):
                    makers = (_Maker(part, key, names_text(own), (node, place)) for place in range(len(made)))
                    found |= {name: maker for name, maker in zip(made, makers, strict=True) if name}
        return found

    def origin(self, value: str) -> _Origin | None:
        """Return what makes a value that both networks know; None where that cannot be told."""
        while (maker := self._makers.get(value)) is not None:
            if maker.key is not None:
                return _Origin(maker.label, *(maker.place if maker.key in self.placed else ()))
            own = {name for made in maker.part.makes for name in made}
            read = {name for taken in maker.part.takes for name in taken if name} - own
            if len(read) != 1:
                return None
            (value,) = read
        return _Origin(value) if value in self._given else None


def _of_part(first: _Side, second: _Side, key: Key) -> Iterator[Rewiring]:
    part, other = first.alone[key], second.alone[key]
    kinds = [side.ops or (side.type,) * len(side.takes) for side in (part, other)]
    if kinds[0] != kinds[1]:
        return  # of another type altogether, which is told
    for op, taken, others in zip(kinds[0], part.takes, other.takes, strict=True):
        origins = [
            (_given(first, name), _given(second, another))
            for name, another in zip_longest(taken, others, fillvalue="")
        ]
        told = [(one, another) for one, another in origins if one is not None and another is not None]
        if op in SYMMETRIC:
            told = _unordered(told) if len(told) == len(origins) else []
        apart = [(str(one), str(another)) for one, another in told if one != another]
        if apart:
            before, after = (f"reads {', '.join(column)}" for column in zip(*apart, strict=True))
            yield Rewiring(what=names_text(part.modules), before=before, after=after)
            return


def _unordered(pairs: Sequence[tuple[_Origin, _Origin]]) -> list[tuple[_Origin, _Origin]]:
    """Return in pairs what each side has that the other has not, however often."""
    sides = [Counter(one for one, _ in pairs), Counter(other for _, other in pairs)]
    own, others = (sorted((sides[i] - sides[1 - i]).elements()) for i in (0, 1))
    return list(zip(own, others, strict=True))


def _given(side: _Side, value: str) -> _Origin | None:
    return side.origin(value) if value else NOTHING
