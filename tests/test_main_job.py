"""The main job from end to end on the real sample, and the JSON that each step promises.

One training, one export and one profile serve all tests of this file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cnnkit import front_door
from toolkit.artifacts import hash_file, read_passport, sidecar

ROW_KEYS = {"modules", "type", "output_shape", "parameters", "macs", "caused_by"}
BACKEND_KEYS = {
    "artifact",
    "precision",
    "measured",
    "latency_ms",
    "layer_sum_ms",
    "layout_ms",
    "residual_ms",
    "distortion_ms",
    "memory",
    "coverage",
}


def call(*words: str, status: int = 0) -> dict[str, Any]:
    """Run one command with --json; return its object, which must be all that stdout holds."""
    result = CliRunner().invoke(front_door.main, [*words, "--json"])
    assert result.exit_code == status, result.output
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("job") / "artifacts"


@pytest.fixture(scope="module")
def trained(root: Path) -> dict[str, Any]:
    words = ("train", "lenet-maxpool", "--dataset", "fashion-mnist-sample", "--epochs", "6")
    return call(*words, "--artifacts", str(root))


@pytest.fixture(scope="module")
def exported(root: Path, trained: dict[str, Any]) -> dict[str, Any]:
    return call("export", "lenet-maxpool", "--fp16", "--artifacts", str(root))


@pytest.fixture(scope="module")
def profiled(root: Path, exported: dict[str, Any]) -> dict[str, Any]:
    words = ("profile", "lenet-maxpool", "--backend", "all", "--duration", "0.2")
    return call(*words, "--artifacts", str(root))


def test_train_learns_and_tells_what_it_did(trained: dict[str, Any]) -> None:
    promised = {"model", "recipe", "dataset", "epochs", "seed", "test_accuracy", "val_accuracy", "seconds"}
    assert promised | {"images_per_second", "checkpoint"} <= set(trained)
    assert trained["test_accuracy"] > 0.6
    assert Path(trained["checkpoint"]).is_absolute()


def test_the_checkpoints_passport_is_complete(trained: dict[str, Any]) -> None:
    path = Path(trained["checkpoint"])
    passport = read_passport(path)
    assert passport.sha256 == hash_file(path)
    assert passport.trained is True
    assert passport.metrics.test_accuracy == trained["test_accuracy"]
    assert passport.metrics.test_images == 500
    assert passport.dataset is not None
    assert passport.dataset.name == "fashion-mnist-sample"
    assert passport.dataset.fingerprint is not None
    assert passport.recipe is not None
    assert len(passport.classes) == 10


def test_export_makes_and_proves_three_artifacts(exported: dict[str, Any]) -> None:
    made = {(a["format"], a["precision"]): a for a in exported["artifacts"]}
    assert set(made) == {("onnx", "fp32"), ("onnx", "fp16"), ("trt", "fp16")}
    parity = made["onnx", "fp32"]["parity"]
    assert parity["top1_agreement"] == 1.0
    assert parity["max_abs_diff"] <= parity["tolerance"]
    assert made["onnx", "fp16"]["parity"]["top1_agreement"] >= 0.998  # of 500
    engine = made["trt", "fp16"]
    assert engine["parity"] is None
    assert engine["parity_why"]
    assert engine["target"]["compute_capabilities"]
    for artifact in exported["artifacts"]:
        assert sidecar(Path(artifact["path"])).is_file()
        assert artifact["size_bytes"] == Path(artifact["path"]).stat().st_size


def test_an_identical_export_is_cached(root: Path, exported: dict[str, Any]) -> None:
    again = call("export", "lenet-maxpool", "--fp16", "--artifacts", str(root))
    assert [a["cached"] for a in again["artifacts"]] == [True] * 3


def test_verify_agrees_with_pytorch(exported: dict[str, Any]) -> None:
    for artifact in exported["artifacts"]:
        if artifact["format"] == "onnx":
            answer = call("verify", artifact["path"])
            assert answer["ok"] is True
            assert answer["agree"] == answer["images"] == 64
            assert answer["latency_ms"] is not None


def test_every_backend_answers_alike(root: Path, exported: dict[str, Any]) -> None:
    answers = {}
    for backend in ("pytorch", "ort"):
        words = ("eval", "lenet-maxpool", "--dataset", "fashion-mnist-sample", "--backend", backend)
        answers[backend] = call(*words, "--artifacts", str(root))
    assert answers["pytorch"]["accuracy"] == answers["ort"]["accuracy"]
    assert answers["ort"]["confusion"] == answers["pytorch"]["confusion"]
    low, high = answers["ort"]["accuracy_ci95"]
    assert low < answers["ort"]["accuracy"] < high


def test_predict_gives_labels_and_probabilities(root: Path, exported: dict[str, Any]) -> None:
    words = ("predict", "lenet-maxpool", "--dataset", "fashion-mnist-sample", "--first", "4")
    answer = call(*words, "--artifacts", str(root))
    assert answer["backend"] == "ort"
    assert len(answer["predictions"]) == 4
    top = answer["predictions"][0]["top"]
    assert top == sorted(top, key=lambda entry: -entry["probability"])


def test_profile_puts_every_module_on_exactly_one_row(profiled: dict[str, Any]) -> None:
    (run,) = profiled["runs"]
    modules = [name for row in run["rows"] for name in row["modules"]]
    assert len(modules) == len(set(modules)) == 12
    assert all(set(row) >= ROW_KEYS for row in run["rows"])
    for row in run["rows"]:
        if not row["modules"]:
            assert row["type"] in ("layout", "overhead")


def test_profile_covers_everything_that_pytorch_and_ort_ran(profiled: dict[str, Any]) -> None:
    (run,) = profiled["runs"]
    for name in ("pytorch", "ort"):
        summary = run["backends"][name]
        assert set(summary) >= BACKEND_KEYS
        assert summary["coverage"] == 1.0
        assert summary["measured"] is True
        assert summary["latency_ms"]["median"] > 0
        parts = summary["layer_sum_ms"] + summary["layout_ms"] + summary["residual_ms"]
        assert parts == pytest.approx(summary["latency_ms"]["median"], rel=1e-6)


def test_profile_of_tensorrt_without_a_gpu_tells_what_is_known_and_why_not_more(
    root: Path, exported: dict[str, Any]
) -> None:
    words = ("profile", "lenet-maxpool", "--backend", "trt", "--fp16", "--artifacts", str(root))
    (run,) = call(*words, status=3)["runs"]
    (summary,) = run["backends"].values()
    assert summary["measured"] is False
    assert summary["latency_ms"] is None
    assert summary["memory"]["weights_bytes"] > 0
    modules = [name for row in run["rows"] for name in row["modules"]]
    assert len(modules) == len(set(modules)) == 12


def test_models_and_doctor_keep_their_promise() -> None:
    model = next(m for m in call("models")["models"] if m["name"] == "lenet")
    assert (model["parameters"], model["input_shape"]) == (61_706, [1, 28, 28])
    assert set(model) >= {
        "name",
        "family",
        "input_shape",
        "classes",
        "parameters",
        "macs",
        "dataset",
        "source",
    }
    report = call("doctor")
    assert {"backends", "datasets", "machine"} <= set(report)
    assert set(report["backends"]["trt"]) >= {"available", "version", "devices", "why_not", "how_to_get"}


def test_two_trainings_with_one_seed_are_equal_bit_for_bit(tmp_path: Path) -> None:
    hashes = []
    for folder in ("a", "b"):
        words = ("train", "lenet-relu", "--dataset", "fashion-mnist-sample", "--epochs", "1", "--seed", "5")
        hashes.append(hash_file(Path(call(*words, "--artifacts", str(tmp_path / folder))["checkpoint"])))
    assert hashes[0] == hashes[1]


def test_an_unknown_model_and_backend_are_answered_with_the_nearest(root: Path) -> None:
    for words, guess in (
        (("train", "lenett"), "'lenet'"),
        (("profile", "lenet", "--backend", "tr"), "'trt'"),
    ):
        result = CliRunner().invoke(front_door.main, [*words, "--artifacts", str(root)])
        assert result.exit_code in (1, 2)
        assert f"Did you mean {guess}?" in result.output
