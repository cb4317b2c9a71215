"""What lies in a folder for everybody's browsers, and what a device keeps of it; no browser takes part."""

from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from exporters.browser.folder import ABOUT, MODEL, PASSPORT, PROOF, WebFacts, fill_folder
from exporters.browser.public import without_places
from exporters.browser.runtime import FILES, WEBGPU_FILES, packed_name
from tests.stamping import stamp
from tests.toolkit.test_artifacts import passport
from toolkit.artifacts import Artifact, artifact_path, hash_file, write_bytes
from toolkit.graphs.facts import write_facts
from toolkit.passports import DatasetRef, Passport, TrainingOptions, Verification
from toolkit.publishing import proof_path

onnx = pytest.importorskip("onnx")
pytest.importorskip("rjsmin")

HOME, HOST = "/home/somebody", "a-machine"


def artifact(root: Path, dataset: DatasetRef, **changes: Any) -> Artifact:
    """Write a graph of one operator with all that a passport can tell of where it was made."""
    ends = [onnx.helper.make_tensor_value_info(name, 1, (None, 1, 28, 28)) for name in ("input", "logits")]
    node = onnx.helper.make_node("Identity", ["input"], ["logits"])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "net", ends[:1], ends[1:]))
    known: Passport = passport(dataset=dataset, **changes)
    write_facts(model, known)
    path = artifact_path(root, "lenet", ".onnx")
    write_bytes(path, model.SerializeToString())
    write_bytes(proof_path(path), b"proof")
    return stamp(path, dataclasses.replace(known, proof_sha256=hash_file(proof_path(path))))


def filled(root: Path, source: Artifact, facts: WebFacts, *, webgpu: bool = False) -> Path:
    """Fill a folder; what stands in for the runtime is its names alone."""
    runtime, folder = root / "runtime", root / "lenet.web"
    for name in map(packed_name, (*FILES, *WEBGPU_FILES)):
        write_bytes(runtime / name, gzip.compress(name.encode()))
    folder.mkdir()
    fill_folder(folder, source, runtime, facts, runtime if webgpu else None)
    return folder


def test_no_path_and_no_name_of_the_machine_that_made_it_is_told(tmp_path: Path) -> None:
    verified = Verification(
        date="2026-01-01", machine=HOST, device="", tools={}, images=1, agree=1, max_abs_diff=0
    )
    own = artifact(
        tmp_path,
        DatasetRef(name=f"folder:{HOME}/my shoes", fingerprint="abc", exclude=f"{HOME}/out.txt"),
        verified=(verified,),
        pretrained=f"{HOME}/best.pth",
        options=TrainingOptions(dataset=f"folder:{HOME}/my shoes", teacher=f"{HOME}/teacher.onnx"),
        kept={"note": HOME},
    )
    folder = filled(tmp_path, own, WebFacts(why=f"fp16 failed ({HOME}/lenet.fp16.onnx cannot be read)"))
    for path in folder.iterdir():
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        assert HOME.encode() not in data, path.name
        assert HOST.encode() not in data, path.name
    told = Passport.from_json(json.loads((folder / PASSPORT).read_text()))
    assert told.dataset == DatasetRef(name="folder:my shoes", fingerprint="abc")
    assert (told.sha256, told.proof_sha256) == (hash_file(folder / MODEL), hash_file(folder / PROOF))
    assert (told.classes, told.preprocessing) == (own.passport.classes, own.passport.preprocessing)
    graph = onnx.load(folder / MODEL)
    onnx.checker.check_model(graph)
    carried = {entry.key: entry.value for entry in graph.metadata_props}
    assert json.loads(carried["cnnkit.dataset"])["name"] == "folder:my shoes"
    assert graph.graph == onnx.load(own.path).graph
    assert json.loads((folder / ABOUT).read_text())["why"] == "fp16 failed (lenet.fp16.onnx cannot be read)"


def test_a_graph_that_names_no_place_is_its_own_bytes(tmp_path: Path) -> None:
    own = artifact(tmp_path, DatasetRef(name="fashion-mnist", fingerprint="abc"))
    folder = filled(tmp_path, own, WebFacts())
    assert hash_file(folder / MODEL) == own.passport.sha256
    assert json.loads((folder / PASSPORT).read_text())["dataset"]["name"] == "fashion-mnist"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("fp16 failed (/a/b/c.onnx is cut short)", "fp16 failed (c.onnx is cut short)"),
        ("folder:/a/b is gone; try ./x/y", "folder:b is gone; try ./x/y"),
        ("see https://example.org/a/b, 3 ms/picture", "see https://example.org/a/b, 3 ms/picture"),
        ("fp16 failed (/home/some body/nets/x.onnx cannot be read)", "fp16 failed (x.onnx cannot be read)"),
        ("failed ('/home/a b/c.onnx' and /d/e.onnx)", "failed ('c.onnx' and e.onnx)"),
        ("/home/o'neil/x/y.onnx and /d/e.onnx: cut", "y.onnx and e.onnx: cut"),
    ],
)
def test_of_paths_in_a_sentence_the_last_part_is_told(text: str, told: str) -> None:
    assert without_places(text) == told


def test_of_known_folders_nothing_is_told_whatever_their_names_hold(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", "/home/ann (old)")
    (here := tmp_path / "at (work)").mkdir()
    monkeypatch.chdir(here)
    for path in (f"{here}/lenet/x.onnx", "/home/ann (old)/nets/x.onnx", "my (own) nets/lenet/x.onnx"):
        assert without_places(f"failed ({path} is cut)", Path("my (own) nets")) == "failed (x.onnx is cut)"
    assert without_places("a/b and ./c/d", Path()) == "a/b and ./c/d"


def test_a_device_keeps_the_build_with_webgpu_only_once_its_page_asks(tmp_path: Path) -> None:
    own = artifact(tmp_path, DatasetRef(name="fashion-mnist"))
    folder = filled(tmp_path, own, WebFacts(webgpu=True), webgpu=True)
    line = (folder / "sw.js").read_text().split("\n")[0]
    kept = json.loads(line.removeprefix("const kept = ").removesuffix(";"))
    seldom = set(map(packed_name, WEBGPU_FILES))
    assert set(kept["later"]) == seldom
    assert not seldom & set(kept["files"])
    assert {"./", "webgpu.js", MODEL, *map(packed_name, FILES)} <= set(kept["files"])
