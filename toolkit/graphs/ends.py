"""A graph's ends put right: weights are no inputs, a batch of −1 or 0 is open, outputs say what they are."""

from __future__ import annotations

from typing import Any

from toolkit.errors import CnnkitError, CorruptError
from toolkit.graphs.facts import element_kind
from toolkit.graphs.ordering import reads_of
from toolkit.graphs.weights import dense

BATCH = "batch"
DEFAULT_DOMAINS = ("", "ai.onnx")


def state_opset(model: Any) -> str | None:
    """Write ONNX's own domain as all tools expect it, with an opset; say which where the file has none.

    A file without one gets the newest that its IR version was made for.
    """
    for node in model.graph.node:
        if node.domain == "ai.onnx":
            node.domain = ""
    own = [entry for entry in model.opset_import if entry.domain in DEFAULT_DOMAINS]
    for entry in own[1:]:
        model.opset_import.remove(entry)
    if own:
        own[0].domain = ""
        return None
    opset = _opset_by_ir(model.ir_version)
    model.opset_import.add(domain="", version=opset)
    return (
        f"the file names no opset; it is read as opset {opset}, as its IR version {model.ir_version} suggests"
    )


def _opset_by_ir(ir: int) -> int:
    from onnx import helper

    rows = [row for row in helper.VERSION_TABLE if row[1] <= max(ir, 3)]
    return max(int(row[2]) for row in rows)


def free_weights(model: Any) -> None:
    """Take weights out of the graph's inputs, where older files list them, too, and drop what nothing reads.

    Sparse ones become ordinary. Raises CorruptError for two weights of one name.
    """
    graph = model.graph
    graph.initializer.extend(map(dense, graph.sparse_initializer))
    del graph.sparse_initializer[:]
    read = {value.name for value in graph.output}.union(*(reads_of(node) for node in graph.node))
    kept: dict[str, Any] = {}
    listed = {tensor.name for tensor in graph.initializer}
    for place in reversed(range(len(graph.initializer))):
        tensor = graph.initializer[place]
        if tensor.name in read and kept.setdefault(tensor.name, tensor) is tensor:
            continue
        if tensor.name in read and tensor != kept[tensor.name]:
            raise CorruptError(
                f"the file holds two weights called {tensor.name!r}, and which of them counts differs from "
                "runtime to runtime; write the file again"
            )
        del graph.initializer[place]
    for value in [value for value in graph.input if value.name in listed]:
        graph.input.remove(value)
    model.ir_version = max(model.ir_version, 4)  # before it, each weight had to be an input


def drop_sequences(model: Any) -> str | None:
    """Take outputs that are no numbers out of a graph with others, in place; return that in words."""
    outputs = model.graph.output
    others = [value for value in outputs if not holds_numbers(value)]
    if not others or len(others) == len(outputs):
        return None
    told = ", ".join(f"{value.name!r} ({element_kind(value)})" for value in others)
    for value in others:
        outputs.remove(value)
    _drop_unread(model.graph)
    return f"left out, as it holds no numbers: the output {told}"


def drop_idle_inputs(model: Any) -> str | None:
    """Take inputs that nothing reads out of a graph with others, in place; return that in words."""
    graph = model.graph
    read = {value.name for value in graph.output}.union(*(reads_of(node) for node in graph.node))
    idle = [value for value in graph.input if value.name not in read]
    if not idle or len(idle) == len(graph.input):
        return None
    for value in idle:
        graph.input.remove(value)
    return f"left out, as nothing reads it: the input {', '.join(repr(value.name) for value in idle)}"


def holds_numbers(value: Any) -> bool:
    """Tell whether a value is a tensor of numbers, as far as that is told, and no text or sequence."""
    from onnx import TensorProto

    kind = value.type.WhichOneof("value")
    return kind is None or (kind == "tensor_type" and value.type.tensor_type.elem_type != TensorProto.STRING)


def _drop_unread(graph: Any) -> None:
    """Drop the nodes that no output needs any more, in place; those are the last in the order of reading."""
    while True:
        read = {value.name for value in graph.output}.union(*(reads_of(node) for node in graph.node))
        idle = [node for node in graph.node if not read & {*node.output}]
        if not idle:
            return
        for node in idle:
            graph.node.remove(node)


def open_batch(model: Any) -> None:
    """Call an open first extent `batch`, be it written as −1, as 0 or not at all; open others like it.

    What was inferred for inner values with the file's own extents is dropped.
    """
    graph = model.graph
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        dims = value.type.tensor_type.shape.dim
        for index, dim in enumerate(dims):
            if dim.HasField("dim_value") and dim.dim_value <= 0:
                dim.Clear()
            if index == 0 and not dim.HasField("dim_value") and not dim.dim_param:
                dim.dim_param = BATCH


def forget_output_shapes(model: Any) -> None:
    """Drop what a file claims of its outputs' shapes: inference and the runtime tell what they are."""
    made = {name for node in model.graph.node for name in node.output}
    for value in model.graph.output:
        if value.name in made and value.type.tensor_type.HasField("shape"):
            value.type.tensor_type.ClearField("shape")


def close_extents(model: Any, size: tuple[int, int]) -> None:
    """Close an open height and width of the one input, in place; `size` is (height, width).

    Raises CnnkitError where the input is no picture, or has other extents that are closed already.
    """
    value = model.graph.input[0]
    dims = value.type.tensor_type.shape.dim
    if len(dims) != 4:
        raise CnnkitError(f"--size closes height and width, and {value.name!r} has {len(dims)} extents")
    channels_last = dims[1].dim_value not in (1, 3, 4) and dims[3].dim_value in (1, 3, 4)
    for dim, extent in zip(dims[1:3] if channels_last else dims[2:4], size, strict=True):
        if dim.dim_value not in (0, extent):
            raise CnnkitError(f"--size asks for {extent} where {value.name!r} is closed at {dim.dim_value}")
        dim.dim_value = extent
    forget_output_shapes(model)
