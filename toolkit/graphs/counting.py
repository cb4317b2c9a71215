"""An ONNX graph as the profiler's source: nodes with modules, shapes at one batch, weights, multiply-adds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from toolkit.errors import CorruptError
from toolkit.graphs.naming import MODULES, TYPE
from toolkit.graphs.products import multiply_adds, precision_of
from toolkit.graphs.reading import load_graph
from toolkit.graphs.weights import weights_as_inputs
from toolkit.passports import Precision

# they convert between number formats and belong to no layer of a network
CONVERSIONS = frozenset({"QuantizeLinear", "DequantizeLinear", "Cast"})


@dataclass(frozen=True, kw_only=True)
class SourceNode:
    """One node. `modules` is empty for a node that only converts or moves data."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    modules: tuple[str, ...]
    type: str
    domain: str = ""
    output_shape: tuple[int, ...] | None = None
    output_bytes: int | None = None
    parameters: int = 0
    weights_bytes: int = 0
    macs: int | None = None


@dataclass(frozen=True, kw_only=True)
class SourceGraph:
    """Nodes in the order of the file; sizes of tensors in bytes where shape inference knows them."""

    nodes: tuple[SourceNode, ...]
    inputs: Mapping[str, tuple[str, tuple[int | None, ...]]]
    outputs: tuple[str, ...]
    constants: frozenset[str]
    tensor_bytes: Mapping[str, int] = field(default_factory=dict)
    precision: Precision = "fp32"
    renamed: bytes | None = None
    notes: tuple[str, ...] = ()

    def producers(self) -> dict[str, int]:
        """Return the index of the node that makes each tensor."""
        return {name: i for i, node in enumerate(self.nodes) for name in node.outputs}

    def readers(self) -> dict[str, list[int]]:
        """Return the indices of the nodes that read each tensor."""
        found: dict[str, list[int]] = {}
        for index, node in enumerate(self.nodes):
            for name in node.inputs:
                found.setdefault(name, []).append(index)
        return found


def count_graph(path: Path, *, batch: int) -> SourceGraph:
    """Read an ONNX file at one batch size. Raises CorruptError, MissingExtraError.

    A file whose nodes have no names, or names that are not unique, is given names (`Conv_3`);
    `renamed` then holds the graph that is to be run in its place.
    """
    model = load_graph(path)
    if not model.graph.node:
        raise CorruptError(f"{path} is no usable ONNX model: its graph has no nodes")
    renamed = _name_nodes(model)
    types, notes = _inferred(model, batch)
    constants = _constants(model)
    computing = _fold(model, types, constants)
    shapes = {name: kind.shape for name, kind in types.items()}
    return SourceGraph(
        nodes=tuple(_node(node, types, shapes, constants) for node in computing),
        inputs=_inputs(model),
        outputs=tuple(value.name for value in model.graph.output),
        constants=frozenset(constants),
        tensor_bytes={name: size for name, t in types.items() if (size := _bytes(t)) is not None},
        precision=precision_of(model),
        renamed=model.SerializeToString() if renamed else None,
        notes=notes,
    )


@dataclass(frozen=True)
class _Type:
    shape: tuple[int, ...] | None
    item_bytes: int | None


def _name_nodes(model: Any) -> bool:
    names = [node.name for node in model.graph.node]
    if all(names) and len(set(names)) == len(names):
        return False
    taken: set[str] = set()
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.name or node.op_type}_{index}"
        taken.add(node.name)
    return True


def _inputs(model: Any) -> dict[str, tuple[str, tuple[int | None, ...]]]:
    """Return each input's dtype (numpy's name) and shape, None where an extent is free."""
    import onnx

    constants = {tensor.name for tensor in model.graph.initializer}
    found = {}
    for value in [value for value in model.graph.input if value.name not in constants]:
        tensor = value.type.tensor_type
        if not value.type.HasField("tensor_type"):
            raise CorruptError(f"the input {value.name!r} is no tensor; the profiler feeds tensors only")
        dtype = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        dims = tensor.shape.dim if tensor.HasField("shape") else ()
        found[value.name] = (dtype, tuple(d.dim_value if d.dim_value > 0 else None for d in dims))
    return found


