"""OpenVINO as a backend: what it computes in, what its layers stand for, what is kept, refusals in words."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from toolkit.artifacts import Artifact, hash_file, open_artifact, shipped_root
from toolkit.backends import BACKENDS, EngineOptions
from toolkit.backends._openvino_cache import MOST_BYTES
from toolkit.backends._openvino_files import reason
from toolkit.backends._openvino_layers import Layer, computed_in, layer_times, mismatch, said
from toolkit.backends._openvino_nodes import ReadOperation, executed_nodes
from toolkit.caching import cache_folder
from toolkit.errors import CorruptError, ShapeError, UnavailableError
from toolkit.graphs.counting import count_graph
from toolkit.opening import Selection, as_asked
from toolkit.passports import Passport, Precision, Target, TensorSpec
from toolkit.profiling.rows.align import coverage
from toolkit.profiling.rows.matching import claim

openvino = pytest.importorskip("openvino")
onnx = pytest.importorskip("onnx")

BACKEND = BACKENDS.load("openvino")
needs_bf16 = pytest.mark.skipif(BACKEND.lacks("bf16") is not None, reason="this processor computes no bf16")


@pytest.fixture(scope="module")
def lenet() -> Artifact:
    """Return the graph that ships."""
    return open_artifact(next(shipped_root().glob("lenet-maxpool/*.onnx")))


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of compiled models, empty, of this test alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache_folder("openvino")


def asked_in(artifact: Artifact, precision: Precision) -> Artifact:
    return as_asked(artifact, BACKEND.opens(Selection(root=Path(), precision=precision)))


def pictures(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, 1, 28, 28), dtype=np.float32)


def in_memory(path: Path, shape: tuple[int | None, ...], classes: int = 10, **known: object) -> Artifact:
    """Return a file with a passport as it may be, which is written nowhere."""
    passport = Passport(
        format="onnx",
        model=path.stem,
        precision="fp32",
        trained=None,
        input=TensorSpec(name="x", shape=shape),
        output=TensorSpec(name="y", shape=(None, classes)),
        classes=(),
        preprocessing=None,
    )
    return Artifact(path=path, passport=dataclasses.replace(passport, **known))  # type: ignore[arg-type]


def weighing(path: Path, weight: float) -> Path:
    """Write a graph that multiplies 3 numbers by one weight each: y = x · diag(w)."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    matrix = onnx.numpy_helper.from_array(np.eye(3, dtype=np.float32) * np.float32(weight), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="scale")],
        "g",
        [helper.make_tensor_value_info("x", kind, ["N", 3])],
        [helper.make_tensor_value_info("y", kind, ["N", 3])],
        [matrix],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_an_fp32_file_is_computed_in_fp32_though_the_processor_has_bf16(lenet: Artifact) -> None:
    with BACKEND.open(lenet, EngineOptions()) as engine:
        assert set(engine.arithmetic) == {"fp32"}


@needs_bf16
def test_bf16_is_computed_of_the_fp32_file_where_it_is_asked_for(lenet: Artifact) -> None:
    asked, inputs = asked_in(lenet, "bf16"), pictures(16)
    assert (asked.path, asked.passport.precision) == (lenet.path, "bf16")
    with BACKEND.open(asked, EngineOptions()) as half, BACKEND.open(lenet, EngineOptions()) as whole:
        assert half.arithmetic["bf16"] >= 3
        found, wanted = half.logits(inputs), whole.logits(inputs)
        trace = half.trace(inputs[:1], windows=1, runs=1)
    apart = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    assert 1e-4 < apart < 0.03  # seven bits of mantissa, no 23
    assert "computed in bf16" in (trace.note or "")


def test_a_processor_without_bf16_is_told(lenet: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino.Core, "get_property", lambda *asked: ["FP32", "INT8"])
    with pytest.raises(UnavailableError, match=r"in bf16, and OpenVINO computes no bf16 .*--precision fp32"):
        BACKEND.open(asked_in(lenet, "bf16"), EngineOptions())


