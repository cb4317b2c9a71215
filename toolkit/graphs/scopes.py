"""Modules of a graph that torch's own exporter wrote, from the scopes that it notes on each node.

`pkg.torch.onnx.name_scopes` lists the modules around an operation, the root first, and last the operation's
own name (`['', 'block', 'block.0', 'conv2d_1']`); `pkg.torch.onnx.class_hierarchy` their classes. A module
that is around no other one is a layer; what a container computes itself is `<its path>/<operation>`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

SCOPES, CLASSES = "pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy"
# how a layer's tensors are called behind its path
HELD = ("weight", "bias")


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Where an operation stood: the paths of the modules around it, their last class, and the operation."""

    paths: tuple[str, ...]
    kind: str
    traced: str
    operation: str


@dataclass(frozen=True, kw_only=True)
class ScopedNode:
    """The modules of a node, and the class of the first of them where it is told."""

    modules: tuple[str, ...]
    type: str | None


@dataclass
class _Calls:
    """Calls of one module so far: the operations of the current one, and how each was called when traced."""

    count: int = 1
    seen: dict[str, str] = field(default_factory=dict)


def scoped_nodes(graph: Any) -> dict[str, ScopedNode]:
    """Return the modules of each node that has scopes, by the node's name; the nodes are in order."""
    scopes = {node.name: scope for node in graph.node if (scope := _scope(node)) is not None}
    around = {path for scope in scopes.values() for path in scope.paths[:-1]}
    layers = {scope.paths[-1] for scope in scopes.values()} - around - {""}
    weights = {tensor.name for tensor in graph.initializer}
    calls: dict[str, _Calls] = {}
    found = {}
    for node in graph.node:
        scope = scopes.get(node.name)
        if scope is None:
            continue
        path = scope.paths[-1]
        base = path if path in layers else f"{path}/{scope.operation}"
        own = _numbered(base, scope, calls)
        # the exporter folds a norm into the convolution before it, and notes the norm's scope on that
        folded = [held for held in _holders(node, weights) if held != path and path in layers]
        kind = None if folded else scope.kind if path in layers else scope.operation
        found[node.name] = ScopedNode(modules=(*folded[:1], own), type=kind)
    return found


def _scope(node: Any) -> Scope | None:
    """Return what the exporter noted on a node; None where it noted nothing that can be read."""
    told: Mapping[str, str] = {entry.key: entry.value for entry in node.metadata_props}
    try:
        names = ast.literal_eval(told.get(SCOPES, "[]"))
        kinds = ast.literal_eval(told.get(CLASSES, "[]"))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if not _texts(names) or not _texts(kinds) or len(names) < 2:
        return None
    kind = kinds[-2].rpartition(".")[2] if len(kinds) >= 2 else node.op_type
    parts = kinds[-1].split(".") if kinds else []
    operation = parts[1].strip("_") if len(parts) > 1 else node.op_type
    return Scope(paths=tuple(names[:-1]), kind=kind, traced=names[-1], operation=operation)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


def _numbered(base: str, scope: Scope, calls: dict[str, _Calls]) -> str:
    """Return the module with the number of its call: an operation that comes again begins the next one."""
    own = calls.setdefault(base, _Calls())
    known = own.seen.get(scope.operation)
    if known is not None and known != scope.traced:
        own.count, own.seen = own.count + 1, {}
    own.seen.setdefault(scope.operation, scope.traced)
    return base if own.count == 1 else f"{base}#{own.count}"


def _holders(node: Any, weights: set[str]) -> Iterator[str]:
    """Yield the paths of the modules whose weights a node reads, by the weights' names."""
    for name in node.input:
        path, dot, kind = name.rpartition(".")
        if dot and kind in HELD and name in weights:
            yield path
