"""Large weights of a graph, handled beside it: what concerns nodes alone then copies nothing of them."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGE_VALUES = 1024
# values up to which a constant may be a shape, whose content inference needs
SHAPE_VALUES = 64
HEAVY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
LARGEST_HALF = 65504.0


def is_large(tensor: Any) -> bool:
    """Tell whether a TensorProto holds many values, in the plain form that all exporters write."""
    return math.prod(tensor.dims) >= LARGE_VALUES and bool(tensor.HasField("raw_data"))


def dense(sparse: Any) -> Any:
    """Return a SparseTensorProto as a TensorProto; its places are numbers, or one coordinate an extent."""
    from onnx import numpy_helper

    values, places = (numpy_helper.to_array(part) for part in (sparse.values, sparse.indices))
    whole = np.zeros(sparse.dims, values.dtype)
    flat = places if places.ndim == 1 else np.ravel_multi_index(tuple(places.T), tuple(sparse.dims))
    whole.reshape(-1)[flat] = values
    return numpy_helper.from_array(whole, sparse.values.name)


def halve_weights(model: Any, *, keep: Collection[str]) -> None:
    """Round the large weights of convolutions and products to fp16, in place, but for nodes in `keep`.

    The converter of ONNX Runtime leaves what is fp16 already as it is, and would copy it ten times over.
    """
    import onnx

    others = (node for node in model.graph.node if node.op_type not in HEAVY or node.name in keep)
    exact = {name for node in others for name in node.input}
    for tensor in model.graph.initializer:
        if tensor.name not in exact and tensor.data_type == onnx.TensorProto.FLOAT and is_large(tensor):
            tensor.raw_data = half(onnx.numpy_helper.to_array(tensor)).tobytes()
            tensor.data_type = onnx.TensorProto.FLOAT16


def half(values: NDArray[np.float32]) -> NDArray[np.float16]:
    """Round to fp16 (nearest, ties to even); what is finite and too large becomes its largest value."""
    with np.errstate(over="ignore"):
        rounded = values.astype("<f2")
    if np.any(rounded.view("<u2") & 0x7FFF == 0x7C00):  # 2 bytes a value, looked at as they are: fast
        return np.where(np.isfinite(values), np.clip(values, -LARGEST_HALF, LARGEST_HALF), values).astype(
            "<f2"
        )
    return rounded


def bfloat16(values: Any) -> bytes:
    """Round float32 values to bf16 (nearest, ties to even); return their bytes, 2 a value."""
    bits = np.ascontiguousarray(values, dtype="<f4").view("<u4").astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return rounded.astype("<u2").tobytes()


def without_weights(model: Any) -> tuple[Any, dict[str, NDArray[Any]]]:
    """Return a copy of a graph that declares its large weights as lying elsewhere, and those weights."""
    import onnx

    types = {
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.INT8,
        onnx.TensorProto.UINT8,
        onnx.TensorProto.INT32,
    }
    light, weights = onnx.ModelProto(), dict[str, NDArray[Any]]()
    copy_fields(model, light, but="graph")
    copy_fields(model.graph, light.graph, but="initializer")
    for tensor in model.graph.initializer:
        if tensor.data_type not in types or not is_large(tensor):
            light.graph.initializer.add().CopyFrom(tensor)
            continue
        values = onnx.numpy_helper.to_array(tensor)
        weights[tensor.name] = values
        outside = light.graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        outside.data_location = onnx.TensorProto.EXTERNAL
        for key, value in {"location": "memory", "offset": 0, "length": values.nbytes}.items():
            outside.external_data.add(key=key, value=str(value))
    return light, weights


def weights_as_inputs(model: Any) -> Any:
    """Return a copy of a graph in which large weights are inputs of their type and shape.

    onnx copies a model several times while it infers and checks; of weights it needs only shapes.
    """
    import onnx

    light = onnx.ModelProto()
    copy_fields(model, light, but="graph")
    copy_fields(model.graph, light.graph, but="initializer")
    inputs = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= SHAPE_VALUES:
            light.graph.initializer.add().CopyFrom(tensor)
        elif tensor.name not in inputs:
            info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            light.graph.input.append(info)
    return light


def copy_fields(message: Any, into: Any, *, but: str) -> None:
    """Copy all fields of a protobuf message but one into another message."""
    for field, value in message.ListFields():
        if isinstance(value, (str, int, float, bytes)):
            setattr(into, field.name, value)
        elif field.name != but:
            getattr(into, field.name).MergeFrom(value)
