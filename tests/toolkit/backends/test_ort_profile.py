"""ONNX Runtime's profile and graph, read: times by window, memory, weights, and how names are spelt."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from toolkit.artifacts import shipped_root
from toolkit.backends._ort_profile import (
    SPELLING,
    Event,
    EventFacts,
    OptimizedGraph,
    calls_by_node,
    executed,
    read_events,
    read_optimized,
    read_profile,
)
from toolkit.errors import CorruptError
from toolkit.traces import ExecutedNode, TraceMemory, without

KERNEL = "_kernel_time"


def event(name: str, ts: float, dur: float, **facts: object) -> Event:
    return Event(name=f"{name}{KERNEL}", cat="Node", ts=ts, dur=dur, args=EventFacts(**facts))  # type: ignore[arg-type]


def profile(durations: dict[str, list[float]], **facts: object) -> list[Event]:
    """Return the events of nodes that run one after the other, call by call, in microseconds."""
    found, ts = [], 0.0
    for call in range(max(map(len, durations.values()))):
        for name, spent in durations.items():
            found.append(event(name, ts, spent[call], **facts))
            ts += spent[call]
    return found


def test_the_first_run_is_left_out_and_the_rest_are_means_by_window() -> None:
    events = profile({"conv": [900, 10, 20, 30, 50], "relu": [500, 1, 1, 2, 4]})
    trace = read_profile(events, OptimizedGraph(), windows=2, runs=2, totals=(0.05, 0.1))
    assert [node.name for node in trace.nodes] == ["conv", "relu"]
    np.testing.assert_allclose(trace.node_ms, [[0.015, 0.001], [0.04, 0.003]])  # type: ignore[arg-type]
    assert (trace.total_ms, trace.runs) == ((0.05, 0.1), 4)


def test_a_window_has_no_hiccup_of_its_slowest_tenth() -> None:
    spent = [10.0] * 19 + [100_000.0]
    trace = read_profile(
        profile({"conv": [900, *spent]}), OptimizedGraph(), windows=1, runs=20, totals=(1.0,)
    )
    np.testing.assert_allclose(trace.node_ms, [[0.01]])  # type: ignore[arg-type]


def test_a_node_in_a_loop_costs_all_its_calls_of_a_run() -> None:
    """Three calls in each of four runs and in the warm-up, of which none counts."""
    events = [event("body", float(ts), 900.0 if ts < 3 else 6.0) for ts in range(15)]
    trace = read_profile(events, OptimizedGraph(), windows=2, runs=2, totals=(1.0, 1.0))
    np.testing.assert_allclose(trace.node_ms, [[0.018], [0.018]])  # type: ignore[arg-type]


def test_what_runs_in_a_loops_body_is_told_apart_and_counted_once() -> None:
    events = []
    for start in (0.0, 1000.0):
        events += [event("copy", start, 10.0), event("loop", start + 20, 500.0, op_name="Loop")]
        for turn in range(4):
            events += [
                event("conv", start + 30 + 100 * turn, 60.0),
                event("copy", start + 95 + 100 * turn, 5.0),
            ]
        events.append(event("conv", start + 600, 40.0))
    trace = read_profile(events, OptimizedGraph(), windows=1, runs=1, totals=(1.0,))
    assert trace.node_ms is not None
    found = {
        node.name: (node.inside, round(ms, 6)) for node, ms in zip(trace.nodes, trace.node_ms[0], strict=True)
    }
    assert found == {
        "copy": (None, 0.01),
        "loop": (None, 0.24),
        "loop › conv": ("loop", 0.24),
        "loop › copy": ("loop", 0.02),
        "conv": (None, 0.04),
    }


def test_a_node_that_the_optimizer_left_without_a_name_is_found_by_its_kind_and_place() -> None:
    graph = {
        key: ExecutedNode(name=key, type="Mul", outputs=(written,))
        for key, written in ((" Mul 1", "a"), (" Mul 2", "b"))
    }
    events = profile({"Mul_7": [1, 2], "Mul_9": [1, 2]}, op_name="Mul")
    trace = read_profile(events, OptimizedGraph(nodes=graph), windows=1, runs=1, totals=(1.0,))
    assert [(node.name, node.outputs) for node in trace.nodes] == [("Mul_7", ("a",)), ("Mul_9", ("b",))]


def test_nodes_come_in_the_order_of_execution_and_nothing_else_is_one() -> None:
    events = [
        event("late", 9.0, 1.0),
        event("early", 1.0, 1.0),
        Event(name="model_run", cat="Session", ts=0.0, dur=9.0),
        Event(name="early_fence_before", cat="Node", ts=0.5, dur=0.1),
        event("early", 5.0, 2.0),
    ]
    calls = calls_by_node(events)
    assert {name: [one.dur for one in found] for name, found in calls.items()} == {
        "early": [1.0, 2.0],
        "late": [1.0],
    }
    assert list(calls) == ["early", "late"]


def test_the_arenas_peak_is_what_the_first_run_took_beyond_what_was_held_before() -> None:
    """1,000 bytes are the weights'; the first node asks for 64 of them and the most at once are 1,500."""
    events = [
        event("a", 0, 1, mem_bytes_in_use="1064", mem_in_use_delta="64", mem_in_use_peak="1064"),
        event("b", 1, 1, mem_bytes_in_use=1400, mem_in_use_peak=1500),
        event("a", 2, 1, mem_bytes_in_use="9064", mem_in_use_delta="64", mem_in_use_peak="9999"),
        event("b", 3, 1),
    ]
    trace = read_profile(events, OptimizedGraph(), windows=1, runs=1, totals=(0.002,))
    # 1,064 in use less 64 that the node itself took were there before it
    assert trace.memory == TraceMemory(peak_activation_bytes=1500 - 1064 + 64)
    assert trace.note is None


