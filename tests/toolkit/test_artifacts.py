"""Artifacts appear whole or not at all, their passports survive a round trip, and damage is told in words."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.refusing import full_disk
from tests.stamping import stamp
from toolkit.artifacts import (
    artifact_path,
    find_artifacts,
    open_artifact,
    read_passport,
    sidecar,
    write_bytes,
    write_json,
    writing,
)
from toolkit.errors import CnnkitError, CorruptError, NotFoundError
from toolkit.passports import DatasetRef, Metrics, Parity, Passport, Target, TensorSpec
from toolkit.preprocessing import Preprocessing
from toolkit.publishing import publish
from toolkit.recipes import Recipe


def passport(**changes: object) -> Passport:
    made = Passport(
        format="onnx",
        model="lenet",
        precision="fp32",
        trained=True,
        input=TensorSpec(name="input", shape=(None, 1, 28, 28), layout="NCHW"),
        output=TensorSpec(name="logits", shape=(None, 2), layout="NC"),
        classes=("Ankle boot", "Tröja"),
        preprocessing=Preprocessing(size=(28, 28), channels=1, mean=(0.25,), std=(0.5,)),
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    path = artifact_path(tmp_path, "lenet", ".onnx")
    write_bytes(path, b"weights")
    stamp(path, passport())
    return path


def test_passport_survives_a_round_trip_with_every_part_filled() -> None:
    full = passport(
        dataset=DatasetRef(name="fashion-mnist", fingerprint="abc"),
        metrics=Metrics(test_accuracy=0.9, test_images=10000, test_accuracy_ci95=(0.89, 0.91)),
        parity=Parity(
            images=1000, source="test", max_abs_diff=1e-6, max_softmax_shift=1e-7, top1_agreement=1.0
        ),
        target=Target(flavour="rtx", compute_capabilities=("8.9", "12.0"), version="1.7.1.116"),
        recipe=Recipe(name="default", lr=0.1),
        seed=3,
    )
    assert Passport.from_json(json.loads(json.dumps(full.to_json()))) == full


def test_unknown_facts_are_null_in_json() -> None:
    data = passport().to_json()
    assert data["parity"] is None
    assert data["metrics"]["test_accuracy"] is None


def test_open_artifact_returns_file_and_passport(artifact: Path) -> None:
    opened = open_artifact(artifact)
    assert opened.name == "lenet"
    assert opened.passport.classes == ("Ankle boot", "Tröja")


def test_an_altered_file_is_refused(artifact: Path) -> None:
    artifact.write_bytes(b"weightz")
    with pytest.raises(CorruptError, match="SHA-256 differs"):
        open_artifact(artifact)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema": 99}', '"x"', "null", "\ud800"])
def test_a_damaged_passport_is_told_in_one_line(artifact: Path, text: str) -> None:
    sidecar(artifact).write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(CorruptError, match=r"lenet\.onnx\.json") as caught:
        read_passport(artifact)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_missing_passport_are_told_apart(artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no file"):
        open_artifact(tmp_path / "gone.onnx")
    sidecar(artifact).unlink()
    with pytest.raises(NotFoundError, match="has no passport"):
        open_artifact(artifact)


def test_writing_leaves_the_old_file_when_the_block_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail() -> None:
        with writing(path) as part:
            part.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_leaves_the_old_file_and_is_told_in_words(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    said = r"cannot write .*file: .*free some space or name another --artifacts folder"
    with full_disk(1000), pytest.raises(CnnkitError, match=said):
        write_bytes(path, b"x" * 5000)
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes into read-only folders")
def test_a_read_only_folder_is_told_in_words(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(CnnkitError, match="Permission denied"):
        write_bytes(tmp_path / "file", b"x")
    tmp_path.chmod(0o700)


def test_ctrl_c_during_a_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    code = (
        "import signal, sys, time; from pathlib import Path; from toolkit.artifacts import writing\n"
        # a shell's background job is started with Ctrl-C ignored, and its children inherit that
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "with writing(Path(sys.argv[1])) as part:\n"
        # a signal just before a sleep is heard after it
        "    part.write_text('half'); print('ready', flush=True); [time.sleep(0.1) for _ in range(600)]\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        child.send_signal(signal.SIGINT)
    assert child.returncode == -signal.SIGINT
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_files_are_as_readable_as_any_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"x")
    plain = tmp_path / "plain"
    plain.write_bytes(b"x")
    assert path.stat().st_mode == plain.stat().st_mode


def test_json_with_a_number_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"value": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_artifacts_are_found_newest_first(tmp_path: Path) -> None:
    for name, created in (("a", "2026-01-01T00:00:00+00:00"), ("b", "2026-03-01T00:00:00+00:00")):
        path = artifact_path(tmp_path, name, ".fp16.onnx")
        write_bytes(path, name.encode())
        stamp(path, passport(created=created, precision="fp16"))
    own = [path.name for path, _ in find_artifacts(tmp_path) if path.is_relative_to(tmp_path)]
    assert own == ["b.fp16.onnx", "a.fp16.onnx"]


def test_of_two_that_are_made_within_one_second_the_later_is_the_newer(tmp_path: Path) -> None:
    for made in range(50):
        path = artifact_path(tmp_path, "a", f".{made}.onnx")
        publish(path, lambda part, made=made: (part.write_bytes(bytes([made])), passport())[1])  # type: ignore[misc]
    own = [path.name for path, _ in find_artifacts(tmp_path) if path.is_relative_to(tmp_path)]
    assert own == [f"a.{made}.onnx" for made in reversed(range(50))]


@pytest.mark.parametrize("name", ["..", "../x", "a/b", "*", "", "[a]", "a\0b"])
def test_a_name_never_climbs_or_globs(artifact: Path, name: str) -> None:
    assert find_artifacts(artifact.parents[1], name) == []


@pytest.mark.parametrize("name", ["", "..", "../x", "/abs", "a/b", "a*"])
def test_no_artifact_lies_outside_its_root(tmp_path: Path, name: str) -> None:
    with pytest.raises(CnnkitError, match="cannot name an artifact"):
        artifact_path(tmp_path, name, ".onnx")


def test_created_is_a_time_with_a_zone(artifact: Path) -> None:
    created = read_passport(artifact).created
    assert created is not None
    assert created.endswith("+00:00")
    assert abs(time.time() - time.mktime(time.strptime(created[:19], "%Y-%m-%dT%H:%M:%S"))) < 86_400
