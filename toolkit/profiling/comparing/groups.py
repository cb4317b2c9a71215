"""Parts of two networks brought together: names that changed, and modules that one node computes together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher

from toolkit.profiling.comparing.parts import NetworkPart

# nodes between what a fused node reads and what it writes: more are no fusion
LONGEST = 12
# operators whose weights take in those of others, and what they take in
WEIGHING = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
FOLDED = frozenset({"BatchNormalization", "Mul", "Add", "Sub", "Div", "Pad", "Identity", "Dropout"})


@dataclass(frozen=True, kw_only=True)
class PartGroup:
    """The parts of both networks that hold the same modules; a side is empty where it has none of them."""

    before: tuple[NetworkPart, ...]
    after: tuple[NetworkPart, ...]

    @property
    def fused_otherwise(self) -> bool:
        """Whether both have the modules, in other nodes."""
        sides = [{frozenset(part.modules) for part in side} for side in (self.before, self.after)]
        return bool(self.before and self.after) and sides[0] != sides[1]


def grouped(
    before: Sequence[NetworkPart], after: Sequence[NetworkPart]
) -> tuple[tuple[PartGroup, ...], Mapping[str, str]]:
    """Return the parts of two networks in groups, in the order of the first, and which names changed.

    A node that computes what several of the other network do has their modules, where the tensors that it
    reads and writes are theirs. Parts whose names the other lacks are paired by kind, shapes and order.
    """
    second = _spread(after, before)
    first = _spread(before, second)
    names = _renamed(first, second)
    back = {new: old for old, new in names.items()}
    second = [replace(part, modules=tuple(back.get(name, name) for name in part.modules)) for part in second]
    return tuple(_groups(first, second)), names


def _renamed(before: Sequence[NetworkPart], after: Sequence[NetworkPart]) -> dict[str, str]:
    """Return the new name of each part that stands in both networks under two names."""
    known = [{name for part in side for name in part.modules} for side in (before, after)]
    old = [part for part in before if not known[1] & set(part.modules)]
    new = [part for part in after if not known[0] & set(part.modules)]
    matcher = SequenceMatcher(None, [_likeness(p) for p in old], [_likeness(p) for p in new], autojunk=False)
    pairs = (
        (old[block.a + i], new[block.b + i])
        for block in matcher.get_matching_blocks()
        for i in range(block.size)
    )
    return {a.modules[0]: b.modules[0] for a, b in pairs if len(a.modules) == len(b.modules) == 1}


def _likeness(part: NetworkPart) -> tuple[object, ...]:
    """Return what two parts of other names must share to be one."""
    return part.type, part.output_shape, tuple(sorted(tensor.shape for tensor in part.weights.values()))


def _spread(parts: Iterable[NetworkPart], others: Sequence[NetworkPart]) -> list[NetworkPart]:
    """Give each node the modules of those of the other network that stand between its tensors.

    A node whose own name the other network does not know goes by theirs alone.
    """
    makers = {name: part for part in others for name in part.writes}
    known = {name for part in others for name in part.modules}
    found = []
    for part in parts:
        between = _between(part, makers)
        names = dict.fromkeys(name for one in between if _took_in(part, between) for name in one.modules)
        own = [name for name in part.modules if name in known]
        found.append(replace(part, modules=tuple(dict.fromkeys([*own, *names])) or part.modules))
    return found


def _took_in(part: NetworkPart, between: Sequence[NetworkPart]) -> bool:
    """Tell whether a node does what those do: one of the same operator takes in what folds into weights."""
    if len(between) < 2 or all(one.ops != part.ops for one in between):
        return True
    others = {op for one in between if one.ops != part.ops for op in one.ops}
    return others <= FOLDED and not set(part.ops).isdisjoint(WEIGHING)


def _between(part: NetworkPart, makers: Mapping[str, NetworkPart]) -> list[NetworkPart]:
    """Return the other network's nodes between what a node reads and writes; none if they lead elsewhere."""
    stack = [name for name in part.writes if name in makers]
    found: list[NetworkPart] = []
    while stack:
        name = stack.pop()
        if name in part.reads:
            continue
        maker = makers.get(name)
        if maker is None or len(found) >= LONGEST:
            return []
        if all(maker is not one for one in found):
            found.append(maker)
            stack += maker.reads
    return found[::-1]


def _groups(before: Sequence[NetworkPart], after: Sequence[NetworkPart]) -> Iterable[PartGroup]:
    """Yield the parts that share modules, directly or through others."""
    parent: dict[str, str] = {}

    def find(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for part in (*before, *after):
        for name in part.modules[1:]:
            parent[find(name)] = find(part.modules[0])
    sides: dict[str, tuple[list[NetworkPart], list[NetworkPart]]] = {}
    for place, parts in enumerate((before, after)):
        for part in parts:
            sides.setdefault(find(part.modules[0]), ([], []))[place].append(part)
    for first, second in sides.values():
        yield PartGroup(before=tuple(first), after=tuple(second))