@pytest.mark.parametrize(
    ("precision", "found", "wrong"),
    [
        ("fp32", {"fp32": 5}, None),
        ("fp32", {"fp32": 4, "bf16": 1}, "fp32 (4 layers), bf16 (1)"),
        ("fp16", {"fp32": 5}, None),
        ("bf16", {"bf16": 4, "fp32": 1}, None),
        ("bf16", {"fp32": 5}, "fp32 (5 layers)"),
        ("int8", {"int8": 5, "fp32": 1}, None),
        ("int8", {"int8": 5, "bf16": 1}, "int8 (5 layers), bf16 (1)"),
        ("int8", {"fp32": 5}, "fp32 (5 layers)"),
        ("int8", {}, None),
    ],
)
def test_what_was_computed_in_is_held_against_the_name(
    precision: Precision, found: dict[str, int], wrong: str | None
) -> None:
    assert mismatch(found, precision) == (wrong and f"it computed in {wrong}")


def layer(name: str, kind: str, *origins: str, reads: tuple[str, ...] = (), **known: object) -> Layer:
    plain = Layer(
        name=name, kind=kind, origins=origins, primitive="jit_avx512_f32", dtype="f32", shape=(1, 4),
        sizes=(16,), inputs=tuple((one, 0) for one in reads), constant=False, mean_us=0,
    )  # fmt: skip
    return dataclasses.replace(plain, **known)  # type: ignore[arg-type]


def test_the_first_calls_are_taken_out_of_a_mean_that_is_never_reset() -> None:
    warm = [
        layer(name, "Convolution", mean_us=us) for name, us in (("slow", 700), ("quick", 0), ("edge", 40))
    ]
    after = [layer(name, "Convolution", mean_us=us) for name, us in (("slow", 45), ("quick", 0), ("edge", 1))]
    # 45·102 − 700·2 = 3190 µs in 100 calls; 1·102 − 40·2 = 22 µs in 100 are less than one each
    assert layer_times(after, cold=warm, warm_up=2, runs=100) == [0.0319, 0.0, 0.0]


def test_where_nothing_multiplies_every_layer_counts() -> None:
    pools = [layer("a", "Pooling"), layer("b", "Pooling", primitive="jit_avx512_bf16")]
    assert computed_in(pools) == Counter({"fp32": 1, "bf16": 1})
    assert computed_in([*pools, layer("c", "MatMul", primitive="brgemm_avx512_bf16")]) == Counter({"bf16": 1})
    assert said({}) == "nothing that it tells"


def test_what_openvino_made_up_writes_the_tensor_that_the_next_was_to_read() -> None:
    read = {
        "x": ReadOperation(outputs=(("x",),), inputs=()),
        "fc": ReadOperation(outputs=(("t1",),), inputs=(("x",),)),
        "bn": ReadOperation(outputs=(("t2",),), inputs=(("t1",),)),
        "head": ReadOperation(outputs=(("y",),), inputs=(("t2",),)),
    }
    layers = [
        layer("x", "Input"),
        layer("w", "Const", constant=True),
        layer("fc", "FullyConnected", "fc", "Multiply_3953", reads=("x", "w")),
        layer("moved", "Reorder", reads=("fc",)),
        layer("head", "FullyConnected", "head", reads=("moved",)),
    ]
    nodes = executed_nodes(layers, read)
    assert [(node.name, node.inputs, node.outputs) for node in nodes] == [
        ("fc", ("x",), ("t2",)),
        ("moved", ("t2",), ("moved:0",)),
        ("head", ("moved:0",), ("y",)),
    ]
    assert [node.moves_data for node in nodes] == [False, True, False]
    assert [node.weights_bytes for node in nodes] == [16, 0, 0]


def test_lenets_layers_are_on_its_modules_rows_and_constants_on_none(lenet: Artifact) -> None:
    graph = count_graph(lenet.path, batch=1)
    with BACKEND.open(lenet, EngineOptions(threads=1)) as engine:
        trace = engine.trace(pictures(1), windows=2, runs=3)
    claims = claim(trace.nodes, graph, BACKEND.spelling)
    assert coverage(claims) == 1.0
    assert {name for entry in claims for name in entry.modules} == {
        *("conv1", "act1", "pool1", "conv2", "act2", "pool2", "flatten", "fc1", "act3", "fc2", "act4", "fc3"),
    }
    rows = [entry.modules for entry in claims if not entry.layout]
    assert ("conv1", "act1") in rows
    assert {entry.node.type for entry in claims if entry.layout} == {"Reorder"}
    assert all(entry.caused_by for entry in claims if entry.layout)
    assert "Const" not in {node.type for node in trace.nodes}
    # as much as the network has, and what is made of it for a layout or two
    assert 4 * 61_000 <= sum(node.weights_bytes or 0 for node in trace.nodes) <= 4 * 64_000
    assert trace.resolution_ms == 1e-3
    assert trace.memory.peak_activation_bytes is None
    assert trace.memory.why["peak_activation_bytes"]


