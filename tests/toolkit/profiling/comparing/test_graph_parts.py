"""Every constant of a graph counts, wherever its nodes have it from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
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


def made(op: str, *more: str, **settings: Any) -> list[Any]:
    """Return a dense layer whose weight is computed from constants."""
    return [
        helper.make_node(op, ["w", *more], ["ready"], **settings),
        helper.make_node("Gemm", ["e", "ready"], ["y"], name="fc", transB=1),
    ]


MATRIX = {"w": np.arange(64, dtype=np.float32).reshape(8, 8), "g": np.float32(2)}
STORED = helper.make_node("Gemm", ["e", "w"], ["y"], name="fc", transB=1)


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (made("Mul", "g"), made("Add", "g"), ("weight made by Mul", "weight made by Add")),
        (
            made("Transpose", perm=[0, 1]), made("Transpose", perm=[1, 0]),
            ("weight made by Transpose (perm [0, 1])", "weight made by Transpose (perm [1, 0])"),
        ),
        (made("Transpose", perm=[1, 0]), [STORED], ("weight made by Transpose (perm [1, 0])", "")),
        (made("Identity"), [STORED], None),
    ],
)  # fmt: skip
def test_what_computes_a_weight_from_constants_is_compared(
    build: Build, first: list[Any], second: list[Any], told: tuple[str, str] | None
) -> None:
    before, after = (
        build(name, replaced(5, *nodes), weights=MATRIX)
        for name, nodes in (("a.onnx", first), ("b.onnx", second))
    )
    found = compare_networks(before, after)
    assert [(e.change, e.before, e.after) for e in found.changes] == ([("settings", *told)] if told else [])


def test_the_type_that_a_cast_makes_is_compared(build: Build) -> None:
    def graph(name: str, kind: int) -> Path:
        casts = [
            helper.make_node("Cast", ["e"], ["less"], name="less", to=kind),
            helper.make_node("Cast", ["less"], ["again"], name="again", to=TensorProto.FLOAT),
            helper.make_node("Gemm", ["again", "fc.weight"], ["y"], name="fc", transB=1),
        ]
        return build(name, replaced(5, *casts))

    found = compare_networks(graph("a.onnx", TensorProto.FLOAT16), graph("b.onnx", TensorProto.INT32))
    assert [(e.change, e.module) for e in found.changes] == [
        ("added", "Cast to int32 (1)"), ("removed", "Cast to float16 (1)"),
    ]  # fmt: skip
    assert compare_networks(graph("a.onnx", TensorProto.INT32), graph("b.onnx", TensorProto.INT32)).equal


def test_what_a_body_computes_is_compared_and_not_what_it_is_called(build: Build) -> None:
    def graph(name: str, *ops: str, reads: str = "p", prefix: str = "t", value: float = 1.0) -> Any:
        taken, nodes = reads, []
        for place, op in enumerate(ops):
            nodes.append(helper.make_node(op, [taken], [f"{prefix}{place}"]))
            taken = f"{prefix}{place}"
        nodes.append(helper.make_node("Mul", [taken, "gain"], [f"{prefix}_out"]))
        out = helper.make_tensor_value_info(f"{prefix}_out", TensorProto.FLOAT, None)
        body = helper.make_graph(nodes, prefix, [], [out])
        other = helper.make_graph([helper.make_node("Identity", ["p"], ["o"])], "o", [], [
            helper.make_tensor_value_info("o", TensorProto.FLOAT, None)
        ])  # fmt: skip
        dense = helper.make_node("Gemm", ["e", "fc.weight"], ["p"], name="fc", transB=1)
        branch = helper.make_node("If", ["on"], ["y"], name="if", then_branch=body, else_branch=other)
        path = build(name, replaced(5, dense, branch), weights={"on": np.bool_(True)})
        model = onnx.load(path)
        model.graph.initializer.append(numpy_helper.from_array(np.float32(value), "gain"))
        onnx.save(model, path)
        return path

    first = graph("a.onnx", "Relu", "Exp")
    assert compare_networks(first, graph("b.onnx", "Relu", "Exp", prefix="u")).equal
    for ops in (("Neg", "Exp"), ("Exp", "Relu")):
        (entry,) = compare_networks(first, graph("b.onnx", *ops)).changes
        assert (entry.change, entry.module) == ("settings", "if")
        assert (entry.before or "").startswith("then_branch Relu, Exp, Mul (")
        assert (entry.after or "").startswith(f"then_branch {', '.join(ops)}, Mul (")
    (entry,) = compare_networks(first, graph("b.onnx", "Relu", "Exp", value=3.0)).changes
    assert (entry.change, entry.module, entry.difference) == ("weights", "if", 2.0)


@pytest.mark.parametrize("opset", [17, 13])  # of another opset than the file's, it cannot be inlined
def test_functions_of_a_file_are_compared_by_what_they_compute(tmp_path: Path, opset: int) -> None:
    def graph(name: str, op: str, constant: float) -> Path:
        body = [
            helper.make_node("Constant", [], ["c"], value_float=constant),
            helper.make_node(op, ["a", "c"], ["b"]),
        ]
        act = helper.make_function("own", "Act", ["a"], ["b"], body, [helper.make_opsetid("", opset)])
        calls = [
            helper.make_node("Act", [given], [made], domain="own", name=given)
            for given, made in (("x", "z"), ("z", "y"))
        ]
        ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, ["N", 4]) for end in "xy"]
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
        drawn = helper.make_graph(calls, "g", ends[:1], ends[1:])
        path = tmp_path / name
        onnx.save(helper.make_model(drawn, functions=[act], opset_imports=opsets, ir_version=9), path)
        return path

    first = graph("a.onnx", "Mul", 2.0)
    assert compare_networks(first, graph("b.onnx", "Mul", 2.0)).equal
    found = compare_networks(first, graph("b.onnx", "Mul", 3.0))
    assert [(e.change, e.difference) for e in found.changes] == [("weights", 1.0)] * 2
    assert not compare_networks(first, graph("b.onnx", "Add", 2.0)).equal


def test_sparse_weights_are_compared(build: Build) -> None:
    def graph(name: str, value: float) -> Path:
        path = build(name, replaced(5, STORED))
        model = onnx.load(path)
        values = numpy_helper.from_array(np.float32([value]), "w")
        places = numpy_helper.from_array(np.int64([5]), "places")
        model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [5, 8]))
        onnx.save(model, path)
        return path

    (entry,) = compare_networks(graph("a.onnx", 1.0), graph("b.onnx", 9.0)).changes
    assert (entry.before, entry.difference) == ("weight: float32 5×8", 8.0)


def test_a_softmax_is_compared_by_what_its_opset_means(tmp_path: Path) -> None:
    def graph(opset: int, shape: list[Any], **settings: int) -> Path:
        ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, shape) for end in "xy"]
        node = helper.make_node("Softmax", ["x"], ["y"], name="scores", **settings)
        drawn = helper.make_graph([node], "g", ends[:1], ends[1:])
        path = tmp_path / f"{opset}-{len(shape)}-{settings}.onnx"
        onnx.save(
            helper.make_model(drawn, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path
        )
        return path

    flat, deep = ["N", 4], ["N", 4, 5]
    assert compare_networks(graph(11, flat), graph(17, flat)).equal
    assert compare_networks(graph(11, deep, axis=2), graph(17, deep)).equal
    (entry,) = compare_networks(graph(11, deep), graph(17, deep)).changes
    assert (entry.change, entry.before, entry.after) == ("settings", "axis 1 and all after it", "axis 2")
