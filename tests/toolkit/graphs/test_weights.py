"""Large weights beside their graph: rounded right, read by the runtime from where they lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from exporters.graphs.capture import capture
from exporters.graphs.half import to_half
from toolkit.graphs.running import logits
from toolkit.graphs.weights import LARGE_VALUES, LARGEST_HALF, half, halve_weights, without_weights


@pytest.fixture(scope="module")
def wide() -> Any:
    torch.manual_seed(0)
    return capture(nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32)).eval(), (64,), opset=20)


def test_fp16_rounds_to_nearest_even_and_what_is_finite_stays_finite() -> None:
    values = np.array([1.0, 1 + 2**-11, 1 + 3 * 2**-11, 1e-9, -7e4, 7e4, np.inf, -np.inf], np.float32)
    wanted = [1.0, 1.0, 1 + 2**-9, 0.0, -LARGEST_HALF, LARGEST_HALF, np.inf, -np.inf]
    np.testing.assert_array_equal(half(values).astype(np.float64), wanted)
    assert np.isnan(half(np.array([np.nan], np.float32))[0])


def test_the_weights_of_kept_nodes_are_not_halved(wide: Any) -> None:
    copy = onnx.ModelProto()
    copy.CopyFrom(wide)
    halve_weights(copy, keep={"2/Gemm"})
    types = {tensor.name: tensor.data_type for tensor in copy.graph.initializer}
    assert types["0.weight"] == onnx.TensorProto.FLOAT16
    assert types["2.weight"] == onnx.TensorProto.FLOAT


def test_a_cast_graph_has_the_rounded_weights_and_valid_types(wide: Any) -> None:
    made = to_half(wide)
    onnx.checker.check_model(made, full_check=True)
    found = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    exact = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in wide.graph.initializer}
    np.testing.assert_array_equal(found["0.weight"], half(exact["0.weight"]))


def test_a_light_copy_declares_every_large_weight_and_holds_none(wide: Any) -> None:
    light, weights = without_weights(wide)
    assert sorted(weights) == ["0.weight", "2.weight"]
    assert all(values.size >= LARGE_VALUES for values in weights.values())
    assert light.ByteSize() < wide.ByteSize() - sum(values.nbytes for values in weights.values()) + 1000
    assert [t.name for t in light.graph.initializer] == [t.name for t in wide.graph.initializer]


def test_a_graph_answers_the_same_with_its_weights_handed_over(wide: Any) -> None:
    import onnxruntime as ort

    inputs = np.random.default_rng(0).standard_normal((8, 64)).astype(np.float32)
    plain = ort.InferenceSession(wide.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(logits(wide, inputs), plain.run(None, {"input": inputs})[0], atol=1e-6)
