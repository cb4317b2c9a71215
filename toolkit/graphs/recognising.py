"""What precision a graph came in: halved or quantised by whoever wrote it, and in which form."""

from __future__ import annotations

from typing import Any, Literal

from toolkit.errors import CnnkitError
from toolkit.graphs.products import INTEGER, precision_of
from toolkit.passports import SYMMETRIC, UNSIGNED, Dialect, Precision

# quantised between Q/DQ pairs, by operators on integers, or with ranges that are measured at each run
Form = Literal["QDQ", "QLinear", "dynamic"]
DYNAMIC = frozenset({"DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "DynamicQuantizeMatMul"})


def form_of(model: Any) -> Form | None:
    """Return how a graph is quantised; None for one that computes in floats.

    DequantizeLinear alone, and QuantizeLinear of what is stored, keep weights in few bits, and they are
    computed with as floats.
    """
    kinds = _stored_kinds(model)
    operators = {node.op_type for node in model.graph.node if not _of_stored(node, kinds)}
    if operators & DYNAMIC:
        return "dynamic"
    if any(name.startswith("QLinear") for name in operators):
        return "QLinear"
    return "QDQ" if operators & INTEGER else None


def kept_codes(model: Any) -> tuple[str, ...]:
    """Return the types that a graph's stored weights are dequantised from, in words."""
    kinds = _stored_kinds(model)
    read = [node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"]
    return tuple(sorted({_kind(kinds[name]) for name in read if name in kinds}))


def refuse_other_codes(model: Any) -> None:
    """Raise CnnkitError for a graph that quantises what flows through it to anything but 8-bit integers.

    Of 4 bits, 16 bits and floats of 8 bits there is no precision that a passport could name.
    """
    import onnx

    kinds = _stored_kinds(model)
    eight = {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}
    for node in model.graph.node:
        if node.op_type != "QuantizeLinear" or _of_stored(node, kinds):
            continue
        asked = next((a.i for a in node.attribute if a.name == "output_dtype"), 0)
        zero = node.input[2] if len(node.input) > 2 else ""
        kind = kinds.get(zero) or asked or onnx.TensorProto.UINT8
        if kind not in eight:
            raise CnnkitError(
                f"the network was quantised to {_kind(kind)} by its source, at its node "
                f"{node.name or node.output[0]!r}, and cnnkit knows int8 alone: give the float network that "
                "it was made of, or one that was quantised to int8"
            )


def _stored_kinds(model: Any) -> dict[str, int]:
    """Return the element types of a graph's stored values, by onnx.TensorProto's numbers."""
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for node in model.graph.node:
        held = next((a.t for a in node.attribute if a.name == "value"), None)
        if node.op_type == "Constant" and held is not None:
            kinds[node.output[0]] = held.data_type
    return kinds


def _of_stored(node: Any, kinds: dict[str, int]) -> bool:
    return node.op_type == "QuantizeLinear" and node.input[0] in kinds


def _kind(kind: int) -> str:
    import onnx

    return str(onnx.TensorProto.DataType.Name(kind)).lower()


def own_precision(model: Any) -> Precision:
    """Return the precision that a graph was written in: int8 if it is quantised, else its weights' type."""
    return "int8" if form_of(model) else precision_of(model)


def dialect_of(model: Any) -> Dialect | None:
    """Return the dialect of a Q/DQ graph: symmetric where no zero point is, and no bias is, quantised."""
    import onnx

    if form_of(model) != "QDQ":
        return None
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        zero = stored.get(node.input[2]) if len(node.input) > 2 else None
        biases = zero is not None and zero.data_type == onnx.TensorProto.INT32
        if zero is None or biases or zero.data_type != onnx.TensorProto.INT8:
            return UNSIGNED
        if onnx.numpy_helper.to_array(zero).any():
            return UNSIGNED
    return SYMMETRIC
