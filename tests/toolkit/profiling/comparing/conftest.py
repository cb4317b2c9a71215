"""A small graph that tests change in one thing at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

# a stem of a convolution with its folded activation, another convolution and a dense layer
WEIGHTS = {
    "stem.weight": np.arange(8 * 3 * 9, dtype=np.float32).reshape(8, 3, 3, 3),
    "stem.bias": np.zeros(8, np.float32),
    "body.weight": np.ones((8, 8, 3, 3), np.float32),
    "fc.weight": np.ones((5, 8), np.float32),
}
NODES = (
    helper.make_node("Conv", ["x", "stem.weight", "stem.bias"], ["a"], name="stem", pads=[1] * 4),
    helper.make_node("Relu", ["a"], ["b"], name="act"),
    helper.make_node("Conv", ["b", "body.weight"], ["c"], name="body", pads=[1] * 4),
    helper.make_node("GlobalAveragePool", ["c"], ["d"], name="pool"),
    helper.make_node("Flatten", ["d"], ["e"], name="flat"),
    helper.make_node("Gemm", ["e", "fc.weight"], ["y"], name="fc", transB=1),
)
Build = Callable[..., Path]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Write a graph: the one above with some weights and nodes replaced."""

    def write(
        name: str = "net.onnx",
        nodes: Sequence[Any] = NODES,
        weights: dict[str, np.ndarray[Any, Any]] | None = None,
        side: int = 16,
        output: int = TensorProto.FLOAT,
    ) -> Path:
        held = {**WEIGHTS, **(weights or {})}
        read = {one for node in nodes for one in node.input}
        graph = helper.make_graph(
            list(nodes), "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, side, side])],
            [helper.make_tensor_value_info("y", output, ["N", None])],
            [numpy_helper.from_array(value, key) for key, value in held.items() if key in read],
        )  # fmt: skip
        path = tmp_path / name
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
        return path

    return write


def replaced(place: int, *nodes: Any) -> list[Any]:
    return [*NODES[:place], *nodes, *NODES[place + 1 :]]
