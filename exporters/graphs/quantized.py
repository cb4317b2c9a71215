"""An fp32 ONNX graph and the ranges of its values → an int8 graph, in the dialect of its runtime.

Two emitters share one calibration: U8S8 (unsigned activations, signed weights), which ONNX Runtime
fuses on x86 and Arm, and symmetric S8S8 without quantized biases, the only form that TensorRT's parser
takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
        sorted(keep),
        list(QDQRegistry),
        {"ActivationSymmetric": symmetric, "WeightSymmetric": True, "QuantizeBias": not symmetric},
    )
    before = {node.name for node in copy.graph.node}
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
    return finish(made)


def _refuse_computed_weights(model: Any) -> None:
    stored = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in ("Conv", "ConvTranspose", "Gemm") and node.input[1] not in stored:
            raise CnnkitError(
                f"int8 needs weights that are stored in the file, and the graph computes those of "
                f"{node.name!r} while it runs; fold its constants first, or use --precision fp16"
            )


def _free_outputs(model: Any) -> None:
    """Leave the graph's outputs in float: 8 bits would round logits for no gain in speed."""
    makers = {name: node for node in model.graph.node for name in node.output}
    for value in model.graph.output:
        back = makers.get(value.name)
        there = makers.get(back.input[0]) if back and back.op_type == "DequantizeLinear" else None
        if there is None or there.op_type != "QuantizeLinear" or there.input[0] not in makers:
            continue
        inner = there.input[0]
        readers = [node for node in model.graph.node if {inner, there.output[0]} & {*node.input}]
        if len(readers) == 2:  # only this pair reads it
            maker = makers[inner]
            model.graph.node.remove(there)
            model.graph.node.remove(back)
            maker.output[:] = [value.name if name == inner else name for name in maker.output]


def heavy_nodes(model: Any) -> list[str]:
    """Return the names of the convolutions and matrix products, in the order of execution."""
    return [node.name for node in model.graph.node if node.op_type in HEAVY]