def _constants(model: Any) -> dict[str, tuple[int, int]]:
    """Return elements and bytes of every constant: initializers and the outputs of Constant nodes."""
    import onnx

    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            value = next((a.t for a in node.attribute if a.name == "value"), None)
            tensors[node.output[0]] = value
    sizes = {}
    for name, tensor in tensors.items():
        count = 1 if tensor is None else int(prod(tensor.dims))
        kind = onnx.TensorProto.FLOAT if tensor is None else tensor.data_type
        sizes[name] = (count, count * onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize)
    return sizes


def _fold(model: Any, types: Mapping[str, _Type], constants: dict[str, tuple[int, int]]) -> list[Any]:
    """Return the nodes that depend on an input; what only depends on constants is one itself."""
    kept = []
    for node in model.graph.node:
        read = [name for name in node.input if name]
        subgraphs = any(a.HasField("g") or a.graphs for a in node.attribute)
        if subgraphs or any(name not in constants for name in read) or node.op_type.startswith("Random"):
            kept.append(node)
        else:
            kinds = {name: types.get(name) for name in node.output if name not in constants}
            constants.update({name: (_count(kind) or 0, _bytes(kind) or 0) for name, kind in kinds.items()})
    return kept


def _inferred(model: Any, batch: int) -> tuple[dict[str, _Type], tuple[str, ...]]:
    """Infer every tensor's shape on a copy without the weights; what fails is said, not raised."""
    import onnx

    light = weights_as_inputs(model)
    del light.graph.value_info[:]  # they hold for the batch that the file was written with
    constants = {tensor.name for tensor in model.graph.initializer}
    for value in light.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name not in constants and len(dims) and not dims[0].dim_value:
            dims[0].dim_value = batch
    notes: tuple[str, ...] = ()
    try:
        light = onnx.shape_inference.infer_shapes(light)
    except Exception as error:  # a custom operator or a wrong declaration; shapes then stay unknown
        notes = (f"shapes could not be inferred: {str(error).splitlines()[0]}",)
    values = (*light.graph.input, *light.graph.value_info, *light.graph.output)
    return {value.name: _type(value) for value in values}, notes


def _type(value: Any) -> _Type:
    import onnx

    tensor = value.type.tensor_type
    dims = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
    known_dims = tuple(extent for extent in dims if extent is not None)
    shape = known_dims if tensor.HasField("shape") and len(known_dims) == len(dims) else None
    known = tensor.elem_type != onnx.TensorProto.UNDEFINED
    size = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize if known else None
    return _Type(shape, size)


def _bytes(kind: _Type | None) -> int | None:
    if kind is None or kind.shape is None or kind.item_bytes is None:
        return None
    return int(prod(kind.shape)) * kind.item_bytes


def _node(
    node: Any,
    types: Mapping[str, _Type],
    shapes: Mapping[str, tuple[int, ...] | None],
    constants: Mapping[str, tuple[int, int]],
) -> SourceNode:
    outputs = tuple(name for name in node.output if name)
    kind = types.get(outputs[0]) if outputs else None
    held = [constants[name] for name in dict.fromkeys(node.input) if name in constants]
    carried = {entry.key: entry.value for entry in node.metadata_props}
    sizes = [_bytes(types.get(name)) for name in outputs]
    return SourceNode(
        name=node.name,
        op=node.op_type,
        domain=node.domain,
        inputs=tuple(name for name in node.input if name),
        outputs=outputs,
        modules=_modules(node, carried),
        type=carried.get(TYPE, node.op_type),
        output_shape=kind.shape if kind else None,
        output_bytes=None if None in sizes else sum(size or 0 for size in sizes),
        parameters=sum(count for count, _ in held),
        weights_bytes=sum(size for _, size in held),
        macs=multiply_adds(node, shapes, constants),
    )


def _modules(node: Any, carried: Mapping[str, str]) -> tuple[str, ...]:
    if MODULES in carried:
        return tuple(str(name) for name in json.loads(carried[MODULES]))
    return () if node.op_type in CONVERSIONS else (str(node.name),)


def _count(kind: _Type | None) -> int | None:
    return None if kind is None or kind.shape is None else int(prod(kind.shape))
