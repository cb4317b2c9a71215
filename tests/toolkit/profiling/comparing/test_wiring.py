"""The same modules in another order, or fed from elsewhere, are no equal network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
import pytest
from onnx import NodeProto, TensorProto, helper

from tests.toolkit.profiling.comparing.test_networks import run, told
from toolkit.profiling.comparing.networks import compare_networks

RELU = helper.make_node("Relu", ["x"], ["r"], name="act")
SIGMOID = helper.make_node("Sigmoid", ["r"], ["s"], name="gate")


def node(op: str, *given: str, made: Sequence[str] = ("y",), name: str = "last") -> NodeProto:
    return helper.make_node(op, list(given), list(made), name=name)


def graph(path: Path, *nodes: NodeProto, outputs: Sequence[str] = ("y",)) -> Path:
    ends = {end: helper.make_tensor_value_info(end, TensorProto.FLOAT, ["N", 4]) for end in ("x", *outputs)}
    drawn = helper.make_graph(list(nodes), "g", [ends["x"]], [ends[name] for name in outputs])
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(drawn, opset_imports=opsets, ir_version=9), path)
    return path


@pytest.mark.parametrize(
    ("first", "second", "changes"),
    [
        # each a pair of last nodes after x → act → gate
        ([node("Sub", "x", "s")], [node("Sub", "s", "x")], [("last", "reads x, gate", "reads gate, x")]),
        ([node("Add", "s", "x")], [node("Add", "s", "r")], [("last", "reads x", "reads act")]),
        ([node("Add", "s", "x")], [node("Add", "x", "s")], []),
        ([node("Add", "x", "x")], [node("Add", "x", "s")], [("last", "reads x", "reads gate")]),
        (
            [node("Concat", "s", "x", made=["c"], name="join"), node("Split", "c", made=["y", "z"])],
            [node("Concat", "s", "x", made=["c"], name="join"), node("Split", "c", made=["z", "y"])],
            [("output y", "made by last", "made by last, output 2")],
        ),
        # a node that one side has alone is passed over
        (
            [node("Exp", "s")],
            [node("Abs", "s", made=["t"], name="more"), node("Exp", "t")],
            [],
        ),
        (
            [node("Exp", "s")],
            [node("Abs", "r", made=["t"], name="more"), node("Exp", "t")],
            [("last", "reads gate", "reads act")],
        ),
    ],
)
def test_where_the_modules_of_a_graph_read_from_is_compared(
    tmp_path: Path,
    first: list[NodeProto],
    second: list[NodeProto],
    changes: list[tuple[str, str, str]],
) -> None:
    for nodes in (first, second):
        for one in nodes:
            if one.op_type in ("Concat", "Split"):
                one.attribute.append(helper.make_attribute("axis", 0))
    paths = [
        graph(tmp_path / name, RELU, SIGMOID, *nodes)
        for name, nodes in (("a.onnx", first), ("b.onnx", second))
    ]
    found = [entry for entry in told(*paths) if entry[0] == "wiring"]
    assert found == [("wiring", *change) for change in changes]
    assert compare_networks(paths[0], paths[0]).equal


def test_values_of_other_names_and_behind_what_converts_them_are_the_same(tmp_path: Path) -> None:
    first = graph(tmp_path / "a.onnx", RELU, SIGMOID, node("Sub", "s", "x"))
    other = graph(
        tmp_path / "b.onnx", node("Relu", "x", made=["n1"], name="act"),
        node("Sigmoid", "n1", made=["n2"], name="gate"), node("Sub", "n2", "x"),
    )  # fmt: skip
    cast = helper.make_node("Cast", ["r"], ["half"], name="half", to=TensorProto.FLOAT)
    converting = graph(
        tmp_path / "c.onnx",
        RELU,
        cast,
        node("Sigmoid", "half", made=["s"], name="gate"),
        node("Sub", "s", "x"),
    )
    assert told(first, other) == []
    assert [entry[:2] for entry in told(first, converting)] == [("added", "Cast to float32 (1)")]


ORDERS = """
import torch
from torch import nn
from toolkit.models import ModelSpec

class Net(nn.Module):
    def __init__(self, channels, classes, kind):
        super().__init__()
        self.kind, self.conv = kind, nn.Conv2d(channels, 4, 3, padding=1)
        self.bn, self.act, self.fc = nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Linear(4, classes)
        self.first, self.second = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))

    def forward(self, x):
        start = self.conv(x)
        x = self.bn(self.act(start)) if self.kind == "act-first" else self.act(self.bn(start))
        if self.kind == "swapped":
            x = start - x
        elif self.kind == "elsewhere":
            x = x - x
        else:
            x = x - start
        x = x * (self.second if self.kind == "scaled" else self.first)
        return self.fc(x.mean((2, 3)))

KINDS = ("bn-first", "act-first", "swapped", "elsewhere", "scaled", "again")
MODELS = [
    ModelSpec(name=kind, family="own", input_shape=(1, 8, 8), classes=3,
              build=lambda channels, classes, kind=kind: Net(channels, classes, kind))
    for kind in KINDS
]
"""


@pytest.mark.parametrize(
    ("other", "changes"),
    [
        (
            "act-first",
            [("act", "reads bn", "reads conv"), ("bn", "reads conv", "reads act"),
             ("/sub", "reads act, conv", "reads bn, act")],
        ),
        ("swapped", [("/sub", "reads act, conv", "reads conv, act")]),
        ("elsewhere", [("/sub", "reads conv", "reads act")]),
        ("scaled", [("/mul", "reads first", "reads second")]),
        ("again", []),
    ],
)  # fmt: skip
def test_the_order_in_which_networks_of_torch_call_their_layers_is_compared(
    tmp_path: Path, other: str, changes: list[tuple[str, str, str]]
) -> None:
    pytest.importorskip("torch")
    code = tmp_path / "order.py"
    code.write_text(ORDERS)
    found = compare_networks("bn-first", other, root=tmp_path, model_file=code)
    assert {(e.change, e.module, e.before, e.after) for e in found.changes} == {
        ("wiring", *change) for change in changes
    }
    strict = run("bn-first", other, "--model-file", code, "--artifacts", tmp_path, "--strict")
    assert strict.exit_code == (4 if changes else 0)
