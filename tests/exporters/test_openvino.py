"""OpenVINO's own files: equal bytes of equal graphs, proven here, opened by name, refusals in words."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from exporters.openvino import EXPORTER
from tests.exporters.conftest import cnnkit_json, cnnkit_run
from toolkit.artifacts import hash_file, open_artifact
from toolkit.backends import BACKENDS
from toolkit.exporting import ExportOptions, default_formats

pytest.importorskip("openvino")

PRECISIONS = [p for p in EXPORTER.precisions if BACKENDS.load("openvino").lacks(p) is None]


@pytest.fixture(scope="module")
def made(trained_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Export the trained network at every precision that this processor computes; return the folders."""
    root = tmp_path_factory.mktemp("made")
    shutil.copytree(trained_root / "lenet-maxpool", root / "lenet-maxpool")
    found = cnnkit_json(
        *("export", "lenet-maxpool", "--format", "openvino", "--precision", ",".join(PRECISIONS)),
        *("--images", 64, "--calibration-images", 64, "--max-accuracy-drop", 20, "--artifacts", root),
    )
    return {one["precision"]: Path(one["path"]) for one in found["artifacts"] if one["format"] == "openvino"}


def test_each_precision_is_a_folder_that_was_computed_in_what_it_is_called(made: dict[str, Path]) -> None:
    assert {path.name for path in made.values()} == {
        "lenet-maxpool.openvino",
        *(f"lenet-maxpool.{precision}.openvino" for precision in PRECISIONS if precision != "fp32"),
    }
    for precision, path in made.items():
        assert {file.name for file in path.iterdir()} == {"model.xml", "model.bin"}
        known = open_artifact(path).passport
        assert known.precision == precision
        assert next(iter(known.engine_types or {})) == {"fp16": "fp32"}.get(precision, precision)
        assert known.parity is not None
        assert known.parity.images == 64
        assert known.target is not None
        assert known.target.version


def test_what_rounds_is_held_to_the_drop_that_is_allowed(made: dict[str, Path]) -> None:
    for precision, path in made.items():
        drop = open_artifact(path).passport.engine_accuracy_drop
        assert (drop is not None) == (precision in ("bf16", "int8"))
        assert drop is None or (drop.allowed == 20 and drop.ci95[0] <= drop.points <= drop.ci95[1])


def test_each_is_verified_by_its_proof(made: dict[str, Path]) -> None:
    for path in made.values():
        assert cnnkit_json("verify", path)["ok"]


def test_equal_graphs_give_equal_bytes_wherever_they_are_made(made: dict[str, Path], tmp_path: Path) -> None:
    graph = open_artifact(made["fp32"].with_name("lenet-maxpool.onnx"))
    again = EXPORTER.export(graph, ExportOptions(root=tmp_path, images=4)).artifact
    assert again.path != made["fp32"]
    assert again.passport.sha256 == hash_file(made["fp32"])


def test_a_name_opens_it_and_its_answers_are_the_graphs(made: dict[str, Path]) -> None:
    root = made["fp32"].parents[1]
    first = cnnkit_json("eval", made["fp32"])
    assert (first["backend"], Path(first["artifact"]).name) == ("openvino", "lenet-maxpool.openvino")
    other = cnnkit_json("eval", made["fp32"].with_name("lenet-maxpool.onnx"))
    assert first["confusion"] == other["confusion"]
    pictures = ("--dataset", "fashion-mnist-sample", "--first", 5)
    told = cnnkit_json("predict", "lenet-maxpool", *("--backend", "openvino"), *pictures, "--artifacts", root)
    assert len(told["predictions"]) == 5


@pytest.mark.skipif("bf16" not in PRECISIONS, reason="this processor computes no bf16")
def test_bf16_of_a_file_is_a_column_of_its_own_and_judged_on_pictures(made: dict[str, Path]) -> None:
    graph, options = made["fp32"].with_name("lenet-maxpool.onnx"), ("--backend", "openvino")
    (run,) = cnnkit_json("profile", graph, "--precision", "fp32,bf16", *options, "--duration", 0.1)["runs"]
    assert {key: column["precision"] for key, column in run["backends"].items()} == {
        "openvino": "fp32",
        "openvino:bf16": "bf16",
    }
    for column in run["backends"].values():
        assert column["coverage"] == 1.0
        assert column["memory"]["note"].startswith(f"computed in {column['precision']} (")
    cells = [row[key] for row in run["rows"] for key in run["backends"] if key in row]
    assert all(cell["latency_ms"] != 0 for cell in cells)
    below = [cell["below_ms"] for cell in cells if cell["below_ms"] is not None]
    assert all(0.001 <= limit <= 0.003 for limit in below)
    judged = cnnkit_json("eval", graph, "--precision", "bf16", *options)
    assert judged["precision"] == "bf16"
    assert judged["accuracy_ci95"][0] < judged["accuracy"]


def test_damage_is_told(made: dict[str, Path], tmp_path: Path) -> None:
    for file in made["fp32"].parent.glob("lenet-maxpool.openvino*"):
        (shutil.copytree if file.is_dir() else shutil.copy)(file, tmp_path / file.name)
    weights = tmp_path / "lenet-maxpool.openvino" / "model.bin"
    weights.write_bytes(weights.read_bytes()[:-4])
    refused = cnnkit_run("verify", weights.parent)
    assert refused.exit_code == 1
    assert "is not the file that its passport describes" in refused.stderr


def test_it_is_made_where_it_is_named_only() -> None:
    assert EXPORTER.name not in default_formats()
