"""Nodes bear the names of the modules they came from, whatever the network does with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from exporters.graphs.capture import capture
from toolkit.graphs.naming import modules_of


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x += self.norm(self.conv(x))
        return self.relu(x)


class Odd(nn.Module):
    """Folds a norm, keeps another (behind a pool), calls a block twice, drops out, has two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.block = Block()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.add_module("последний слой", nn.Linear(4, 10))
        self.second = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.stem(x)
        x = self.block(self.block(x))
        x = F.relu(torch.cat([x, F.relu(x)], 1))[:, :4]
        x = self.drop(torch.flatten(self.norm(self.pool(x)), 1))
        return getattr(self, "последний слой")(x), self.second(x)


@pytest.fixture(scope="module")
def graph() -> Any:
    torch.manual_seed(0)
    module = Odd()
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return capture(module.eval(), (1, 8, 8), opset=20)


def test_each_module_is_named_once_and_a_folded_norm_stands_behind_its_convolution(graph: Any) -> None:
    assert [(node.op_type, modules_of(node)) for node in graph.graph.node] == [
        ("Conv", ["stem.0", "stem.1"]),
        ("Relu", ["stem.2"]),
        ("Conv", ["block.conv"]),  # its weights serve two calls, so its norm is not folded into them
        ("BatchNormalization", ["block.norm"]),
        ("Add", ["block/add"]),
        ("Relu", ["block.relu"]),
        ("Conv", ["block.conv#2"]),
        ("BatchNormalization", ["block.norm#2"]),
        ("Add", ["block/add#2"]),
        ("Relu", ["block.relu#2"]),
        ("Relu", ["/relu"]),
        ("Concat", ["/cat"]),
        ("Relu", ["/relu#2"]),
        ("Slice", ["/getitem"]),
        ("ReduceMean", ["pool"]),
        ("BatchNormalization", ["norm"]),
        ("Reshape", ["/flatten"]),
        ("Gemm", ["последний слой"]),
        ("Gemm", ["second"]),
    ]


def test_nodes_are_called_module_and_op_and_no_two_alike(graph: Any) -> None:
    names = [node.name for node in graph.graph.node]
    assert names[0] == "stem.0/Conv"
    assert "block/add#2/Add" in names
    assert "последний слой/Gemm" in names
    assert len(set(names)) == len(names)


def test_values_are_called_like_the_nodes_that_make_them(graph: Any) -> None:
    assert [value.name for value in graph.graph.input] == ["input"]
    assert [value.name for value in graph.graph.output] == ["logits", "logits_2"]
    assert graph.graph.node[1].output[0] == "stem.2/Relu"
    weights = {tensor.name for tensor in graph.graph.initializer}
    assert {"stem.0.weight", "последний слой.weight"} <= weights
    assert "/flatten/Reshape.shape" in weights


def test_every_inner_value_has_a_shape_with_a_free_batch(graph: Any) -> None:
    known = {value.name: value for value in (*graph.graph.value_info, *graph.graph.output)}
    for node in graph.graph.node:
        dims = known[node.output[0]].type.tensor_type.shape.dim
        assert dims[0].dim_param == "batch"
        assert all(d.HasField("dim_value") for d in dims[1:])


def test_nothing_of_the_machine_that_captured_it_is_inside(graph: Any) -> None:
    text = str(graph)
    assert "stack_trace" not in text
    assert str(Path(__file__).parent) not in text


@pytest.mark.parametrize("batch", [1, 256])
def test_the_batch_is_dynamic(graph: Any, batch: int) -> None:
    import numpy as np

    from toolkit.graphs.running import session

    first, second = session(graph).session.run(None, {"input": np.zeros((batch, 1, 8, 8), np.float32)})
    assert (first.shape, second.shape) == ((batch, 10), (batch, 3))


def test_a_network_that_cannot_be_captured_is_refused_in_one_line() -> None:
    class Branches(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if float(x.sum()) > 0 else -x

    with pytest.raises(Exception, match="torch cannot export Branches as ONNX opset 20") as caught:
        capture(Branches(), (1, 4, 4), opset=20)
    assert "\n" not in str(caught.value)


def test_weights_over_two_gigabytes_are_refused_before_any_work() -> None:
    with torch.device("meta"):
        huge = nn.Linear(25_000, 25_000)
    with pytest.raises(Exception, match=r"holds 2\.3 GiB of weights; one ONNX file ends at 2 GiB"):
        capture(huge, (25_000,), opset=20)


def test_the_graph_passes_the_full_check(graph: Any) -> None:
    onnx.checker.check_model(graph, full_check=True)


def test_a_split_bears_the_name_of_the_call_that_split() -> None:
    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            first, second = x.chunk(2, 1)
            return torch.cat([self.conv(first), second], 1)

    model = capture(Halves().eval(), (4, 8, 8), opset=20)
    assert [(node.op_type, modules_of(node)) for node in model.graph.node] == [
        ("Split", ["/chunk"]),
        ("Conv", ["conv"]),
        ("Concat", ["/cat"]),
    ]