def test_memory_that_is_not_told_is_unknown_with_its_reason() -> None:
    trace = read_profile(profile({"a": [1, 1]}), OptimizedGraph(), windows=1, runs=1, totals=(0.001,))
    assert trace.memory.peak_activation_bytes is None
    assert "no arena events" in trace.memory.why["peak_activation_bytes"]


def test_a_node_has_the_shape_type_and_bytes_that_its_event_tells() -> None:
    told = event("c", 0, 1, op_name="Conv", output_type_shape=({"float16": (1, 6, 28, 28)}, {"int64": (2,)}))
    optimized = ExecutedNode(name="c", type="FusedConv", inputs=("x", "w"), outputs=("y",), weights_bytes=300)
    node = executed("c", told, optimized)
    assert (node.type, node.inputs, node.outputs, node.weights_bytes) == (
        "FusedConv",
        ("x", "w"),
        ("y",),
        300,
    )
    assert (node.output_shape, node.output_dtype) == ((1, 6, 28, 28), "float16")
    assert node.output_bytes == 6 * 28 * 28 * 2 + 2 * 8
    assert not node.moves_data


def test_what_is_not_told_of_a_node_is_none() -> None:
    node = executed("r", event("r", 0, 1, op_name="ReorderOutput"))
    assert (node.type, node.moves_data) == ("ReorderOutput", True)
    assert (node.output_shape, node.output_dtype, node.output_bytes, node.weights_bytes) == (None,) * 4
    assert executed("s", event("s", 0, 1, output_type_shape=({"string": (3,)},))).output_bytes is None
    assert executed("u", event("u", 0, 1)).type == "unknown"


def test_a_damaged_profile_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps([{"name": "a", "dur": "long"}]))
    with pytest.raises(CorruptError, match=r"profile .*profile\.json cannot be read: .*dur") as raised:
        read_events(path)
    assert "\n" not in str(raised.value)


def test_lenets_layers_hold_their_known_weights() -> None:
    graph = read_optimized(next(shipped_root().glob("lenet-maxpool/*.onnx")))
    found = {name: node.weights_bytes for name, node in graph.nodes.items() if node.type in ("Conv", "Gemm")}
    figures = [6 * 26, 16 * 151, 120 * 401, 84 * 121, 10 * 85]
    assert list(found.values()) == [4 * count for count in figures]
    assert sum(figures) == 61_706


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("act1/Relu_nchwc", "act1/Relu"),
        ("pool2/MaxPool_nchwc", "pool2/MaxPool"),
        ("fused conv1_nchwc", "conv1"),
        ("features.1/out_bn_nchwc", "features.1/out"),
        ("scale_mul_nchwc", "scale"),
        ("conv_nchwc_token_17", "conv"),
        ("conv1/Conv", None),
        ("ReorderOutput_token_5", None),
    ],
)
def test_a_blocked_kernel_is_named_after_the_tensor_that_it_was_made_for(
    name: str, tensor: str | None
) -> None:
    assert SPELLING.made_for is not None
    found = SPELLING.made_for.match(name)
    assert (found[1] if found else None) == tensor


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("fused fc1/Gemm", "fc1/Gemm"),
        ("fc1/MatMul/MatMulAddFusion", "fc1/MatMul"),
        ("add/Add_token_3", "add/Add"),
        ("fc3/Gemm", "fc3/Gemm"),
        ("unfused fc1/Gemm", "unfused fc1/Gemm"),
    ],
)
def test_what_takes_others_in_says_so_in_its_name(name: str, source: str) -> None:
    assert without(SPELLING.taken_in, name) == source


def test_copies_are_numbered_and_moved_tensors_say_so() -> None:
    assert without(SPELLING.numbered, "Transpose_token_12") == "Transpose"
    assert without(SPELLING.numbered, "Transpose_12") == "Transpose_12"
    moved = ("InsertedPrecisionFreeCast_x", "x_pre_q", "x_post_dq", "x_pre_dq", "x_post_q")
    assert {without(SPELLING.moved, name) for name in moved} == {"x"}


def test_what_vanishes_into_a_kernel_is_more_than_what_follows_one() -> None:
    assert {"Relu", "Add", "Clip"} <= SPELLING.follows
    assert SPELLING.folds - SPELLING.follows == {"BatchNormalization", "Mul"}


def test_a_weight_that_two_nodes_read_counts_once_and_those_of_bodies_count(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    w = numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
    own = numpy_helper.from_array(np.ones((4, 4), np.float32), "own")
    value = helper.make_tensor_value_info("u", TensorProto.FLOAT, [2, 4])
    bodies = [
        helper.make_graph(
            [helper.make_node("MatMul", ["b", weight], ["u"], name="fc")], name, [], [value], held
        )
        for name, weight, held in (("then", "own", [own]), ("else", "w", []))
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="one"),
        helper.make_node("MatMul", ["a", "w"], ["b"], name="two"),
        helper.make_node("If", ["c"], ["y"], name="if", then_branch=bodies[0], else_branch=bodies[1]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 4]) for name in "xy"]
    switch = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    graph = helper.make_graph(nodes, "g", [ends[0], switch], ends[1:], [w])
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph), path)
    found = read_optimized(path)
    assert found.weights_bytes == 128
    sizes = {name: node.weights_bytes for name, node in found.nodes.items()}
    # both branches have a node of that name, of which one runs: whose weights those are is not known
    assert sizes == {"one": 64, "two": 0, "if": 0, "if › fc": None}
    assert "b" in found.nodes["if"].inputs
