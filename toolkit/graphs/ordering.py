"""The order and the names of a graph's nodes, as ONNX asks for both and many exporters keep neither."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from toolkit.errors import CnnkitError


def inner_graphs(node: Any) -> Iterator[Any]:
    """Yield the graphs inside a node: the branches of an If, the body of a Loop."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def reads_of(node: Any) -> set[str]:
    """Return every value of the graph around it that a node reads, those of its inner graphs included."""
    found = {name for name in node.input if name}
    for graph in inner_graphs(node):
        own = {value.name for value in (*graph.input, *graph.initializer)}
        own |= {name for inner in graph.node for name in inner.output}
        read = {value.name for value in graph.output}.union(*(reads_of(inner) for inner in graph.node))
        found |= read - own
    return found


def rename_in_node(node: Any, new: Callable[[str], str]) -> None:
    """Rename what a node reads and makes, in place, and what its inner graphs read of the graph around it."""
    node.input[:] = [new(name) for name in node.input]
    node.output[:] = [new(name) for name in node.output]
    for graph in inner_graphs(node):
        own = {value.name for value in (*graph.input, *graph.initializer)}
        own |= {name for inner in graph.node for name in inner.output}

        def outer(name: str, own: set[str] = own) -> str:
            return name if name in own else new(name)

        for inner in graph.node:
            rename_in_node(inner, outer)
        for value in graph.output:
            value.name = outer(value.name)


def replace_nodes(graph: Any, nodes: list[Any]) -> None:
    """Make `nodes` the nodes of a graph; they may be its own."""
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def sort_nodes(model: Any) -> None:
    """Order a graph's nodes so that each comes after what it reads; ready nodes keep their order.

    Raises CnnkitError for a cycle, and for a value that nothing makes.
    """
    graph = model.graph
    ready = {"", *(value.name for value in graph.input), *(tensor.name for tensor in graph.initializer)}
    waiting = [(node, reads_of(node)) for node in graph.node]
    ordered: list[Any] = []
    while waiting:
        later = []
        for node, reads in waiting:
            if reads <= ready:
                ordered.append(node)
                ready.update(node.output)
            else:
                later.append((node, reads))
        if len(later) == len(waiting):
            raise _endless(later, ready)
        waiting = later
    if any(one is not other for one, other in zip(ordered, graph.node, strict=True)):
        replace_nodes(graph, ordered)


def _endless(waiting: list[tuple[Any, set[str]]], ready: set[str]) -> CnnkitError:
    made = {name for node, _ in waiting for name in node.output}
    for node, reads in waiting:
        lacking = sorted(reads - ready - made)
        if lacking:
            return CnnkitError(
                f"the ONNX graph is not whole: the node {node.name or node.op_type!r} reads {lacking[0]!r}, "
                "which no node makes and no weight is; write the file again"
            )
    node = waiting[0][0]
    return CnnkitError(f"the ONNX graph goes in a circle at the node {node.name or node.op_type!r}")


def name_missing(model: Any) -> int:
    """Give a name to each node that has none, or that has another node's; return how many got one."""
    taken: set[str] = set()
    given = 0
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in taken:
            base = (node.output[0] if node.output else "") or str(index)
            name = f"{base}/{node.op_type}"
            node.name = name if name not in taken else f"{name}_{index}"
            given += 1
        taken.add(node.name)
    return given
