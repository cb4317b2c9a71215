"""int8 from calibration to gate: what is decided on which pictures, and what the passport says of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, get_args

import click
import numpy as np
import onnx
import pytest

from exporters.commands.export import export
from exporters.graphs.quantized import quantize
from exporters.run.int8 import Calibrated, calibrate, judge, judge_engine, quantize_within
from tests.exporters.conftest import cnnkit_json, cnnkit_run
from tests.stamping import stamp
from toolkit.artifacts import Artifact, open_artifact
from toolkit.backends import BACKENDS, EngineOptions
from toolkit.checkpoints import load_state, save_checkpoint
from toolkit.datasets import dataset_of
from toolkit.errors import CnnkitError, GateError, UndecidedError
from toolkit.exporting import ExportOptions, RangeMethod
from toolkit.exporting.accuracy import Drop
from toolkit.exporting.heldout import hold_out
from toolkit.machine.cpu import Cpu
from toolkit.passports import CalibrationRecord, DatasetRef

VNNI = Cpu(name="new", cores=2, instruction_sets=("AVX2", "AVX512-VNNI"))
OLD = Cpu(name="old", cores=2, instruction_sets=("AVX2",))


@pytest.fixture
def graph(root: Path) -> Artifact:
    return open_artifact(root / "lenet-maxpool" / "lenet-maxpool.onnx")


@pytest.fixture
def calibrated(graph: Artifact, root: Path) -> Calibrated:
    options = ExportOptions(root=root, calibration_images=64)
    return calibrate(onnx.load(graph.path), graph.passport, options)


def test_calibration_and_validation_pictures_are_training_pictures_and_never_the_same(
    graph: Artifact,
) -> None:
    held = hold_out(graph.passport, images=100, seed=0, data_dir=None)
    data = dataset_of("fashion-mnist-sample").load("fashion-mnist-sample", None, False, None)
    assert held.validation is not None
    assert len(held.validation) == 400  # a fifth of 2,000, as the recipe says
    assert held.calibration_source == "100 training images of fashion-mnist-sample"
    train = {image.tobytes() for image in data.train.images}
    test = {image.tobytes() for image in data.test.images}
    kept = {image.tobytes() for image in held.validation.images}
    assert kept <= train
    assert not kept & test
    used = {np.asarray(x).tobytes() for x in held.calibration[:100]}
    judged = {np.asarray(x).tobytes() for x in held.inputs(0, 400)[:400]}
    assert len(used) == 100
    assert not used & judged


def test_one_command_writes_both_dialects_and_an_engine(root: Path) -> None:
    payload = cnnkit_json(
        *("export", "lenet-maxpool", "--int8", "--artifacts", root, "--images", "all"),
        *("--max-accuracy-drop", "5", "--calibration-images", "128"),
    )
    names = [Path(entry["path"]).name for entry in payload["artifacts"]]
    assert names == [
        "lenet-maxpool.onnx",
        "lenet-maxpool.int8.onnx",
        "lenet-maxpool.int8-trt.onnx",
        "lenet-maxpool.int8.engine",
    ]
    cpu, trt, engine = (open_artifact(Path(entry["path"])).passport for entry in payload["artifacts"][1:])
    assert (cpu.int8_dialect, trt.int8_dialect) == ("U8S8", "S8S8")
    assert cpu.calibration == CalibrationRecord(
        images=128,
        source="128 training images of fashion-mnist-sample",
        method="minmax",
        seed=0,
        per_channel=True,
    )
    drop = cpu.accuracy_drop
    assert drop is not None
    assert drop.ci95[0] <= drop.points <= drop.ci95[1] <= drop.allowed == 5.0
    assert cpu.speed is not None
    assert trt.speed is None
    assert engine.layer_types is not None
    assert engine.layer_types["INT8"] >= 5
    assert cpu.parity is not None
    assert cpu.parity.top1_agreement > 0.9


def test_a_name_opens_the_cpus_int8_file_not_the_builders(root: Path) -> None:
    from toolkit.opening import Selection, open_model

    cnnkit_json(
        *("export", "lenet-maxpool", "--int8", "--artifacts", root, "--images", "64"),
        *("--max-accuracy-drop", "5", "--calibration-images", "64"),
    )
    chosen = open_model("lenet-maxpool", Selection(root=root, formats=("onnx",), precision="int8"))
    assert chosen.path.name == "lenet-maxpool.int8.onnx"


def test_range_is_reduced_only_where_sums_would_saturate(calibrated: Calibrated) -> None:
    new = quantize_within(calibrated, dialect="U8S8", allowed=100, tell=print, here=VNNI)
    old = quantize_within(calibrated, dialect="U8S8", allowed=100, tell=print, here=OLD)
    built = quantize_within(calibrated, dialect="S8S8", allowed=100, tell=print, here=OLD)
    assert [made.reduced_range for made in (new, old, built)] == [False, True, False]


def test_a_layer_that_int8_ruins_is_found_and_kept_in_float(graph: Artifact, root: Path) -> None:
    """One channel of conv2 is scaled up and its reader down: the net is the same, per-tensor int8 is not."""
    model = onnx.load(graph.path)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    conv, bias, dense = (weights[n] for n in ("conv2.weight", "conv2.bias", "fc1.weight"))
    arrays = [onnx.numpy_helper.to_array(t).copy() for t in (conv, bias, dense)]
    arrays[0][3] *= 2000
    arrays[1][3] *= 2000
    arrays[2][:, 3 * 25 : 4 * 25] /= 2000
    for tensor, array in zip((conv, bias, dense), arrays, strict=True):
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    said: list[str] = []
    options = ExportOptions(root=root, calibration_images=64)
    ruined = calibrate(model, graph.passport, options)
    made = quantize_within(ruined, dialect="U8S8", allowed=2.0, tell=said.append, here=VNNI)
    assert "looking for layers" in said[0]
    assert set(made.kept_float) == {"conv2/Conv", "fc1/Gemm"}
    assert made.drop is not None
    assert made.drop.points < 2.0
    before = judge(ruined, _all_int8(ruined), allowed=2.0)
    assert before.points > 20
    with pytest.raises(UndecidedError, match=r"not be ruled out in 0 s.* `cnnkit export` takes its"):
        quantize_within(ruined, dialect="U8S8", allowed=2.0, tell=print, here=VNNI, search_s=0.0)


def _all_int8(calibrated: Calibrated) -> Any:
    return quantize(calibrated.model, calibrated.ranges, method="minmax", dialect="U8S8", reduce_range=False)


@pytest.mark.parametrize(
    ("allowed", "why"),
    [
        (0.0, "no number of images can rule out the smallest loss"),
        (0.5, "at least 390 held-out images would"),
    ],
)
def test_what_25_pictures_cannot_tell_failed_no_gate_and_is_refused_without_a_search(
    calibrated: Calibrated, allowed: float, why: str
) -> None:
    assert calibrated.held.validation is not None
    few = dataclasses.replace(calibrated.held, validation=calibrated.held.validation.take(slice(25)))
    told: list[str] = []
    with pytest.raises(CnnkitError, match=rf"on 25 images: undecided against the .* {why}") as raised:
        quantize_within(
            dataclasses.replace(calibrated, held=few), dialect="U8S8", allowed=allowed, tell=told.append
        )
    assert not isinstance(raised.value, GateError)
    assert not told


def test_without_labelled_pictures_nothing_is_judged_and_that_is_said(graph: Artifact, root: Path) -> None:
    foreign = dataclasses.replace(graph.passport, trained=None, dataset=None)
    options = ExportOptions(root=root, calibration_images=16)
    made = quantize_within(
        calibrate(onnx.load(graph.path), foreign, options), dialect="U8S8", allowed=0.5, tell=print
    )
    assert made.drop is None
    assert made.why_unjudged == "its passport names no data set"
    assert "random" in made.calibration.source


def test_a_gate_that_was_typed_and_cannot_be_judged_is_refused(graph: Artifact, root: Path) -> None:
    lost = dataclasses.replace(graph.passport, dataset=DatasetRef(name=f"folder:{root / 'gone'}"))
    options = ExportOptions(root=root, max_accuracy_drop=0.2)
    with pytest.raises(CnnkitError, match=r"--max-accuracy-drop 0\.2 cannot be judged: no folder .*gone"):
        calibrate(onnx.load(graph.path), lost, options)


def test_without_its_data_a_trained_network_is_told_to_be_unjudged(checkpoint: Artifact, root: Path) -> None:
    lost = dataclasses.replace(checkpoint.passport, dataset=DatasetRef(name=f"folder:{root / 'gone'}"))
    save_checkpoint(checkpoint.path, load_state(checkpoint), lost)
    arguments = ("export", "lenet-maxpool", "--int8", "--format", "onnx", "--images", "16")
    more = ("--calibration-images", "16", "--artifacts", root)
    result = cnnkit_run(*arguments, *more)
    assert result.exit_code == 0
    assert "int8 is NOT judged, no accuracy gate was applied: no folder" in " ".join(result.stderr.split())
    refused = cnnkit_run(*arguments, *more, "--max-accuracy-drop", "0.5")
    assert refused.exit_code == 1
    assert "--max-accuracy-drop 0.5 cannot be judged" in " ".join(refused.stderr.split())


def test_looking_again_makes_no_interval_miss_more_often(
    calibrated: Calibrated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporters.run.int8.FIRST_IMAGES", 100)
    asked: list[tuple[int, float]] = []

    def noted(before: Any, after: Any, *, error: float) -> Drop:
        asked.append((len(before), error))
        return Drop(points=0.0, low=-1.0, high=1.0, images=len(before))

    monkeypatch.setattr("exporters.run.int8.paired_drop", noted)
    judge(calibrated, calibrated.model, 0.5)
    assert asked == [(100, 0.0125), (200, 0.00625), (400, 0.025)]


def test_one_layer_at_least_stays_in_int8(graph: Artifact, root: Path) -> None:
    """Every range is so wide that all values fall into one of its 256 steps; float alone would pass."""
    options = ExportOptions(root=root, calibration_images=16)
    spoilt = calibrate(onnx.load(graph.path), graph.passport, options)
    for found in spoilt.ranges.values():
        found.low, found.high = (-1e6 if found.low < 0 else 0.0), 1e6  # behind a ReLU nothing is below 0
    with pytest.raises(GateError, match="even with 4 layers in float, too much against the 5 points"):
        quantize_within(spoilt, dialect="U8S8", allowed=5.0, tell=lambda _: None, here=VNNI)


def test_an_engine_that_runs_here_is_held_to_the_drop_as_well(
    calibrated: Calibrated, graph: Artifact, checkpoint: Artifact
) -> None:
    with BACKENDS.load("ort").open(graph, EngineOptions()) as engine:
        same = judge_engine(engine, checkpoint, calibrated.held, 2.0)
    assert (same.points, same.judge(2.0)) == (0, "pass")
    model = onnx.load(graph.path)
    last = next(tensor for tensor in model.graph.initializer if tensor.name == "fc3.weight")
    last.raw_data = bytes(len(last.raw_data))  # it answers the same to every picture
    path = graph.path.with_name("constant.onnx")
    onnx.save(model, path)
    with BACKENDS.load("ort").open(stamp(path, graph.passport), EngineOptions()) as engine:
        assert judge_engine(engine, checkpoint, calibrated.held, 2.0).judge(2.0) == "fail"


def test_the_methods_that_can_be_typed_are_those_that_there_are() -> None:
    option = next(each for each in export.params if each.name == "calibration")
    assert isinstance(option.type, click.Choice)
    assert tuple(option.type.choices) == get_args(RangeMethod)
