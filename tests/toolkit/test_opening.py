"""MODEL on the command line opens the artifact that is meant, or says what to type next."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest

from tests.stamping import stamp
from tests.toolkit.test_artifacts import passport
from toolkit.artifacts import Artifact, artifact_path, read_passport, sidecar, write_bytes
from toolkit.checkpoints import load_module
from toolkit.errors import CorruptError, NotFoundError
from toolkit.opening import Selection, describe, is_path, newest_name, open_model
from toolkit.passports import Passport, Precision


def put(root: Path, name: str, precision: Precision = "fp32", **changes: object) -> Path:
    path = artifact_path(root, name, ".onnx" if precision == "fp32" else f".{precision}.onnx")
    write_bytes(path, name.encode())
    made: Passport = passport(precision=precision, **changes)
    stamp(path, made)
    return path


def selection(root: Path, **changes: object) -> Selection:
    return dataclasses.replace(Selection(root=root, formats=("onnx",)), **changes)  # type: ignore[arg-type]


def test_a_name_opens_the_artifact_of_the_asked_precision(tmp_path: Path) -> None:
    plain, half = put(tmp_path, "lenet"), put(tmp_path, "lenet", "fp16")
    assert open_model("lenet", selection(tmp_path)).path == plain
    assert open_model("lenet", selection(tmp_path, precision="fp16")).path == half


def test_a_path_opens_that_file_with_its_hash_checked(tmp_path: Path) -> None:
    path = put(tmp_path, "lenet")
    assert open_model(str(path), selection(tmp_path)).path == path
    path.write_bytes(b"other")
    with pytest.raises(CorruptError, match="SHA-256"):
        open_model(str(path), selection(tmp_path))


def test_a_newer_file_with_a_damaged_passport_is_the_error_and_no_older_one_answers(tmp_path: Path) -> None:
    path = put(tmp_path, "lenet", created="2026-01-02T00:00:00+00:00")
    half = put(tmp_path, "lenet", "fp16", created="2026-01-01T00:00:00+00:00")
    beside = sidecar(path)
    told = json.loads(beside.read_text())
    beside.write_text(json.dumps({**told, "metrics": {"test_accuracy": "0.9"}}))
    with pytest.raises(CorruptError, match=r"lenet\.onnx\.json .*test_accuracy"):
        open_model("lenet", selection(tmp_path))
    assert open_model("lenet", selection(tmp_path, precision="fp16")).path == half
    with pytest.raises(NotFoundError, match="not as safetensors fp32"):
        open_model("lenet", selection(tmp_path, formats=("safetensors",)))
    beside.write_text("{")
    with pytest.raises(CorruptError, match="damaged and no readable JSON"):
        open_model("lenet", selection(tmp_path))
    # what is of older weights does not stand in for a newer checkpoint, either
    weights = path.rename(path.with_suffix(".safetensors"))
    beside.rename(sidecar(weights)).write_text(json.dumps({**told, "format": "safetensors", "classes": 3}))
    with pytest.raises(CorruptError, match=r"lenet\.safetensors\.json "):
        open_model("lenet", selection(tmp_path, precision="fp16"))
    sidecar(half).write_text(sidecar(half).read_text().replace("2026-01-01", "2026-01-03"))
    assert open_model("lenet", selection(tmp_path, precision="fp16")).path == half


def test_a_missing_precision_says_what_is_here_and_how_to_make_it(tmp_path: Path) -> None:
    put(tmp_path, "lenet")
    with pytest.raises(NotFoundError, match=r"is here as onnx fp32, not as onnx fp16: `cnnkit export lenet"):
        open_model("lenet", selection(tmp_path, precision="fp16"))


def test_a_missing_checkpoint_is_nothing_that_an_export_makes(tmp_path: Path) -> None:
    put(tmp_path, "lenet")
    why = "not as safetensors fp32: that is a checkpoint, which training or `cnnkit import` of weights makes"
    with pytest.raises(NotFoundError, match=why):
        open_model("lenet", selection(tmp_path, formats=("safetensors",)))


def test_weights_of_ones_own_are_never_stood_in_for_by_what_ships(tmp_path: Path) -> None:
    name = "lenet-maxpool"
    shipped = open_model(name, selection(tmp_path))
    halved = {"source_sha256": shipped.passport.sha256, "created": "2099-01-01"}
    put(tmp_path, name, "fp16", **halved)  # made of what ships, which stays what the name means
    assert open_model(name, selection(tmp_path)).path == shipped.path
    own = tmp_path / name / f"{name}.safetensors"
    write_bytes(own, b"newer weights")
    stamp(own, passport(format="safetensors", created="2099-01-02"))
    why = (
        r"not as onnx fp32 \(what ships is of other weights\): `cnnkit export lenet-maxpool --precision fp32"
    )
    with pytest.raises(NotFoundError, match=why):
        open_model(name, selection(tmp_path))
    assert open_model(name, selection(tmp_path, formats=("safetensors",))).path == own
    put(tmp_path, name, source_sha256=read_passport(own).sha256)
    assert open_model(name, selection(tmp_path)).path.parent == own.parent


def test_an_untrained_artifact_is_never_opened_unasked(tmp_path: Path) -> None:
    put(tmp_path, "lenet", trained=False)
    with pytest.raises(NotFoundError, match=r"no trained lenet here: `cnnkit train lenet` \(about"):
        open_model("lenet", selection(tmp_path))


def test_alexnet_without_weights_says_how_to_train_it_and_how_long_that_takes(tmp_path: Path) -> None:
    wanted = (
        r"^no trained alexnet here: `cnnkit train alexnet` \(about \d+ minutes on this machine\), "
        r"or add `--untrained` \(latency and memory only\)$"
    )
    with pytest.raises(NotFoundError, match=wanted):
        open_model("alexnet", selection(tmp_path))


def test_an_unknown_name_guesses_among_models_and_artifacts(tmp_path: Path) -> None:
    put(tmp_path, "my-shoes")
    with pytest.raises(NotFoundError, match=r"Did you mean 'my-shoes'\?"):
        open_model("my-shoe", selection(tmp_path))


def test_an_artifact_in_a_renamed_folder_is_said_to_be_there(tmp_path: Path) -> None:
    put(tmp_path, "my-shoes").parent.rename(tmp_path / "old")
    with pytest.raises(NotFoundError, match=r"my-shoes lies in .*old, .* open the file itself: .*onnx$"):
        open_model("my-shoes", selection(tmp_path))


def test_without_a_name_the_newest_own_artifact_is_meant(tmp_path: Path) -> None:
    put(tmp_path, "older", created="2020-01-01T00:00:00+00:00")
    put(tmp_path, "newer", created="2021-01-01T00:00:00+00:00")
    assert newest_name(selection(tmp_path)) == "newer"


def test_without_a_name_a_newer_damaged_passport_is_the_error(tmp_path: Path) -> None:
    put(tmp_path, "older", created="2020-01-01T00:00:00+00:00")
    newer = put(tmp_path, "newer", created="2021-01-01T00:00:00+00:00")
    told = json.loads(sidecar(newer).read_text())
    for created, meant in (("2021-01-01", True), ("2019-01-01", False)):
        sidecar(newer).write_text(json.dumps({**told, "classes": 3, "created": created}))
        if meant:
            with pytest.raises(CorruptError, match=r"newer\.onnx\.json .*classes"):
                newest_name(selection(tmp_path))
        else:
            assert newest_name(selection(tmp_path)) == "older"
    (tmp_path / "newer").rename(tmp_path / "kept")
    sidecar(put(tmp_path, "older-untrained", trained=False)).write_text("{")
    assert newest_name(selection(tmp_path)) == "older"
    with pytest.raises(CorruptError, match="older-untrained"):
        newest_name(selection(tmp_path, untrained=True))


def test_untrained_weights_are_written_once_and_equal_for_equal_seeds(tmp_path: Path) -> None:
    chosen = selection(tmp_path, formats=("safetensors",), untrained=True, seed=7)
    first = open_model("lenet", chosen)
    assert first.path == tmp_path / "lenet-untrained" / "lenet-untrained.safetensors"
    assert first.passport.trained is False
    assert first.passport.metrics.test_accuracy is None
    again = open_model("lenet", dataclasses.replace(chosen, root=tmp_path / "other"))
    assert again.passport.sha256 == first.passport.sha256
    other = open_model("lenet", dataclasses.replace(chosen, seed=8))
    assert other.passport.sha256 != first.passport.sha256


OWN = """
from torch import nn
from toolkit.models import ModelSpec

