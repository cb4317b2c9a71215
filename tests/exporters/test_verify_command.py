"""`cnnkit verify`: the proof travels with the file and needs neither torch nor data."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from exporters.proving.proof import Verdict, read_proof
from exporters.run.verify import build_again, record
from exporters.trt import TrtOptions
from tests.exporters.conftest import cnnkit_json, cnnkit_run, export_one
from tests.stamping import stamp
from toolkit.artifacts import Artifact, hash_file, open_artifact, read_passport, sidecar
from toolkit.backends import BACKENDS
from toolkit.errors import NotFoundError
from toolkit.exporting import EXPORTERS
from toolkit.passports import AccuracyDrop, Target
from toolkit.publishing import proof_path
from toolkit.telling import silent

onnx = pytest.importorskip("onnx")


@pytest.fixture
def exported(root: Path) -> Artifact:
    return open_artifact(root / "lenet-maxpool" / "lenet-maxpool.onnx")


def test_verify_agrees_and_records_machine_versions_and_date(exported: Artifact) -> None:
    payload = cnnkit_json("verify", exported.path)
    assert payload["ok"] is True
    assert (payload["images"], payload["agree"]) == (64, 64)
    assert payload["max_abs_diff"] < 1e-4
    assert payload["latency_ms"] > 0
    record = read_passport(exported.path).verified[-1]
    assert record.agree == 64
    assert record.date
    assert record.machine
    assert "onnxruntime-gpu" in record.tools or "onnxruntime" in record.tools
    assert record.device == "cpu"


def test_verify_says_it_in_one_line(exported: Artifact) -> None:
    result = cnnkit_run("verify", exported.path)
    assert result.stdout.startswith("64 of 64 agree, largest difference ")
    assert result.stdout.rstrip().endswith(" ms a batch of 1")


def test_verify_needs_neither_torch_nor_onnx_nor_the_data(exported: Artifact, tmp_path: Path) -> None:
    for file in exported.path.parent.glob(exported.path.name + "*"):
        shutil.copy(file, tmp_path)
    probe = (
        "import sys\n"
        "from cnnkit import front_door\n"
        "try: front_door.main()\n"
        "except SystemExit as end: print(end.code)\n"
        "print([m for m in ('torch', 'onnx', 'PIL.ImageFile') if m in sys.modules])"
    )
    command = [sys.executable, "-c", probe, "verify", str(tmp_path / exported.path.name), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    answer, status, heavy = done.stdout.splitlines()
    assert json.loads(answer)["ok"] is True
    assert (status, [m for m in json.loads(heavy.replace("'", '"')) if m != "PIL.ImageFile"]) == ("0", [])


def test_a_file_that_answers_otherwise_exits_4_and_names_the_images(exported: Artifact) -> None:
    path = proof_path(exported.path)
    with np.errstate(all="ignore"):
        tensors = load_file(path)
    tensors["logits"][[3, 17]] += 1.0
    save_file(tensors, path, metadata={"tolerance": "0.001"})
    _adopt_proof(exported)
    result = cnnkit_run("verify", exported.path)
    assert result.exit_code == 4
    assert "62 of 64 agree" in result.stderr
    assert "images that disagree: 3, 17" in result.stderr


def test_a_file_that_answers_no_numbers_exits_4_and_its_record_can_be_read(exported: Artifact) -> None:
    model = onnx.load(exported.path)
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "fc3.bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(np.full(10, np.nan, np.float32), bias.name))
    onnx.save(model, exported.path)
    stamp(exported.path, exported.passport)
    result = cnnkit_run("verify", exported.path, "--json")
    assert result.exit_code == 4
    assert "0 of 64 agree" in result.stderr
    assert json.loads(result.stdout)["max_abs_diff"] is None
    assert read_passport(exported.path).verified[-1].max_abs_diff is None


VERDICT = Verdict(
    path=Path("net.onnx"), images=64, agree=64, max_abs_diff=0.0, latency_ms=1.0, batch=1, wrong=()
)


def test_verifying_twice_at_once_keeps_both_records(exported: Artifact) -> None:
    record(exported, VERDICT, "first", silent)
    record(exported, VERDICT, "second", silent)  # its passport was read before the first one wrote
    records = read_passport(exported.path).verified
    assert [entry.device for entry in records] == ["first", "second"]


def test_a_record_never_puts_an_older_passport_beside_a_newer_file(exported: Artifact) -> None:
    exported.path.write_bytes(exported.path.read_bytes() + b"\0")
    newer = stamp(exported.path, exported.passport)
    told: list[str] = []
    record(exported, VERDICT, "cpu", told.append)
    assert open_artifact(exported.path).passport == newer.passport
    assert told == ["not recorded: another file was exported to this place meanwhile; verify it, too"]


def _adopt_proof(exported: Artifact) -> None:
    """Make a changed proof the passport's own, as if the file had been exported with it."""
    beside = sidecar(exported.path)
    data = json.loads(beside.read_text())
    data["proof_sha256"] = hash_file(proof_path(exported.path))
    beside.write_text(json.dumps(data))


