"""What an ONNX graph computes: the multiply-adds of a node, and the number format of most of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import prod
from typing import Any

from toolkit.passports import Precision

COUNTED = frozenset(
    {
        "Conv",
        "ConvTranspose",
        "ConvInteger",
        "QLinearConv",
        "Gemm",
        "MatMul",
        "MatMulInteger",
        "QLinearMatMul",
    }
)
# they multiply, too; how much is not worked out here
UNCOUNTED = frozenset({"Einsum", "RNN", "GRU", "LSTM", "DeformConv", "Attention", "DFT"})
# a graph with one of these computes on 8 bits; with DequantizeLinear alone it only keeps its weights so
INTEGER = frozenset({"QuantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"})
FLOATS: Mapping[int, Precision] = {1: "fp32", 10: "fp16", 16: "bf16"}  # by onnx.TensorProto's numbers


def multiply_adds(
    node: Any,
    shapes: Mapping[str, tuple[int, ...] | None],
    constants: Mapping[str, tuple[int, int]],
) -> int | None:
    """Return the multiply-adds of a convolution or matrix product, 0 for other operators.

    A convolution does |weights| / output channels for each output element; a product of (M, K) and
    (K, N) does M·K·N. None for unknown shapes, for other products, for subgraphs and for operators that
    are not ONNX's own. `constants` holds elements and bytes.
    """
    if node.op_type not in COUNTED:
        inner = any(a.HasField("g") or a.graphs for a in node.attribute)
        foreign = node.domain not in ("", "ai.onnx") and "Quantize" not in node.op_type
        return None if inner or foreign or node.op_type in UNCOUNTED else 0
    first, out = shapes.get(node.input[0]), shapes.get(node.output[0])
    if first is None or out is None:
        return None
    if "Conv" in node.op_type:
        weight = node.input[3 if node.op_type == "QLinearConv" else 1]
        shape = shapes.get(weight)
        count = constants[weight][0] if weight in constants else None if shape is None else prod(shape)
        elements, channels = (first, first[1]) if node.op_type == "ConvTranspose" else (out, out[1])
        return None if count is None else prod(elements) * count // max(1, channels)
    flipped = any(a.name == "transA" and a.i for a in node.attribute)
    shared = first[0 if flipped else -1] if first else 1
    return prod(out) * shared


def precision_of(model: Any) -> Precision:
    """Return int8 for a graph that quantizes what flows through it, else the type of most of its weights."""
    if any(n.op_type in INTEGER or n.op_type.startswith("QLinear") for n in model.graph.node):
        return "int8"
    counts: Counter[Precision] = Counter()
    constants = [
        a.t for n in model.graph.node if n.op_type == "Constant" for a in n.attribute if a.HasField("t")
    ]
    for tensor in (*model.graph.initializer, *constants):
        if tensor.data_type in FLOATS:
            counts[FLOATS[tensor.data_type]] += prod(tensor.dims)
    if counts:
        return counts.most_common(1)[0][0]
    given = (value.type.tensor_type.elem_type for value in model.graph.input)
    return next((FLOATS[kind] for kind in given if kind in FLOATS), "fp32")
