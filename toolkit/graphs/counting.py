"""An ONNX graph as the profiler's source: nodes with modules, shapes at one batch, weights, multiply-adds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

from toolkit.errors import CorruptError
from toolkit.graphs.ends import open_batch
from toolkit.graphs.naming import MODULES, TYPE
from toolkit.graphs.ordering import inner_graphs, reads_of
from toolkit.graphs.products import KnownSizes, Products, precision_of, products, shape_of, whole_numbers
from toolkit.graphs.reading import load_graph
from toolkit.graphs.scopes import ScopedNode, scoped_nodes
from toolkit.graphs.weights import weights_as_inputs
from toolkit.passports import Precision

# they convert between number formats and belong to no layer of a network
CONVERSIONS = frozenset({"QuantizeLinear", "DequantizeLinear", "Cast"})


@dataclass(frozen=True, kw_only=True)
class SourceNode:
    """One node. `modules` is empty for a node that only converts or moves data.

    `inputs` are also what the bodies of an If or a Loop read around them. `parameters` and `weights_bytes`
    are those of bodies too, and of each constant only on the first node that reads it. `uncounted` says why
    `macs` is None.
    """

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
    uncounted: str | None = None


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
    renamed = name_nodes(model, path)
    found = count_model(model, batch=batch)
    return replace(found, renamed=model.SerializeToString()) if renamed else found


def count_model(model: Any, *, batch: int) -> SourceGraph:
    """Count an onnx.ModelProto in memory whose nodes have names of their own."""
    light, notes = _inferred(model, batch)
    types = {one.name: _type(one) for one in (*light.input, *light.value_info, *light.output)}
    # inference writes shapes into bodies, too
    bodies = {node.name: node for node in light.node if _has_body(node)}
    constants = _constants(model.graph)
    computing = _fold(model, types, constants)
    sizes = KnownSizes(
        shapes={name: kind.shape for name, kind in types.items()},
        counts={name: one.elements for name, one in constants.items()},
        numbers=whole_numbers(model.graph, {}),
    )
    work = {node.name: products(bodies.get(node.name, node), sizes) for node in computing}
    held: set[str] = set()  # what a node before has counted
    scoped = scoped_nodes(model.graph)
    return SourceGraph(
        nodes=tuple(
            _placed(_node(node, types, work[node.name], constants, held), scoped) for node in computing
        ),
        inputs=_inputs(model),
        outputs=tuple(value.name for value in model.graph.output),
        constants=frozenset(constants),
        tensor_bytes={name: size for name, t in types.items() if (size := _bytes(t)) is not None},
        precision=precision_of(model),
        notes=notes,
    )


@dataclass(frozen=True)
class _Type:
    shape: tuple[int, ...] | None
    item_bytes: int | None


@dataclass(frozen=True)
class _Constant:
    """A constant's elements and bytes; `weighs` unless it holds extents, places or switches."""

    elements: int
    bytes: int
    weighs: bool = True


def name_nodes(model: Any, path: Path) -> bool:
    """Give names in place to nodes without one of their own; tell whether any was given.

    Raises CorruptError for a graph without nodes, with its file's path.
    """
    if not model.graph.node:
        raise CorruptError(f"{path} is no usable ONNX model: its graph has no nodes")
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


def _constants(graph: Any) -> dict[str, _Constant]:
    """Return every constant of a graph: initializers and the outputs of Constant nodes."""
    import onnx

    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            value = next((a.t for a in node.attribute if a.name == "value"), None)
            tensors[node.output[0]] = value
    found = {}
    for name, tensor in tensors.items():
        count = 1 if tensor is None else int(prod(tensor.dims))
        kind = onnx.TensorProto.FLOAT if tensor is None else tensor.data_type
        size = count * onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize
        plain = kind not in (onnx.TensorProto.INT64, onnx.TensorProto.BOOL)
        found[name] = _Constant(count, size, weighs=tensor is not None and plain)
    return found


def _fold(model: Any, types: Mapping[str, _Type], constants: dict[str, _Constant]) -> list[Any]:
    """Return the nodes that depend on an input; what only depends on constants is one itself."""
    kept = []
    for node in model.graph.node:
        read = [name for name in node.input if name]
        if (
            _has_body(node)
            or any(name not in constants for name in read)
            or node.op_type.startswith("Random")
        ):
            kept.append(node)
        else:
            kinds = {name: types.get(name) for name in node.output if name not in constants}
            weighs = any(constants[name].weighs for name in read)
            constants.update(
                {n: _Constant(_count(kind) or 0, _bytes(kind) or 0, weighs) for n, kind in kinds.items()}
            )
    return kept


def _inferred(model: Any, batch: int) -> tuple[Any, tuple[str, ...]]:
    """Return a graph without its weights and with every tensor's shape; what fails is said, not raised."""
    import onnx

    light = weights_as_inputs(model)
    open_batch(light)
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
    return light.graph, notes


def _type(value: Any) -> _Type:
    import onnx

    tensor = value.type.tensor_type
    known = tensor.elem_type != onnx.TensorProto.UNDEFINED
    size = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize if known else None
    return _Type(shape_of(value), size)


def _bytes(kind: _Type | None) -> int | None:
    if kind is None or kind.shape is None or kind.item_bytes is None:
        return None
    return int(prod(kind.shape)) * kind.item_bytes


def _node(
    node: Any,
    types: Mapping[str, _Type],
    work: Products,
    constants: Mapping[str, _Constant],
    counted: set[str],
) -> SourceNode:
    outputs = tuple(name for name in node.output if name)
    kind = types.get(outputs[0]) if outputs else None
    read = tuple(dict.fromkeys([*filter(None, node.input), *sorted(reads_of(node))]))
    fresh = [name for name in read if name in constants and name not in counted]
    counted.update(fresh)
    held = [*(constants[name] for name in fresh), *_inside(node)]
    carried = {entry.key: entry.value for entry in node.metadata_props}
    sizes = [_bytes(types.get(name)) for name in outputs]
    return SourceNode(
        name=node.name,
        op=node.op_type,
        domain=node.domain,
        inputs=read if _has_body(node) else tuple(name for name in node.input if name),
        outputs=outputs,
        modules=_modules(node, carried),
        type=carried.get(TYPE, node.op_type),
        output_shape=kind.shape if kind else None,
        output_bytes=None if None in sizes else sum(size or 0 for size in sizes),
        parameters=sum(one.elements for one in held if one.weighs),
        weights_bytes=sum(one.bytes for one in held),
        macs=work.macs,
        uncounted=work.uncounted,
    )


def _placed(node: SourceNode, scoped: Mapping[str, ScopedNode]) -> SourceNode:
    """Return a node with the modules that torch's exporter noted, where it is no export of ours."""
    found = scoped.get(node.name)
    if found is None or node.modules != (node.name,):
        return node
    return replace(node, modules=found.modules, type=found.type or node.type)


def _has_body(node: Any) -> bool:
    return next(inner_graphs(node), None) is not None


def _inside(node: Any) -> list[_Constant]:
    """Return the constants of a node's bodies, and of bodies inside those."""
    found: list[_Constant] = []
    for graph in inner_graphs(node):
        found += _constants(graph).values()
        for inner in graph.node:
            found += _inside(inner)
    return found


def _modules(node: Any, carried: Mapping[str, str]) -> tuple[str, ...]:
    if MODULES in carried:
        return tuple(str(name) for name in json.loads(carried[MODULES]))
    return () if node.op_type in CONVERSIONS else (str(node.name),)


def _count(kind: _Type | None) -> int | None:
    return None if kind is None or kind.shape is None else int(prod(kind.shape))
