"""Every constant of a graph counts, wherever its nodes have it from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.toolkit.profiling.comparing.conftest import Build, replaced
from toolkit.graphs.naming import note_modules
from toolkit.profiling.comparing.networks import compare_networks


def test_every_weight_of_two_nodes_of_one_module_is_compared(build: Build) -> None:
    dense = [
        helper.make_node("MatMul", ["e", "fc.kernel"], ["p"], name="fc/MatMul"),
        helper.make_node("Add", ["p", "fc.bias"], ["y"], name="fc/Add"),
    ]
    for node in dense:
        note_modules(node, ["fc"], "Linear")
    held = {"fc.kernel": np.ones((8, 5), np.float32), "fc.bias": np.zeros(5, np.float32)}
    moved = {**held, "fc.bias": np.full(5, 0.5, np.float32)}
    first = build(nodes=replaced(5, *dense), weights=held)
    found = compare_networks(first, build("b.onnx", replaced(5, *dense), weights=moved))
    (entry,) = found.changes
    assert (entry.module, entry.before, entry.difference) == ("fc", "Add B: float32 5", 0.5)


QUANTISED = (
    helper.make_node("QuantizeLinear", ["e", "in.scale", "in.zero"], ["e_q"], name="q1"),
    helper.make_node("DequantizeLinear", ["e_q", "in.scale", "in.zero"], ["e_dq"], name="dq1"),
    helper.make_node("DequantizeLinear", ["fc.int8", "fc.scale", "fc.zero"], ["fc_dq"], name="dq2"),
    helper.make_node("Gemm", ["e_dq", "fc_dq"], ["f"], name="fc", transB=1),
    helper.make_node("QuantizeLinear", ["f", "out.scale", "out.zero"], ["y"], name="q3"),
)
SCALES = {
    "in.scale": np.float32(0.5), "in.zero": np.uint8(3), "fc.int8": np.ones((5, 8), np.int8),
    "fc.scale": np.float32(0.25), "fc.zero": np.int8(0), "out.scale": np.float32(1), "out.zero": np.uint8(0),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "told_as", "apart"),
    [
        ("fc.scale", np.float32(0.5), {"weight x_scale: float32 scalar"}, 0.25),
        ("fc.zero", np.int8(1), {"weight x_zero_point: int8 scalar"}, None),
        (
            "in.scale", np.float32(1),
            {"input 0 x_scale: float32 scalar", "input 0 y_scale: float32 scalar"}, 0.5,
        ),
        ("out.zero", np.uint8(9), {"output y_zero_point: uint8 scalar"}, None),
    ],
)  # fmt: skip
def test_scales_and_zero_points_are_compared(
    build: Build, name: str, value: Any, told_as: set[str], apart: float | None
) -> None:
    nodes, uint8 = replaced(5, *QUANTISED), TensorProto.UINT8
    first = build(nodes=nodes, weights=SCALES, output=uint8)
    assert compare_networks(first, first).equal
    found = compare_networks(first, build("b.onnx", nodes, weights={**SCALES, name: value}, output=uint8))
    assert not found.equal
    assert {(e.change, e.module, e.before, e.difference) for e in found.changes} == {
        ("weights", "fc", told, apart) for told in told_as
    }


def test_constants_behind_what_combines_them_and_within_bodies_are_compared(build: Build) -> None:
    def body(constant: float) -> Any:
        held = numpy_helper.from_array(np.float32(constant), "c")
        made = helper.make_tensor_value_info("t", TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node("Mul", ["p", "c"], ["t"])], "g", [], [made], [held])

    def nodes(inside: float, given: float) -> list[Any]:
        return [
            helper.make_node("Constant", [], ["gain"], value_float=given),
            helper.make_node("Mul", ["fc.weight", "gain"], ["scaled"]),
            helper.make_node("Gemm", ["e", "scaled"], ["p"], name="fc", transB=1),
            helper.make_node("If", ["on"], ["y"], name="if", then_branch=body(inside), else_branch=body(0.0)),
        ]

    def compared(*values: float) -> list[tuple[str, str | None, float | None]]:
        held = {"on": np.bool_(True)}
        first = build(nodes=replaced(5, *nodes(1.0, 1.0)), weights=held)
        found = compare_networks(first, build("b.onnx", replaced(5, *nodes(*values)), weights=held))
        return [(entry.module, entry.before, entry.difference) for entry in found.changes]

    assert compared(1.0, 1.0) == []
    assert compared(1.0, 3.0) == [("fc", "weight B: float32 scalar", 2.0)]
    assert compared(2.0, 1.0) == [("if", "constant 1 inside: float32 scalar", 1.0)]
