"""A stored result answers for the very machine, data, files and proof that it was made with, and no other."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from exporters.proving.proof import again
from tests.exporters.conftest import cnnkit_json, cnnkit_run
from toolkit.artifacts import Artifact, open_artifact
from toolkit.checkpoints import load_state, save_checkpoint
from toolkit.exporting import EXPORTERS, Exporter, ExportOptions
from toolkit.exporting.evidence import data_fingerprint
from toolkit.exporting.keys import asked
from toolkit.machine.cpu import Cpu
from toolkit.passports import DatasetRef
from toolkit.publishing import proof_path
from toolkit.tensorrt.flavours import FLAVOURS


def facts(name: str, root: Path = Path(), **options: Any) -> str:
    exporter: Exporter = EXPORTERS.load(name)
    found = asked(exporter, ExportOptions(root=root, **options), lambda: "data")
    return json.dumps(found, default=str)


def test_int8_for_cpus_depends_on_how_the_processor_sums_and_nothing_else_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def on(instructions: tuple[str, ...], **options: Any) -> str:
        here = Cpu(name="x", cores=1, instruction_sets=instructions)
        monkeypatch.setattr("exporters.onnx.cpu", lambda: here)
        return facts("onnx", **options)

    old, new = ("AVX2",), ("AVX2", "AVX512-VNNI")
    cpus: dict[str, Any] = {"precision": "int8", "dialect": "U8S8"}
    assert on(old, **cpus) != on(new, **cpus)
    assert on(old, precision="fp16") == on(new, precision="fp16")
    engines: dict[str, Any] = {"precision": "int8", "dialect": "S8S8"}
    assert on(old, **engines) == on(new, **engines)


def test_an_engine_depends_on_the_flavour_that_was_chosen_and_on_its_pictures() -> None:
    found = json.loads(facts("trt"))
    assert found["machine"]["flavour"] in FLAVOURS
    assert found["data_dir"] == "data"
    assert facts("trt", images=9) != facts("trt", images=64)
    assert {package for one in FLAVOURS.values() for package in one.packages} <= set(
        EXPORTERS.load("trt").packages
    )


def test_a_file_of_ones_own_model_counts_by_its_content(tmp_path: Path) -> None:
    here, there = tmp_path / "a.py", tmp_path / "b.py"
    here.write_text("WIDTH = 8")
    there.write_text("WIDTH = 8")
    before = facts("onnx", model_file=here)
    assert before == facts("onnx", model_file=there)
    here.write_text("WIDTH = 9")
    assert before != facts("onnx", model_file=here)


def pictures(folder: Path) -> None:
    random = np.random.default_rng(0)
    for label in ("bag", "shirt"):
        (folder / label).mkdir(parents=True)
        for number in range(10):
            pixels = random.integers(0, 256, (28, 28), np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")


def of_folder(checkpoint: Artifact, folder: Path) -> Artifact:
    """Write a network that was trained on a folder of pictures, as far as its passport tells."""
    trained = dataclasses.replace(checkpoint.passport, dataset=DatasetRef(name=f"folder:{folder}"))
    return save_checkpoint(checkpoint.path, load_state(checkpoint), trained)


def test_data_that_arrived_or_changed_is_told_without_reading_pictures(
    checkpoint: Artifact, tmp_path: Path
) -> None:
    passport = of_folder(checkpoint, tmp_path / "pictures").passport
    assert data_fingerprint(passport, None) is None
    pictures(tmp_path / "pictures")
    before = data_fingerprint(passport, None)
    assert before is not None
    (tmp_path / "pictures" / "bag" / "0.png").unlink()
    assert data_fingerprint(passport, None) not in (before, None)
    assert data_fingerprint(dataclasses.replace(passport, trained=False), None) is None


def test_what_was_judged_on_random_images_is_judged_anew_once_the_data_is_here(
    checkpoint: Artifact, root: Path, tmp_path: Path
) -> None:
    of_folder(checkpoint, tmp_path / "pictures")

    def export() -> dict[str, Any]:
        payload = cnnkit_json("export", "lenet-maxpool", "--format", "onnx", "--artifacts", root)
        entry: dict[str, Any] = payload["artifacts"][0]
        return entry

    assert "random" in export()["parity"]["source"]
    assert export()["cached"] is True
    pictures(tmp_path / "pictures")
    judged = export()
    assert judged["cached"] is False
    assert "test images of folder:" in judged["parity"]["source"]
    assert export()["cached"] is True
    shutil.rmtree(tmp_path / "pictures")
    assert export()["cached"] is False


@pytest.mark.parametrize("name", ["web", "pack"])
def test_what_makes_int8_on_its_way_depends_on_all_that_int8_does(name: str) -> None:
    exporter, graph = EXPORTERS.load(name), EXPORTERS.load("onnx")
    forms = {"precision", "dialect", "pixels", "softmax", "size", "output"}  # those that its source has
    assert set(graph.reads) - forms <= set(exporter.reads)
    assert "wide_int8" in exporter.machine(ExportOptions())
    assert {"onnx", "onnxruntime", "numpy", "pillow"} <= set(exporter.packages)


def test_a_result_whose_proof_is_gone_is_made_anew_by_the_command_that_verify_names(root: Path) -> None:
    arguments = ("--fp16", "--images", "64", "--format", "onnx", "--artifacts", root)
    made = cnnkit_json("export", "lenet-maxpool", *arguments)["artifacts"][1]
    half = open_artifact(Path(made["path"]))
    proof_path(half.path).unlink()
    assert again(half) == "cnnkit export lenet-maxpool --format onnx --precision fp16"
    refused = cnnkit_run("verify", half.path)
    assert f"`{again(half)}`" in " ".join(refused.stderr.split())
    remade = cnnkit_json(*again(half).split()[1:], "--images", "64", "--artifacts", root)
    assert [entry["cached"] for entry in remade["artifacts"]] == [True, False]
    assert cnnkit_json("verify", half.path)["ok"] is True


def test_the_command_that_makes_an_export_anew_names_its_form(checkpoint: Artifact) -> None:
    known = checkpoint.passport
    raw = dataclasses.replace(
        known,
        format="onnx",
        precision="int8",
        trained=False,
        input=dataclasses.replace(known.input, dtype="uint8"),
        softmax=True,
        int8_dialect="S8S8",
    )
    path = Path("lenet-untrained-uint8.int8-trt.onnx")
    assert again(Artifact(path=path, passport=raw)) == (
        "cnnkit export lenet --format trt --precision int8 --input uint8 --softmax --untrained"
    )
