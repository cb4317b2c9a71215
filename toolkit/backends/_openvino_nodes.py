"""OpenVINO's layers as executed nodes between tensors of the source graph, which it names no more.

The graph as OpenVINO read it still knows each operation's tensors. A layer that was fused of several
operations writes what the last of them wrote. Where that is one that OpenVINO made up (`Multiply_3953`,
what is left of a batch norm), the tensor is the one that the layer behind it was to read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from toolkit.backends._openvino_layers import BODIES, CONSTANT, INPUT, MOVES, Layer
from toolkit.traces import ExecutedNode

Port = tuple[str, int]


@dataclass(frozen=True, kw_only=True)
class ReadOperation:
    """One operation of the graph as it was read: names of the tensors at each output, and at each input."""

    outputs: tuple[tuple[str, ...], ...]
    inputs: tuple[tuple[str, ...], ...]


Operations = Mapping[str, ReadOperation]


def read_operations(model: Any) -> dict[str, ReadOperation]:
    """Return the operations of a graph by name; constants' tensors are left out of their inputs."""
    found = {}
    for node in model.get_ordered_ops():
        sources = [port.get_source_output() for port in node.inputs()]
        found[str(node.get_friendly_name())] = ReadOperation(
            outputs=tuple(_names(port) for port in node.outputs()),
            inputs=tuple(_names(one) for one in sources if one.get_node().get_type_name() != "Constant"),
        )
    return found


def _names(port: Any) -> tuple[str, ...]:
    return tuple(sorted(str(name) for name in port.get_names()))


def executed_nodes(layers: Sequence[Layer], operations: Operations) -> tuple[ExecutedNode, ...]:
    """Return the layers that compute as nodes, in their order, with the tensors that they read and write."""
    tensors = _tensors(layers, operations)
    weights = {layer.name: layer.sizes[0] for layer in layers if layer.kind == CONSTANT}
    constant = {layer.name for layer in layers if layer.constant}
    readers = {name: layer.name for layer in reversed(layers) if layer.computes for name, _ in layer.inputs}
    return tuple(
        ExecutedNode(
            name=layer.name,
            type=layer.kind,
            inputs=tuple(name for port in layer.inputs if port[0] not in constant for name in tensors[port]),
            outputs=tuple(name for port in _ports(layer) for name in tensors[port]),
            moves_data=layer.kind in MOVES,
            output_shape=layer.shape,
            output_dtype=layer.dtype,
            output_bytes=None if None in layer.sizes else sum(size or 0 for size in layer.sizes),
            output_sizes=_output_sizes(layer, tensors),
            weights_bytes=_weights(layer, weights, readers),
        )
        for layer in layers
        if layer.computes
    )


def _weights(layer: Layer, weights: Mapping[str, int | None], readers: Mapping[str, str]) -> int | None:
    """Return the bytes of the constants that a layer is the first to read; None where bodies hide theirs."""
    read = dict.fromkeys(name for name, _ in layer.inputs)
    own = [weights[name] for name in read if name in weights and readers[name] == layer.name]
    return None if None in own or layer.kind in BODIES else sum(size or 0 for size in own)


def _output_sizes(layer: Layer, tensors: Mapping[Port, Sequence[str]]) -> tuple[int, ...]:
    """Return the bytes of each name of a layer's outputs, a tensor of several names under its first."""
    names = [tensors[port] for port in _ports(layer)]
    if None in layer.sizes or not all(names):
        return ()
    return tuple(
        (size or 0) if at == 0 else 0
        for size, own in zip(layer.sizes, names, strict=True)
        for at, _ in enumerate(own)
    )


def _ports(layer: Layer) -> list[Port]:
    return [(layer.name, index) for index in range(len(layer.sizes))]


def _tensors(layers: Sequence[Layer], operations: Operations) -> dict[Port, tuple[str, ...]]:
    """Return the source's names of what is at every output; one of the layer's own where there is none."""
    found: dict[Port, tuple[str, ...]] = {}
    for layer in layers:
        known = operations.get(layer.name if layer.kind == INPUT else next(reversed(layer.origins), ""))
        for name, index in _ports(layer):
            found[name, index] = known.outputs[index] if known and index < len(known.outputs) else ()
    readers = _readers(layers)
    for layer in layers:
        for port in _ports(layer):
            if not found[port] and layer.computes and layer.kind not in MOVES:
                found[port] = _awaited(readers.get(port, []), operations, found)
    return {port: names or (f"{port[0]}:{port[1]}",) for port, names in found.items()}


def _readers(layers: Sequence[Layer]) -> dict[Port, list[Layer]]:
    """Return who reads each output, also through layers that only move it."""
    found: dict[Port, list[Layer]] = {}
    for layer in reversed(layers):
        behind = found.get((layer.name, 0), []) if layer.kind in MOVES else [layer]
        for port in layer.inputs:
            found.setdefault(port, []).extend(behind)
    return found


def _awaited(
    readers: Sequence[Layer], operations: Operations, found: Mapping[Port, tuple[str, ...]]
) -> tuple[str, ...]:
    """Return the tensor that a reader was to read and that nothing writes; none where that is not clear."""
    written = {name for names in found.values() for name in names}
    for layer in readers:
        first = next((operations[name] for name in layer.origins if name in operations), None)
        missing = {names for names in (first.inputs if first else ()) if names and not written & set(names)}
        if len(missing) == 1:
            return missing.pop()
    return ()
