"""fp16 and bf16 graphs: what is cast, what overflows and stays, and that rounding is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis.extra.numpy import arrays
from hypothesis.strategies import floats
from torch import nn

from exporters.graphs.capture import capture
from exporters.graphs.emulated import emulate
from exporters.graphs.half import to_bfloat16, to_half
from exporters.graphs.ranges import measure, overflowing
from tests import odd_graphs as odd
from toolkit.graphs.naming import modules_of
from toolkit.graphs.normalising import normalise
from toolkit.graphs.running import logits
from toolkit.graphs.weights import LARGEST_HALF, bfloat16


class Loud(nn.Module):
    """Its middle exceeds the range of fp16, its answers do not."""

    def __init__(self) -> None:
        super().__init__()
        self.quiet = nn.Linear(8, 8)
        self.loud = nn.Linear(8, 8)
        self.calm = nn.Linear(8, 4)
        nn.init.constant_(self.loud.weight, 3e4)
        nn.init.constant_(self.calm.weight, 1e-5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.calm(self.loud(torch.sigmoid(self.quiet(x))))


@pytest.fixture(scope="module")
def loud() -> Any:
    torch.manual_seed(0)
    return capture(Loud().eval(), (8,), opset=20)


def test_a_layer_that_overflows_fp16_and_its_reader_are_kept_in_fp32(loud: Any) -> None:
    inputs = np.random.default_rng(0).standard_normal((16, 8)).astype(np.float32)
    kept = overflowing(loud, measure(loud, inputs).ranges, LARGEST_HALF)
    assert kept == ["loud/Gemm", "calm/Gemm"]
    half = to_half(loud, keep=kept)
    types = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    assert types["loud.weight"] == types["calm.weight"] == onnx.TensorProto.FLOAT
    assert types["quiet.weight"] == onnx.TensorProto.FLOAT16
    # no cast lies between the two: there the value would overflow on a GPU, where nobody removes it
    assert [node.op_type for node in half.graph.node] == ["Cast", "Gemm", "Sigmoid", "Cast", "Gemm", "Gemm"]
    np.testing.assert_allclose(logits(half, inputs), logits(loud, inputs), rtol=2e-2)


def test_ends_stay_fp32_and_casts_belong_to_no_module(loud: Any) -> None:
    half = to_half(loud)
    assert half.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert half.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    casts = [node for node in half.graph.node if node.op_type == "Cast"]
    assert [node.name for node in casts] == ["input/Cast", "logits/Cast"]
    assert [modules_of(node) for node in casts] == [[], []]
    assert [n.name for n in half.graph.node if n.op_type == "Gemm"] == [
        "quiet/Gemm",
        "loud/Gemm",
        "calm/Gemm",
    ]


def test_the_source_graph_is_left_alone(loud: Any) -> None:
    before = loud.SerializeToString(deterministic=True)
    to_half(loud)
    to_bfloat16(loud)
    emulate(loud, "bf16")
    assert loud.SerializeToString(deterministic=True) == before


@given(arrays(np.float32, (7,), elements=floats(width=32, allow_nan=False, allow_infinity=False)))
def test_bf16_rounds_as_torch_does(values: Any) -> None:
    wanted = torch.from_numpy(values.copy()).to(torch.bfloat16).view(torch.int16).numpy()
    np.testing.assert_array_equal(np.frombuffer(bfloat16(values), np.int16), wanted)


def test_a_bf16_graph_has_bf16_weights_and_passes_the_check(loud: Any) -> None:
    made = to_bfloat16(loud)
    types = {tensor.data_type for tensor in made.graph.initializer}
    assert types == {onnx.TensorProto.BFLOAT16}
    assert made.opset_import[0].version == 22


def test_the_emulation_rounds_as_coarsely_as_bf16(loud: Any) -> None:
    inputs = np.random.default_rng(0).standard_normal((16, 8)).astype(np.float32)
    exact, rounded = logits(loud, inputs), logits(emulate(loud, "bf16"), inputs)
    gap = np.abs(exact - rounded).max() / np.abs(exact).max()
    assert 1e-5 < gap < 2**-6


class Cancel(nn.Module):
    """A small signal on a large pedestal: fine in fp32, lost in fp16."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head((x + 3000.0) - 3000.0)


def test_the_emulation_sees_what_the_cpus_runtime_hides() -> None:
    torch.manual_seed(0)
    graph = capture(Cancel().eval(), (8,), opset=20)
    inputs = np.random.default_rng(0).standard_normal((64, 8)).astype(np.float32)
    exact = logits(graph, inputs)
    hidden = np.abs(logits(to_half(graph), inputs) - exact).max()
    seen = np.abs(logits(emulate(graph, "fp16"), inputs) - exact).max()
    assert hidden < 0.01 < 0.3 < seen


def test_the_emulation_rounds_as_numpy_does() -> None:
    graph = capture(nn.Sequential(nn.Hardtanh(-70_000.0, 70_000.0), nn.ReLU()).eval(), (8,), opset=20)
    inputs = np.random.default_rng(0).standard_normal((64, 8)).astype(np.float32)
    wanted = np.maximum(inputs.astype(np.float16).astype(np.float32), 0)
    np.testing.assert_array_equal(logits(emulate(graph, "fp16"), inputs), wanted)


def test_nodes_that_stay_in_fp32_are_not_rounded_between(loud: Any) -> None:
    inputs = np.random.default_rng(0).standard_normal((16, 8)).astype(np.float32)
    exact = logits(loud, inputs)
    assert not np.isfinite(logits(emulate(loud, "fp16"), inputs)).all()
    kept = emulate(loud, "fp16", keep=["loud/Gemm", "calm/Gemm"])
    np.testing.assert_allclose(logits(kept, inputs), exact, rtol=2e-2)


class Counting(nn.Module):
    """Counts along a row how many values are above zero, as masks of positions do."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc((x > 0).float().cumsum(1))


def test_truth_values_are_still_cast_before_what_stays_in_fp32() -> None:
    torch.manual_seed(0)
    graph = capture(Counting().eval(), (8,), opset=20)
    half = to_half(graph)
    onnx.checker.check_model(half, full_check=True)
    inputs = np.random.default_rng(0).standard_normal((16, 8)).astype(np.float32)
    np.testing.assert_allclose(logits(half, inputs), logits(graph, inputs), atol=1e-2)


def test_a_node_that_is_called_as_an_input_or_a_weight_is_makes_a_value_beside_it() -> None:
    graph = normalise(odd.network()).model
    for node, name in zip(graph.graph.node, ("pictures", "kernel", "table", "scores", "last"), strict=True):
        node.name = name
    half = to_half(graph)
    onnx.checker.check_model(half, full_check=True)
    assert [value.name for value in (*half.graph.input, *half.graph.output)] == ["pictures", "scores"]
    assert {tensor.name for tensor in half.graph.initializer} == set(odd.weights())
    np.testing.assert_allclose(logits(half, odd.seeded()), logits(graph, odd.seeded()), atol=1e-2)
