"""The finest partition of modules that all compared backends share: each part is one row.

A backend that fuses `Conv + BN + ReLU` joins three modules; every other backend's times of those
three are then summed. No time is split, so none is invented.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from toolkit.profiling.network.modules import Module
from toolkit.profiling.rows.claims import Claim


@dataclass(frozen=True, kw_only=True)
class Part:
    """A row before it is measured: its modules, and the indices of each backend's nodes on it.

    `kind` is `modules`, `layout` (data movement, with the module that caused it) or `unmatched`.
    """

    kind: str
    modules: tuple[Module, ...]
    nodes: Mapping[str, tuple[int, ...]]
    caused_by: str | None = None
    label: str = ""


def align(modules: Sequence[Module], claims: Mapping[str, Sequence[Claim]]) -> tuple[Part, ...]:
    """Return the rows in the order of the network; every node of every backend stands on exactly one."""
    order = {module.name: index for index, module in enumerate(modules)}
    every = list(modules)
    for backend in claims.values():
        for entry in backend:
            for name in entry.modules:
                if name not in order:
                    order[name] = len(every)
                    node = entry.node
                    every.append(Module(name=name, type=node.type, output_shape=node.output_shape))
    roots = _joined(len(every), ([order[n] for n in c.modules] for b in claims.values() for c in b))
    members: dict[int, list[int]] = {}
    for index in range(len(every)):
        members.setdefault(roots[index], []).append(index)
    held: dict[tuple[str, int | str | None, str], dict[str, list[int]]] = {}
    for backend_name, backend in claims.items():
        for index, entry in enumerate(backend):
            held.setdefault(_place(entry, order, roots), {}).setdefault(backend_name, []).append(index)
    parts = [
        Part(
            kind="modules",
            modules=tuple(every[i] for i in group),
            nodes=_frozen(held.get(("modules", root, ""), {})),
        )
        for root, group in sorted(members.items(), key=lambda item: item[1][0])
    ]
    return _with_movements(parts, held)


def _place(entry: Claim, order: Mapping[str, int], roots: Sequence[int]) -> tuple[str, int | str | None, str]:
    if entry.modules:
        return ("modules", roots[order[entry.modules[0]]], "")
    if entry.layout:
        return ("layout", entry.caused_by, entry.node.type)
    return ("unmatched", None, entry.node.name)


def _joined(count: int, groups: Iterable[Sequence[int]]) -> list[int]:
    """Return each element's representative after joining the elements of every group (union-find)."""
    parent = list(range(count))

    def find(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for group in groups:
        for other in group[1:]:
            first, second = sorted((find(group[0]), find(other)))
            parent[second] = first
    return [find(index) for index in range(count)]


def _with_movements(
    parts: list[Part], held: Mapping[tuple[str, int | str | None, str], Mapping[str, list[int]]]
) -> tuple[Part, ...]:
    """Put each layout row behind the row of the module that caused it, unmatched nodes at the end."""
    rows: list[Part] = []
    home = {module.name: index for index, part in enumerate(parts) for module in part.modules}
    movements: dict[int, list[Part]] = {}
    for (kind, cause, label), nodes in held.items():
        if kind == "modules":
            continue
        caused_by = cause if isinstance(cause, str) else None
        part = Part(kind=kind, modules=(), nodes=_frozen(nodes), caused_by=caused_by, label=label)
        movements.setdefault(home.get(caused_by or "", len(parts)), []).append(part)
    for index, part in enumerate(parts):
        rows += [part, *movements.get(index, [])]
    return (*rows, *movements.get(len(parts), []))


def _frozen(nodes: Mapping[str, list[int]]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(indices) for name, indices in nodes.items()}


def coverage(claims: Sequence[Claim]) -> float | None:
    """Return the share of executed compute nodes that stand for modules; None where no node computes.

    Data movement is not counted; a node that was only put beside its neighbour counts as unclaimed.
    """
    computing = [entry for entry in claims if not entry.layout]
    if not computing:
        return None
    return sum(entry.explained for entry in computing) / len(computing)