def test_an_answer_stays_as_it_was_when_others_are_asked_for(lenet: Artifact) -> None:
    with BACKEND.open(lenet, EngineOptions()) as engine:
        first = engine.run(pictures(1))[0]
        kept = first.copy()
        singly = [engine.logits(pictures(9, seed=1)[i : i + 1])[0] for i in range(9)]
        for size in (9, 5, 7):  # of its own, and from one for all
            found = engine.logits(pictures(9, seed=1)[:size])
            np.testing.assert_allclose(found, singly[:size], atol=1e-4)
        np.testing.assert_array_equal(first, kept)


def test_what_was_compiled_is_kept_by_the_files_hash_and_never_by_its_path_and_time(
    tmp_path: Path, kept: Path
) -> None:
    path, answers = tmp_path / "net.onnx", []
    for weight in (2.0, 3.0):
        weighing(path, weight)
        os.utime(path, (1_000_000, 1_000_000))
        artifact = in_memory(path, (None, 3), 3, sha256=hash_file(path))
        for _ in range(2):
            with BACKEND.open(artifact, EngineOptions(threads=1)) as engine:
                answers.append(float(engine.logits(np.ones((1, 3), np.float32))[0, 0]))
    assert answers == [2.0, 2.0, 3.0, 3.0]
    files = list(kept.glob("*.blob"))
    assert len(files) == 2
    assert sum(file.stat().st_size for file in files) < MOST_BYTES


@pytest.mark.parametrize("damage", ["cut", "other", "empty"])
def test_a_kept_model_that_is_damaged_is_compiled_anew(tmp_path: Path, kept: Path, damage: str) -> None:
    path = weighing(tmp_path / "net.onnx", 2.0)
    artifact = in_memory(path, (None, 3), 3, sha256=hash_file(path))
    one = np.ones((1, 3), np.float32)
    with BACKEND.open(artifact, EngineOptions()) as engine:
        wanted = engine.logits(one)
    (file,) = kept.glob("*.blob")
    data = file.read_bytes()
    assert hashlib.sha256(data[32:]).digest() == data[:32]
    file.write_bytes({"cut": data[:-100], "other": b"of another release" * 40, "empty": b""}[damage])
    with BACKEND.open(artifact, EngineOptions()) as engine:
        np.testing.assert_array_equal(engine.logits(one), wanted)
    data = file.read_bytes()
    assert hashlib.sha256(data[32:]).digest() == data[:32]


def test_a_file_without_a_known_hash_is_not_kept(tmp_path: Path, kept: Path) -> None:
    artifact = in_memory(weighing(tmp_path / "net.onnx", 2.0), (None, 3), 3)
    with BACKEND.open(artifact, EngineOptions()) as engine:
        assert engine.logits(np.ones((1, 3), np.float32))[0, 0] == 2.0
    assert not kept.exists()


def test_pictures_of_any_size_are_refused_and_why(tmp_path: Path) -> None:
    artifact = in_memory(tmp_path / "net.onnx", (None, 3, None, None))
    with pytest.raises(ShapeError, match=r"takes N×3×N×N.*only the batch may be open"):
        BACKEND.open(artifact, EngineOptions())


def test_a_file_of_a_later_release_names_it(tmp_path: Path) -> None:
    later = in_memory(tmp_path, (None, 3), format="openvino", target=Target(version="2199.1.0"))
    with pytest.raises(UnavailableError, match=r"written by OpenVINO 2199.1.0.*openvino==2199.1.0"):
        BACKEND.open(later, EngineOptions())


