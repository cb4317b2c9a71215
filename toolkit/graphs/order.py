"""Nodes in an order that can be executed, which ONNX asks for and its own tools do not keep."""

from __future__ import annotations

from typing import Any

from toolkit.errors import CnnkitError


def sort_nodes(model: Any) -> None:
    """Order a graph's nodes so that each comes after what it reads; ready nodes keep their order."""
    graph = model.graph
    ready = {"", *(value.name for value in graph.input), *(tensor.name for tensor in graph.initializer)}
    waiting = list(graph.node)
    ordered: list[Any] = []
    while waiting:
        later = []
        for node in waiting:
            if all(name in ready for name in node.input):
                ordered.append(node)
                ready.update(node.output)
            else:
                later.append(node)
        if len(later) == len(waiting):
            raise CnnkitError(f"the ONNX graph has a cycle or a missing value at node {later[0].name!r}")
        waiting = later
    copies = [type(node).FromString(node.SerializeToString()) for node in ordered]
    del graph.node[:]
    graph.node.extend(copies)
