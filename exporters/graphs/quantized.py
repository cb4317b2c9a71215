"""An fp32 ONNX graph and the ranges of its values → an int8 graph, in the dialect of its runtime.

Two emitters share one calibration: U8S8 (unsigned activations, signed weights), which ONNX Runtime
fuses on x86 and Arm, and symmetric S8S8 without quantized biases, the only form that TensorRT's parser
takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from exporters.graphs.capture import finish, quiet
from exporters.graphs.ranges import Range
from toolkit.errors import CnnkitError, needs_extra
from toolkit.exporting import RangeMethod
from toolkit.graphs.facts import at_least
from toolkit.graphs.naming import modules_of, note_modules
from toolkit.graphs.ordering import sort_nodes
from toolkit.graphs.weights import HEAVY
from toolkit.passports import SYMMETRIC, Dialect

# per-channel scales came to QuantizeLinear and DequantizeLinear with this opset
SMALLEST_OPSET = 13
# operators that the quantizer takes for the edges of a range
REMOVABLE = ("Relu", "Clip")


def quantize(
    model: Any,
    ranges: Mapping[str, Range],
    *,
    method: RangeMethod,
    dialect: Dialect,
    reduce_range: bool,
    keep: Iterable[str] = (),
) -> Any:
    """Return an int8 copy of an fp32 onnx.ModelProto; nodes named in `keep` stay in float.

    `reduce_range` gives weights 7 bits, for processors whose 8-bit sums saturate.
    """
    with needs_extra("export"):
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
        from onnxruntime.quantization.quant_utils import add_infer_metadata
        from onnxruntime.quantization.registry import QDQRegistry
    copy = at_least(model, SMALLEST_OPSET)
    _refuse_computed_weights(copy)
    excluded = {*keep, *unquantizable(copy), *output_makers(copy)}
    # its shapes are inferred; without this note the quantizer would write a copy to disk and read it back
    add_infer_metadata(copy)
    symmetric = dialect == SYMMETRIC
    clipped = {name: found.clipped(method) for name, found in ranges.items()}
    data = {
        name: TensorData(lowest=np.float32(min(low, 0.0)), highest=np.float32(max(high, 0.0)))
        for name, (low, high) in clipped.items()
        if np.isfinite(low) and np.isfinite(high)
    }
    quantizer = QDQQuantizer(
        copy,
        True,
        reduce_range,
        QuantType.QInt8,
        QuantType.QInt8 if symmetric else QuantType.QUInt8,
        TensorsData(CalibrationMethod.MinMax, data),
        [],
        sorted(excluded),
        list(QDQRegistry),
        {"ActivationSymmetric": symmetric, "WeightSymmetric": True, "QuantizeBias": not symmetric},
    )
    own = [type(node).FromString(node.SerializeToString()) for node in copy.graph.node]
    before = {node.name for node in own}
    try:
        with quiet():
            made = quantizer.quantize_model()
    except Exception as error:  # the quantizer raises bare errors of many kinds
        raise CnnkitError(f"the graph cannot be quantized: {error}") from error
    for node in made.graph.node:
        if node.name not in before and modules_of(node) is None:
            note_modules(node, [], None)  # quantize and dequantize nodes belong to no module
    _free_outputs(made)
    sort_nodes(made)
    refuse_lost_operators(own, made)
    if not quantised_nodes(made):
        raise _nothing_quantised(made)
    return finish(made)


def unquantizable(model: Any) -> dict[str, str]:
    """Return the nodes that the quantizer has no right form for, each with what it is."""
    found = {}
    ranks = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    for node in model.graph.node:
        group = next((a.i for a in node.attribute if a.name == "group"), 1)
        if node.op_type == "ConvTranspose" and group > 1:
            found[node.name] = f"ConvTranspose of {group} groups"
        elif node.domain not in ("", "ai.onnx"):
            found[node.name] = f"{node.op_type} of {node.domain}"
        elif node.op_type == "GroupNormalization":
            found[node.name] = node.op_type
        elif node.op_type == "LayerNormalization" and ranks.get(node.input[1], 1) > 1:
            found[node.name] = "LayerNormalization over several extents"
    return found


def output_makers(model: Any) -> set[str]:
    """Return the ReLUs and Clips that make an output.

    The quantizer drops both where a quantized value follows that cannot hold what they cut off; an output is
    left in float, where nothing else cuts.
    """
    outputs = {value.name for value in model.graph.output}
    return {n.name for n in model.graph.node if n.op_type in REMOVABLE and n.output[0] in outputs}


def refuse_lost_operators(before: Sequence[Any], made: Any) -> None:
    """Hold a quantized graph to its source, node by node. Raises CnnkitError for an operator that was lost.

    A ReLU or Clip may go where the value that it cut is read as unsigned 8 bits alone: those end where the
    value did.
    """
    present = {node.name for node in made.graph.node}
    makers = {name for node in made.graph.node for name in node.output}
    stored = {tensor.name: tensor for tensor in made.graph.initializer}
    for node in [node for node in before if node.name not in present]:
        value = node.output[0]
        readers = [one for one in made.graph.node if value in one.input]
        if node.op_type in REMOVABLE:
            kept = bool(readers) and all(_cuts(reader, node.op_type, stored) for reader in readers)
            kept = kept and all(output.name != value for output in made.graph.output)
        else:  # replaced by nodes of other names, or folded
            kept = value in makers or value in stored or not readers
        if not kept:
            raise CnnkitError(
                f"int8 would lose the node {node.name!r} ({node.op_type}), which no value of 8 bits stands "
                "in for; use --precision fp16, and please report the network"
            )


def _cuts(reader: Any, cut: str, stored: Mapping[str, Any]) -> bool:
    """Tell whether a reader takes a value as 8 bits that end where a ReLU or Clip let it end.

    A range is measured behind the operator: that of a ReLU begins at 0, which is then the number 0.
    """
    from onnx import TensorProto, numpy_helper

    zero = stored.get(reader.input[2]) if reader.op_type == "QuantizeLinear" else None
    if zero is None:
        return False
    return cut == "Clip" or (zero.data_type == TensorProto.UINT8 and not numpy_helper.to_array(zero).any())


def _refuse_computed_weights(model: Any) -> None:
    stored = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in ("Conv", "ConvTranspose", "Gemm") and node.input[1] not in stored:
            raise CnnkitError(
                f"int8 needs weights that are stored in the file, and the graph computes those of "
                f"{node.name!r} while it runs; fold its constants first, or use --precision fp16"
            )


def _free_outputs(model: Any) -> None:
    """Leave the graph's outputs in float: 8 bits would round logits for no gain in speed.

    So is what a ReLU or Clip that makes an output reads.
    """
    outputs = {value.name for value in model.graph.output}
    ends = [n.input[0] for n in model.graph.node if n.op_type in REMOVABLE and n.output[0] in outputs]
    for name in (*outputs, *ends):
        makers = {made: node for node in model.graph.node for made in node.output}
        back = makers.get(name)
        there = makers.get(back.input[0]) if back and back.op_type == "DequantizeLinear" else None
        if there is None or there.op_type != "QuantizeLinear" or there.input[0] not in makers:
            continue
        inner = there.input[0]
        readers = [node for node in model.graph.node if {inner, there.output[0]} & {*node.input}]
        if len(readers) == 2 and not (name in outputs and inner in outputs):  # only this pair reads it
            maker = makers[inner]
            model.graph.node.remove(there)
            model.graph.node.remove(back)
            maker.output[:] = [name if made == inner else made for made in maker.output]


def quantised_nodes(model: Any) -> list[str]:
    """Return the convolutions and matrix products that compute on 8 bits: what they read is dequantised."""
    nodes = model.graph.node
    read = {name for node in nodes if node.op_type == "DequantizeLinear" for name in node.output}
    return [node.name for node in nodes if node.op_type in HEAVY and read.issuperset(node.input[:2])]


def _nothing_quantised(model: Any) -> CnnkitError:
    others = sorted({f"{node.op_type} of {node.domain}" for node in model.graph.node if node.domain})
    held = f"it computes with {', '.join(others)}" if others else "it has none, or of no numbers"
    return CnnkitError(
        f"no convolution or matrix product of the graph has a form in int8 ({held}): a file of int8 would be "
        "one in name only; use --precision fp16, or write the graph again in ONNX's own operators"
    )