def test_an_operator_that_openvino_lacks_is_named_in_one_line(tmp_path: Path) -> None:
    path = weighing(tmp_path / "net.onnx", 1.0)
    model = onnx.load(path)
    model.graph.node[0].op_type, model.graph.node[0].domain = "Wobble", "com.example"
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    onnx.save(model, path)
    with pytest.raises(CorruptError, match="Wobble") as raised:
        BACKEND.open(in_memory(path, (None, 3)), EngineOptions())
    assert "\n" not in str(raised.value)


def test_a_reason_is_what_was_said_and_not_from_where() -> None:
    text = "Exception from src/a.cpp:1:\nException from src/b.cpp:2:\n\nError during import of a model.\n\n"
    assert reason(RuntimeError(text)) == "Error during import of a model."
    assert (
        reason(RuntimeError("Check 'a == b' failed at src/c.cpp:3:\n"))
        == "Check 'a == b' failed at src/c.cpp:3:"
    )
    assert reason(FileNotFoundError(2, "No such file or directory")) == "No such file or directory"
    assert reason(RuntimeError("")) == "no reason given"
    unconverted = (
        "Exception from src/a.cpp:1:\nCheck 'false' failed at src/b.cpp:2:\nModel wasn't fully converted.\n"
        "-- Conv-17 with a message:\nWhile validating ONNX node 'c2':\nThe rank has to be known\n\n"
        "-- Dropout-17 with a message:\nCheck 'x' failed at src/d.cpp:20:\nTraining mode is not supported\n\n"
        "Summary:\n-- Conversion is failed for: Conv-17, Dropout-17\n\n"
    )
    said = reason(RuntimeError(unconverted))
    assert said == "Conv-17: The rank has to be known; Dropout-17: Training mode is not supported"


# Opens and lets go of engines that overlap, then sends itself the signal that a Ctrl-C is.
SIGNALLED = """
import os, signal, sys
from pathlib import Path
from toolkit.artifacts import open_artifact
from toolkit.backends import BACKENDS, EngineOptions
heard = []
signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
backend, artifact = BACKENDS.load("openvino"), open_artifact(Path(sys.argv[1]))
first = backend.open(artifact, EngineOptions())
second = backend.open(artifact, EngineOptions())
for engine in (first, second):
    engine.close()
del first, second, engine
backend.lacks("bf16")
os.kill(os.getpid(), signal.SIGINT)
print(heard)
"""


def test_a_signal_is_heard_after_engines_were_let_go(lenet: Artifact, tmp_path: Path) -> None:
    """OpenVINO takes the stack away that it gave its thread for signals, while the thread still has it."""
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED, str(lenet.path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
    )
    assert (done.returncode, done.stdout) == (0, "[2]\n"), done.stderr


def test_streams_divide_a_batch_and_answer_as_one_does(lenet: Artifact) -> None:
    given = pictures(8)
    with (
        BACKEND.open(lenet, EngineOptions(threads=2)) as one,
        BACKEND.open(lenet, EngineOptions(threads=2, chosen={"streams": "2"})) as two,
    ):
        for count in (8, 7, 1, 8):  # an odd batch is not divided
            assert np.allclose(two.run(given[:count])[0], one.run(given[:count])[0], atol=1e-5)
        two.bind(given)()
        with pytest.raises(UnavailableError, match="leave out `--streams`"):
            two.trace(given, windows=1, runs=1)
    found = list(BACKEND.variants(lenet, threads=2, batch=8))
    assert found == [{}, {"streams": "2"}]
    assert list(BACKEND.variants(lenet, threads=2, batch=1)) == [{}]


@pytest.mark.parametrize("streams", ["1", "2"])
def test_bound_calls_of_one_size_keep_their_own_batches(lenet: Artifact, streams: str) -> None:
    """They share a request, whose input is the memory of one batch at a time."""
    with BACKEND.open(lenet, EngineOptions(threads=2, chosen={"streams": streams})) as engine:
        batch = pictures(2, seed=1)
        wanted = engine.logits(batch)
        first, _ = engine.bind(batch), engine.bind(pictures(2, seed=2))
        first()
        if streams == "1":
            found = engine._requests[2].output_tensors[0].data
        else:
            found = engine._streamed[2].outputs()[0]
        np.testing.assert_array_equal(found, wanted)
