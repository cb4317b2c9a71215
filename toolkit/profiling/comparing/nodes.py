"""One node of a graph in words: its attributes, and what its operator calls its inputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from toolkit.graphs.weights import dense
from toolkit.profiling.comparing.parts import WeightTensor

# what an operator's inputs are called where a layer of torch has a name for them
ROLES = {
    "Conv": ("", "weight", "bias"),
    "ConvTranspose": ("", "weight", "bias"),
    "Gemm": ("", "weight", "bias"),
    "BatchNormalization": ("", "weight", "bias", "running_mean", "running_var"),
}
# before this opset they took the axis and all after it as one, from the second on where none was written
SOFTMAXES, SOFTMAX_OPSET = frozenset({"Softmax", "LogSoftmax", "Hardmax"}), 13
NUMBERS = {
    **dict.fromkeys(("value_float", "value_floats"), np.float32),
    **dict.fromkeys(("value_int", "value_ints"), np.int64),
}


def role_of(op: str, domain: str, place: int) -> str:
    """Return what an input is to its node: as torch calls it, as its operator does, or by its place."""
    import onnx

    roles = ROLES.get(op, ())
    if not roles and not domain and onnx.defs.has(op):
        roles = tuple(given.name for given in onnx.defs.get_schema(op).inputs)
    return (roles[place] if place < len(roles) else "") or f"input {place}"


def settings_of(proto: Any) -> dict[str, str]:
    """Return a node's attributes as text, those that are left out with their defaults.

    Tensors and bodies are told elsewhere, as are the numbers of a Constant.
    """
    import onnx

    found: dict[str, str] = {}
    if not proto.domain and onnx.defs.has(proto.op_type):
        schema = onnx.defs.get_schema(proto.op_type)
        found = {
            name: _text(one.default_value)
            for name, one in schema.attributes.items()
            if one.default_value.name
        }
    return found | {one.name: _text(one) for one in proto.attribute if not _told_elsewhere(proto, one)}


def softmax_axis(proto: Any, opset: int, rank: int) -> str:
    """Return the axis of a softmax, counted from the front, as its opset means it."""
    early = opset < SOFTMAX_OPSET
    axis = next((one.i for one in proto.attribute if one.name == "axis"), 1 if early else -1) % rank
    return f"{axis} and all after it" if early and axis < rank - 1 else str(axis)


def cast_to(proto: Any) -> str:
    """Return the type that a Cast makes."""
    import onnx

    return str(
        onnx.helper.tensor_dtype_to_np_dtype(next(one.i for one in proto.attribute if one.name == "to"))
    )


def stored_in(node: Any) -> Iterator[tuple[str, WeightTensor]]:
    """Yield the constants in a node's attributes, named as those are: of a Constant there is but one."""
    import onnx

    for attribute in node.attribute:
        name = "" if node.op_type == "Constant" else f" {attribute.name}"
        if attribute.HasField("t"):
            yield name, tensor_of(attribute.t)
        elif attribute.HasField("sparse_tensor"):
            yield name, tensor_of(dense(attribute.sparse_tensor))
        elif node.op_type == "Constant" and attribute.name in NUMBERS:
            values = np.asarray(onnx.helper.get_attribute_value(attribute), NUMBERS[attribute.name])
            yield name, WeightTensor(shape=values.shape, dtype=str(values.dtype), values=values)


def tensor_of(stored: Any) -> WeightTensor:
    """Return a TensorProto with its values."""
    from onnx import numpy_helper

    values = numpy_helper.to_array(stored)
    return WeightTensor(shape=values.shape, dtype=str(values.dtype), values=values)


def _told_elsewhere(node: Any, attribute: Any) -> bool:
    if node.op_type == "Constant" and attribute.name in NUMBERS:
        return True
    return any(attribute.HasField(kind) for kind in ("g", "t", "sparse_tensor")) or bool(attribute.graphs)


def _text(attribute: Any) -> str:
    import onnx

    if attribute.ref_attr_name:
        return f"its caller's {attribute.ref_attr_name}"
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, float):
        return str(np.float32(value)).removesuffix(".0")
    return str(list(value)) if hasattr(value, "__len__") else str(value)
