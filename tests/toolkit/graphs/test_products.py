"""Multiply-adds and weights of ONNX nodes: known numbers by operator, None with a reason for the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from toolkit.graphs.counting import SourceGraph, count_graph

FLOAT = TensorProto.FLOAT


def value(name: str, shape: Sequence[int | str] | None, kind: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def weight(name: str, *shape: int) -> Any:
    return numpy_helper.from_array(np.ones(shape, np.float32), name)


def counted(
    folder: Path,
    nodes: Sequence[Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    weights: Sequence[Any] = (),
    opset: int = 20,
) -> SourceGraph:
    domains = [helper.make_opsetid(d, 1) for d in {node.domain for node in nodes} - {""}]
    opsets = [helper.make_opsetid("", opset), *domains]
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), list(weights))
    path = folder / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return count_graph(path, batch=2)


@pytest.mark.parametrize(("op", "gates"), [("RNN", 1), ("GRU", 3), ("LSTM", 4)])
def test_a_recurrent_layer_meets_its_matrices_once_a_step(op: str, gates: int, tmp_path: Path) -> None:
    node = helper.make_node(op, ["x", "w", "r"], ["y"], name="rnn", hidden_size=6)
    weights = [weight("w", 1, gates * 6, 5), weight("r", 1, gates * 6, 6)]
    found = counted(tmp_path, [node], [value("x", [7, 3, 5])], [value("y", [7, 1, 3, 6])], weights)
    assert found.nodes[0].macs == 7 * 3 * gates * 6 * (5 + 6)


@pytest.mark.parametrize(
    ("shapes", "attributes", "macs"),
    [
        (([2, 4, 10, 8], [2, 4, 12, 8], [2, 4, 12, 6]), {}, 2 * 4 * 10 * 12 * (8 + 6)),
        (
            ([2, 10, 32], [2, 12, 32], [2, 12, 32]),
            {"q_num_heads": 4, "kv_num_heads": 4},
            2 * 10 * 12 * (32 + 32),
        ),
    ],
)
def test_attention_is_counted_in_both_of_its_layouts(
    shapes: tuple[list[int], ...], attributes: dict[str, int], macs: int, tmp_path: Path
) -> None:
    node = helper.make_node("Attention", ["q", "k", "v"], ["y"], name="attention", **attributes)
    inputs = [value(name, shape) for name, shape in zip("qkv", shapes, strict=True)]
    found = counted(tmp_path, [node], inputs, [value("y", None)], opset=23)
    assert found.nodes[0].macs == macs


@pytest.mark.parametrize(
    ("equation", "second", "macs"),
    [
        ("bnd,bmd->bnm", [2, 5, 4], 2 * 3 * 5 * 4),
        ("bnd,bnd->bnd", [2, 3, 4], 0),
        ("b...,b...->b", [2, 3, 4], None),
    ],
)
def test_einsum_is_a_product_where_it_sums(
    equation: str, second: list[int], macs: int | None, tmp_path: Path
) -> None:
    node = helper.make_node("Einsum", ["x", "z"], ["y"], name="e", equation=equation)
    found = counted(tmp_path, [node], [value("x", [2, 3, 4]), value("z", second)], [value("y", None)])
    assert found.nodes[0].macs == macs
    assert (found.nodes[0].uncounted is None) is (macs is not None)


def branching(folder: Path, kernels: tuple[int, int]) -> SourceGraph:
    """Return an If between two convolutions of 4 channels, of these sizes."""
    shape, branches = [2, 4, 8, 8], []
    for name, size in zip(("yes", "no"), kernels, strict=True):
        node = helper.make_node("Conv", ["x", "w"], [name], name="conv", pads=[size // 2] * 4)
        branches.append(
            helper.make_graph([node], name, [], [value(name, shape)], [weight("w", 4, 4, size, size)])
        )
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], name="mean", keepdims=0),
        helper.make_node("Greater", ["m", "zero"], ["c"], name="greater"),
        helper.make_node("If", ["c"], ["y"], name="if", then_branch=branches[0], else_branch=branches[1]),
    ]
    zero = numpy_helper.from_array(np.float32(0), "zero")
    return counted(folder, nodes, [value("x", shape)], [value("y", shape)], [zero])


def test_branches_that_do_alike_are_counted_and_others_not_but_their_weights_are(tmp_path: Path) -> None:
    alike = branching(tmp_path, (3, 3)).nodes[-1]
    assert (alike.macs, alike.parameters) == (2 * 4 * 64 * 36, 2 * 144)
    unlike = branching(tmp_path, (3, 1)).nodes[-1]
    assert (unlike.macs, unlike.uncounted) == (None, "its branches differ")
    assert (unlike.parameters, unlike.weights_bytes) == (144 + 16, 640)
    assert "x" in unlike.inputs  # which the branches read from the graph around them


def looped(folder: Path, inner: Any, held: Sequence[Any] = (), *, turns: str = "turns", on: str = "c") -> Any:
    """Return the node of a Loop of five turns over (2, 4), which goes on while `on` holds."""
    kinds = [value("i", [], TensorProto.INT64), value("c", [], TensorProto.BOOL), value("v", [2, 4])]
    ends = [value("d", [], TensorProto.BOOL), value("u", [2, 4])]
    nodes = [helper.make_node("Identity", [on], ["d"], name="same"), *inner]
    body = helper.make_graph(nodes, "b", kinds, ends, held)
    loop = helper.make_node("Loop", [turns, "", "x"], ["y"], name="loop", body=body)
    inputs = [value("x", [2, 4]), value("asked", [], TensorProto.INT64)]
    five = numpy_helper.from_array(np.int64(5), "turns")
    return counted(folder, [loop], inputs, [value("y", [2, 4])], [five]).nodes[0]


def test_the_body_of_a_loop_is_counted_as_often_as_it_runs(tmp_path: Path) -> None:
    # a shape in between that only inference tells
    nodes = [
        helper.make_node("MatMul", ["v", "w"], ["m"], name="wide"),
        helper.make_node("MatMul", ["m", "z"], ["u"], name="narrow"),
    ]
    held = [weight("w", 4, 6), weight("z", 6, 4)]
    found = looped(tmp_path, nodes, held)
    assert (found.macs, found.uncounted) == (5 * 2 * (4 * 6 + 6 * 4), None)
    assert found.parameters == 48  # how many turns there are is no weight
    assert looped(tmp_path, [helper.make_node("Relu", ["v"], ["u"], name="relu")]).macs == 0
    # asked for as an input, or ended by what it computes
    ends = helper.make_node("Less", ["i", "turns"], ["e"], name="less")
    for open_end in (
        looped(tmp_path, nodes, held, turns="asked"),
        looped(tmp_path, [ends, *nodes], held, on="e"),
    ):
        assert (open_end.macs, open_end.uncounted) == (None, "how often its body runs is not in the file")


def test_the_body_of_a_scan_is_counted_once_for_each_place_of_its_axis(tmp_path: Path) -> None:
    product = helper.make_node("MatMul", ["v", "w"], ["u"], name="fc")
    ends = [value("u", [2, 4])]
    body = helper.make_graph([product], "b", [value("v", [2, 4])], ends, [weight("w", 4, 4)])
    node = helper.make_node("Scan", ["x"], ["y"], name="scan", body=body, num_scan_inputs=1)
    found = counted(tmp_path, [node], [value("x", [7, 2, 4])], [value("y", [7, 2, 4])])
    assert found.nodes[0].macs == 7 * 2 * 16


def test_what_no_formula_knows_is_none_with_a_reason(tmp_path: Path) -> None:
    node = helper.make_node("Strange", ["x"], ["y"], name="s", domain="own.domain")
    (found,) = counted(tmp_path, [node], [value("x", [2, 4])], [value("y", [2, 4])]).nodes
    assert (found.macs, found.uncounted) == (None, "the products of own.domain.Strange are not worked out")


def test_a_weight_that_two_nodes_read_is_there_once(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], name="one"),
        helper.make_node("MatMul", ["m", "w"], ["y"], name="two"),
    ]
    found = counted(tmp_path, nodes, [value("x", [2, 4])], [value("y", [2, 4])], [weight("w", 4, 4)])
    assert [(node.parameters, node.weights_bytes) for node in found.nodes] == [(16, 64), (0, 0)]
    assert [node.macs for node in found.nodes] == [32, 32]


@pytest.mark.parametrize("batch", [-1, 0, None, "n"])
def test_an_open_batch_is_counted_at_the_one_that_is_asked_for_however_it_is_written(
    batch: Any, tmp_path: Path
) -> None:
    dense = helper.make_node("Gemm", ["x", "w"], ["y"], name="dense")
    graph = helper.make_graph(
        [dense], "open", [value("x", [batch, 3])], [value("y", [batch, 5])], [weight("w", 3, 5)]
    )
    onnx.save(helper.make_model(graph), tmp_path / "open.onnx")
    found = count_graph(tmp_path / "open.onnx", batch=2)
    assert [(node.macs, node.output_shape, node.output_bytes) for node in found.nodes] == [(30, (2, 5), 40)]
    assert found.tensor_bytes["x"] == 24