@pytest.mark.parametrize("damage", ["altered", "missing", "truncated"])
def test_a_proof_that_cannot_be_trusted_is_refused(exported: Artifact, damage: str) -> None:
    path = proof_path(exported.path)
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: 100 if damage == "truncated" else None] + b"x")
    if damage == "truncated":
        _adopt_proof(exported)
    result = cnnkit_run("verify", exported.path)
    assert result.exit_code == 1
    words = {"altered": "not the proof", "missing": "no proof beside it", "truncated": "no readable proof"}
    assert words[damage] in result.stderr


def test_an_altered_file_is_refused_by_its_hash(exported: Artifact) -> None:
    exported.path.write_bytes(exported.path.read_bytes() + b"\0")
    result = cnnkit_run("verify", exported.path)
    assert result.exit_code == 1
    assert "not the file that its passport describes" in result.stderr


def test_a_checkpoint_carries_no_proof(checkpoint: Artifact) -> None:
    result = cnnkit_run("verify", checkpoint.path)
    assert result.exit_code == 1
    assert "carries no proof" in result.stderr
    assert {".onnx", ".openvino", ".web", ".kserve"} <= {*result.stderr.replace(",", "").split()}


def test_equal_exports_have_equal_files_and_proofs(checkpoint: Artifact, tmp_path: Path) -> None:
    first, second = export_one(checkpoint, tmp_path / "a"), export_one(checkpoint, tmp_path / "b")
    assert proof_path(first.path).read_bytes() == proof_path(second.path).read_bytes()
    assert first.path.read_bytes() == second.path.read_bytes()


def test_a_proof_of_a_small_network_is_small(exported: Artifact) -> None:
    assert proof_path(exported.path).stat().st_size < 60_000


def test_an_engine_without_a_gpu_says_so_and_exits_3(exported: Artifact, root: Path) -> None:
    from toolkit.machine.cuda import device_count

    if device_count():
        pytest.skip("an NVIDIA GPU is here")
    engine = export_one(exported, root, "trt")
    result = cnnkit_run("verify", engine.path)
    assert result.exit_code == 3
    assert "needs an NVIDIA GPU and none is visible" in result.stderr


def test_an_engine_is_rebuilt_in_its_own_place_from_the_graph_beside_it(
    exported: Artifact, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = export_one(exported, root, "trt", target=("sm89",), batches=(1, 2, 4))
    flat = tmp_path / "deployed"
    flat.mkdir()
    for file in (*root.rglob("*.engine*"), *root.rglob("*.onnx*")):
        shutil.move(file, flat / file.name)
    monkeypatch.chdir(flat)  # as one types it in the folder itself
    engine = open_artifact(Path(made.path.name))
    damaged = dataclasses.replace(engine.passport, created="2020-01-01T00:00:00+00:00")
    again = build_again(dataclasses.replace(engine, passport=damaged), root)
    assert again.path == engine.path
    assert again.passport.sha256 == open_artifact(flat / made.path.name).passport.sha256
    assert again.passport.created > damaged.created
    assert again.passport.source_sha256 == exported.passport.sha256
    assert again.passport.target == made.passport.target
    assert read_proof(again).given.shape == (64, 1, 28, 28)
    (flat / exported.path.name).unlink()
    with pytest.raises(NotFoundError, match="was built from is not in"):
        build_again(again, root)


def test_a_classic_engine_is_rebuilt_for_this_gpu_with_what_was_asked_for(exported: Artifact) -> None:
    target = Target(
        flavour="classic",
        compute_capabilities=("SM86",),
        shape_profile={"min": (1, 1, 28, 28), "opt": (4, 1, 28, 28), "max": (8, 1, 28, 28)},
        hardware_compatibility="AMPERE_PLUS",
        version_compatible=True,
    )
    drop = AccuracyDrop(points=0.1, ci95=(-0.1, 0.3), images=400, allowed=1.5, source=None)
    known = dataclasses.replace(exported.passport, target=target, accuracy_drop=drop)
    made = dataclasses.replace(exported, passport=known)
    options = EXPORTERS.load("trt").again(made)
    assert options is not None
    assert options.batches == (1, 4, 8)
    assert options.path == exported.path
    assert options.max_accuracy_drop == 1.5
    # no target, which classic TensorRT refuses
    assert options.own == (TrtOptions(flavour="classic", compatible="AMPERE_PLUS", version_compatible=True),)


@pytest.mark.gpu
def test_an_engine_proves_itself_on_the_gpu_that_is_here(exported: Artifact, root: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    state = BACKENDS.load("trt").availability()
    if not state.available:  # on a data centre's GPU, where classic TensorRT is needed
        pytest.skip(f"trt: {state.why_not}")
    engine = export_one(exported, root, "trt")
    assert cnnkit_json("verify", engine.path, "--rebuild")["ok"] is True
