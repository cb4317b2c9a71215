"""Tiny classifiers as other people's exporters write them, one oddity each, built in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

CLASSES = 4
Node = Any
Shape = Sequence[int | str | None]


def node(op: str, inputs: Sequence[str], output: str, **attributes: Any) -> Node:
    """Return a node that makes one value, without a name."""
    return helper.make_node(op, list(inputs), [output], **attributes)


def stored(name: str, values: Any, kind: Any = np.float32) -> Any:
    """Return a weight or constant of a graph."""
    return numpy_helper.from_array(np.asarray(values, kind), name)


def end(name: str, shape: Shape | None, kind: int = TensorProto.FLOAT) -> Any:
    """Return an input or output of a graph."""
    return helper.make_tensor_value_info(name, kind, shape)


def weights(seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Return the weights of `classifier`: a convolution of 6 channels and a product to 4 classes."""
    draw = np.random.default_rng(seed).standard_normal
    return {
        "kernel": draw((6, 3, 3, 3)).astype(np.float32) * 0.3,
        "shift": draw(6).astype(np.float32) * 0.1,
        "table": draw((6, CLASSES)).astype(np.float32),
        "offset": draw(CLASSES).astype(np.float32) * 0.1,
    }


def layers(given: str = "pictures", out: str = "scores") -> list[Node]:
    """Return the nodes of `classifier`: convolution, ReLU, pooling, product."""
    return [
        node("Conv", [given, "kernel", "shift"], "conv", pads=[1, 1, 1, 1]),
        node("Relu", ["conv"], "act"),
        node("GlobalAveragePool", ["act"], "pool"),
        node("Flatten", ["pool"], "flat"),
        node("Gemm", ["flat", "table", "offset"], out),
    ]


def network(
    nodes: Sequence[Node] | None = None,
    *,
    constants: Sequence[Any] | None = None,
    inputs: Sequence[Any] | None = None,
    outputs: Sequence[Any] | None = None,
    opset: int = 17,
    ir: int = 8,
    domains: Sequence[str] = (),
    seed: int = 0,
) -> Any:
    """Return an onnx.ModelProto: (n, 3, 8, 8) pictures to (n, 4) scores where nothing else is said."""
    graph = helper.make_graph(
        list(nodes if nodes is not None else layers()),
        "odd",
        list(inputs or [end("pictures", ["n", 3, 8, 8])]),
        list(outputs or [end("scores", ["n", CLASSES])]),
        list(constants if constants is not None else plain_weights(seed)),
    )
    known = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=known, ir_version=ir)


def plain_weights(seed: int = 0) -> list[Any]:
    """Return the weights of `classifier` as stored tensors."""
    return [stored(name, values) for name, values in weights(seed).items()]


def save(model: Any, path: Path) -> Path:
    """Write a model at a path, its folder made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def answer(model: Any, pictures: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return a model's first output for 5 seeded pictures, by ONNX Runtime."""
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    # else products of 8-bit weights are rounded, which is no property of the graph
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    batch = seeded() if pictures is None else pictures
    return np.asarray(session.run(None, {given.name: batch})[0])


def seeded(count: int = 5) -> NDArray[np.float32]:
    """Return seeded pictures for `classifier`."""
    return np.random.default_rng(7).standard_normal((count, 3, 8, 8)).astype(np.float32)


def halved(model: Any) -> Any:
    """Return a copy whose weights, values, input and output are fp16."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    return convert_float_to_float16(onnx.ModelProto.FromString(model.SerializeToString()))


def quantised(path: Path, into: Path, *, form: str) -> Path:
    """Quantise a file as ONNX Runtime's own tools do: `QDQ`, `QOperator` or `dynamic`."""
    import logging

    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = [{"pictures": seeded()}]

        def get_next(self) -> Any:
            return self.left.pop() if self.left else None

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        if form == "dynamic":
            quantize_dynamic(path, into)
        else:
            quantize_static(path, into, Reader(), quant_format=QuantFormat[form])
    finally:
        logging.disable(before)
    return into
