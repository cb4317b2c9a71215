"""What precision a graph came in: halved or quantised by whoever wrote it, and in which form."""

from __future__ import annotations

from typing import Any, Literal

from toolkit.graphs.products import INTEGER, precision_of
from toolkit.passports import SYMMETRIC, UNSIGNED, Dialect, Precision

# quantised between Q/DQ pairs, by operators on integers, or with ranges that are measured at each run
Form = Literal["QDQ", "QLinear", "dynamic"]
DYNAMIC = frozenset({"DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "DynamicQuantizeMatMul"})


def form_of(model: Any) -> Form | None:
    """Return how a graph is quantised; None for one that computes in floats.

    DequantizeLinear alone keeps weights in 8 bits, and they are computed with as floats.
    """
    operators = {node.op_type for node in model.graph.node}
    if operators & DYNAMIC:
        return "dynamic"
    if any(name.startswith("QLinear") for name in operators):
        return "QLinear"
    return "QDQ" if operators & INTEGER else None


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
