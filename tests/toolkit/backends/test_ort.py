"""ONNX Runtime as a backend: what each level of optimisation runs, what is fed, and refusals in words."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import cnnkit
from toolkit.artifacts import Artifact, open_artifact, shipped_root
from toolkit.backends import BACKENDS, EngineOptions
from toolkit.backends.ort import LEVELS
from toolkit.errors import CorruptError, NotFoundError, OutOfMemoryError, UnavailableError
from toolkit.passports import Passport, TensorSpec
from toolkit.traces import Trace

onnx = pytest.importorskip("onnx")
helper, numpy_helper, TensorProto = onnx.helper, onnx.numpy_helper, onnx.TensorProto

LENET = [
    *("conv1/Conv", "act1/Relu", "pool1/MaxPool", "conv2/Conv", "act2/Relu", "pool2/MaxPool"),
    *("flatten/Reshape", "fc1/Gemm", "act3/Relu", "fc2/Gemm", "act4/Relu", "fc3/Gemm"),
]


@pytest.fixture(scope="module")
def lenet() -> Artifact:
    """Return the graph that ships."""
    return open_artifact(next(shipped_root().glob("lenet-maxpool/*.onnx")))


def traced(artifact: Artifact, **options: object) -> Trace:
    batch = np.zeros((1, 1, 28, 28), dtype=np.float32)
    with BACKENDS.load("ort").open(artifact, EngineOptions(threads=1, **options)) as engine:  # type: ignore[arg-type]
        return engine.trace(batch, windows=2, runs=2)


@pytest.mark.parametrize("level", ["disable", "basic"])
def test_without_fusion_lenets_twelve_nodes_run(lenet: Artifact, level: str) -> None:
    trace = traced(lenet, chosen={"level": level})
    assert [node.name for node in trace.nodes] == LENET
    assert [node.output_bytes for node in trace.nodes] == [
        *(6 * 28 * 28 * 4, 6 * 28 * 28 * 4, 6 * 14 * 14 * 4, 16 * 10 * 10 * 4, 16 * 10 * 10 * 4),
        *(16 * 5 * 5 * 4, 400 * 4, 120 * 4, 120 * 4, 84 * 4, 84 * 4, 10 * 4),
    ]
    # float weights; the reshape's two whole numbers are a constant, too
    assert sum(node.weights_bytes or 0 for node in trace.nodes) == 4 * 61_706 + 2 * 8


def test_fusion_takes_each_activation_into_the_layer_before_it(lenet: Artifact) -> None:
    trace = traced(lenet, chosen={"level": "extended"})
    assert [(node.name, node.type) for node in trace.nodes] == [
        ("conv1/Conv", "FusedConv"),
        ("pool1/MaxPool", "MaxPool"),
        ("conv2/Conv", "FusedConv"),
        ("pool2/MaxPool", "MaxPool"),
        ("flatten/Reshape", "Reshape"),
        ("fused fc1/Gemm", "FusedGemm"),
        ("fused fc2/Gemm", "FusedGemm"),
        ("fc3/Gemm", "Gemm"),
    ]


def test_every_level_answers_alike_and_another_word_gets_its_nearest(lenet: Artifact) -> None:
    batch = np.random.default_rng(0).random((3, 1, 28, 28), dtype=np.float32)
    found = []
    for level in LEVELS:
        with BACKENDS.load("ort").open(lenet, EngineOptions(chosen={"level": level})) as engine:
            found.append(engine.logits(batch))
    np.testing.assert_allclose(found[1:], [found[0]] * (len(found) - 1), atol=1e-4)
    with pytest.raises(NotFoundError, match=r"no level of ONNX Runtime 'basics'.*Did you mean 'basic'"):
        BACKENDS.load("ort").open(lenet, EngineOptions(chosen={"level": "basics"}))


def test_a_setting_of_another_backend_changes_nothing(lenet: Artifact) -> None:
    BACKENDS.load("ort").open(lenet, EngineOptions(chosen={"tempo": "slow"})).close()


def made(path: Path, *, batch: int | str = "batch", inputs: int = 1) -> Artifact:
    """Write a graph that adds its inputs, and say of it in a passport that its batch is open."""
    names = [f"x{index}" for index in range(inputs)]
    value = onnx.helper.make_tensor_value_info
    taken = [value(name, onnx.TensorProto.FLOAT, [batch, 2]) for name in names]
    node = onnx.helper.make_node("Sum", names, ["sum"])
    told = [value("sum", onnx.TensorProto.FLOAT, [batch, 2])]
    graph = onnx.helper.make_graph([node], "sum", taken, told)
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10), path
    )
    passport = Passport(
        format="onnx",
        model="sum",
        precision="fp32",
        trained=None,
        input=TensorSpec(name="x0", shape=(None, 2)),
        output=TensorSpec(name="sum", shape=(None, 2)),
        classes=(),
        preprocessing=None,
    )
    return Artifact(path=path, passport=passport)


def test_further_inputs_are_fed_and_the_first_is_the_batch(tmp_path: Path) -> None:
    artifact = made(tmp_path / "sum.onnx", inputs=3)
    others = {"x1": np.full((2, 2), 10, np.float32), "x2": np.full((2, 2), 100, np.float32)}
    with BACKENDS.load("ort").open(artifact, EngineOptions(feed=others)) as engine:
        found = engine.logits(np.ones((2, 2), dtype=np.float32))
        assert engine.output_names == ("sum",)
    np.testing.assert_array_equal(found, np.full((2, 2), 111))


def test_a_graph_in_memory_runs_in_the_files_place(tmp_path: Path) -> None:
    other = made(tmp_path / "twice.onnx", inputs=2).path.read_bytes()
    artifact = made(tmp_path / "sum.onnx")
    options = EngineOptions(graph=other, feed={"x1": np.ones((1, 2), np.float32)})
    with BACKENDS.load("ort").open(artifact, options) as engine:
        assert engine.logits(np.ones((1, 2), dtype=np.float32)).tolist() == [[2, 2]]


def test_a_batch_that_only_the_graph_refuses_is_one_line(tmp_path: Path) -> None:
    artifact = made(tmp_path / "fixed.onnx", batch=4)
    with BACKENDS.load("ort").open(artifact, EngineOptions()) as engine:
        assert engine.batch_sizes == (1, None)  # as the passport says
        with pytest.raises(
            CorruptError, match=r"cannot run .*fixed\.onnx on 3×2: .*one batch only"
        ) as raised:
            engine.run(np.ones((3, 2), dtype=np.float32))
    assert "\n" not in str(raised.value)
    named = dataclasses.replace(
        artifact.passport, input=dataclasses.replace(artifact.passport.input, shape=(4, 2))
    )
    with BACKENDS.load("ort").open(dataclasses.replace(artifact, passport=named), EngineOptions()) as engine:
        assert engine.batch_sizes == (4, 4)


def test_an_unknown_device_names_what_is_possible(lenet: Artifact) -> None:
    with pytest.raises(
        UnavailableError, match="no device 'mps' for ONNX Runtime; possible: cpu, cuda, cuda:N"
    ):
        BACKENDS.load("ort").open(lenet, EngineOptions(device="mps"))


def test_a_box_without_the_runtime_is_told_what_to_install(
    lenet: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    state = BACKENDS.load("ort").availability()
    assert (state.available, state.why_not, state.how_to_get) == (
        False,
        "ONNX Runtime is not installed",
        "pip install cnnkit",
    )
    with pytest.raises(UnavailableError, match="ONNX Runtime is not installed; pip install cnnkit"):
        BACKENDS.load("ort").open(lenet, EngineOptions())


def test_a_traces_own_files_are_gone(
    lenet: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert traced(lenet).nodes
    assert list(tmp_path.iterdir()) == []


def test_the_kernels_of_a_loops_body_stand_on_its_row_once(tmp_path: Path) -> None:
    """A convolution in a Loop of five turns, behind one of the graph's own."""
    value, shape = helper.make_tensor_value_info, ["N", 4, 8, 8]
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["on"], ["go"], name="same"),
            helper.make_node("Conv", ["v", "w"], ["u"], name="conv", pads=[1] * 4),
        ],
        "body",
        [
            value("i", TensorProto.INT64, []),
            value("on", TensorProto.BOOL, []),
            value("v", TensorProto.FLOAT, shape),
        ],
        [value("go", TensorProto.BOOL, []), value("u", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.full((4, 4, 3, 3), 0.01, np.float32), "w")],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "stem.w"], ["a"], name="stem", pads=[1] * 4),
            helper.make_node("Loop", ["turns", "yes", "a"], ["y"], name="loop", body=body),
        ],
        "g",
        [value("x", TensorProto.FLOAT, shape)],
        [value("y", TensorProto.FLOAT, shape)],
        [
            numpy_helper.from_array(np.full((4, 4, 3, 3), 0.01, np.float32), "stem.w"),
            numpy_helper.from_array(np.int64(5), "turns"),
            numpy_helper.from_array(np.array(True), "yes"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, tmp_path / "loop.onnx")
    (run,) = cnnkit.profile(
        tmp_path / "loop.onnx",
        backends=["ort"],
        settings=cnnkit.ProfileSettings(duration_s=0.05, threads=1),
        root=tmp_path,
    ).runs
    assert run.backends["ort"].coverage == 1
    (row,) = [row for row in run.rows if row.modules == ("loop",)]
    assert "loop" in row.cells["ort"].nodes
    assert sum(name.startswith("loop › ") for name in row.cells["ort"].nodes) >= 2
    assert {row.type for row in run.rows if not row.modules} <= {"layout", "overhead"}


def test_memory_that_ran_out_is_told_with_the_batch_and_is_no_fault_of_the_file(lenet: Artifact) -> None:
    def run(names: object, feed: object) -> None:
        raise RuntimeError("[ONNXRuntimeError] : 6 : FAIL : Failed to allocate memory for requested buffer")

    with BACKENDS.load("ort").open(lenet, EngineOptions()) as engine:
        whole, names = engine.session, engine.output_names
        engine.session = SimpleNamespace(run=run, get_inputs=whole.get_inputs)
        said = "cpu has no memory for a batch of 64 of lenet-maxpool in ort; a smaller --batch needs less"
        with pytest.raises(OutOfMemoryError, match=f"^{said}$"):
            engine.run(np.zeros((64, 1, 28, 28), np.float32))
    assert names
