"""Which tensors each module of a graph reads and writes: what a group of modules moves follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from toolkit.graphs.counting import CONVERSIONS, SourceGraph, SourceNode

# they give the same memory another shape; a node that only converts passes its tensor on as well
VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"})


@dataclass(frozen=True, kw_only=True)
class Flow:
    """The tensors that a module reads and those of its own that others read, in bytes; None is unknown.

    A tensor behind a view or a conversion is the one before it. `answers` tells whether one that it writes
    is an output of the graph, or read by what belongs to no module.
    """

    reads: Mapping[str, int | None]
    writes: Mapping[str, int | None]
    answers: bool = False


EMPTY = Flow(reads={}, writes={})


def flows(graph: SourceGraph) -> dict[str, Flow]:
    """Return the flow of each module that a graph names; a node of several counts for the first of them."""
    before = _before(graph)
    reads: dict[str, dict[str, int | None]] = {}
    writes: dict[str, dict[str, int | None]] = {}
    readers: dict[str, set[str]] = {}
    outside = {before.get(name, name) for name in graph.outputs}
    for node in graph.nodes:
        for name in node.modules:
            reads.setdefault(name, {})
            writes.setdefault(name, {})
        if _passes_on(node):
            continue
        read = [before.get(t, t) for t in node.inputs if t not in graph.constants]
        if not node.modules:
            outside.update(read)
            continue
        owner = node.modules[0]
        for tensor in read:
            readers.setdefault(tensor, set()).add(owner)
            reads[owner][tensor] = graph.tensor_bytes.get(tensor)
        writes[owner].update({tensor: graph.tensor_bytes.get(tensor) for tensor in node.outputs})
    return {
        name: Flow(
            reads={t: size for t, size in reads[name].items() if t not in own},
            writes={t: size for t, size in own.items() if t in outside or readers.get(t, set()) - {name}},
            answers=bool(outside & own.keys()),
        )
        for name, own in writes.items()
    }


def _before(graph: SourceGraph) -> dict[str, str]:
    """Return the tensor whose values each view and each converted one holds."""
    found: dict[str, str] = {}
    for node in graph.nodes:
        given = next((t for t in node.inputs if t not in graph.constants), None)
        if _passes_on(node) and given is not None and node.outputs:
            found[node.outputs[0]] = found.get(given, given)
    return found


def _passes_on(node: SourceNode) -> bool:
    return node.op in VIEWS or (node.op in CONVERSIONS and not node.modules)