def build(channels, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(4, {hidden}), nn.Linear({hidden}, classes))

MODELS = (ModelSpec(name="own", family="own", input_shape=(1, 2, 2), build=build),)
"""


def test_untrained_weights_of_an_edited_model_file_begin_anew(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(OWN.format(hidden=3))
    chosen = selection(tmp_path, formats=("safetensors",), untrained=True, model_file=own)
    first = open_model("own", chosen)
    os.utime(first.path, ns=(1, 1))
    assert open_model("own", chosen).path.stat().st_mtime_ns == 1
    own.write_text(OWN.format(hidden=5))
    second = open_model("own", chosen)
    assert second.path.stat().st_mtime_ns > 1
    assert load_module(second, model_file=own).state_dict()["1.weight"].shape == (5, 4)
    with pytest.raises(NotFoundError, match="no untrained own as onnx fp32 here"):
        open_model("own", dataclasses.replace(chosen, formats=("onnx",)))


def test_describe_names_file_accuracy_and_age(tmp_path: Path) -> None:
    path = put(tmp_path, "lenet")
    text = describe(Artifact(path=path, passport=passport(created="2020-01-01T00:00:00+00:00")))
    assert str(path) in text
    assert "accuracy unknown" in text
    assert "days old" in text


@pytest.mark.parametrize(
    ("text", "path"), [("lenet", False), ("a/lenet", True), ("x.onnx", True), ("v1.0", False)]
)
def test_files_are_told_from_names(text: str, path: bool) -> None:
    assert is_path(text) is path
