"""A pack holds all that another machine needs to choose: neither torch nor the data set is asked for."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import REPO
from tests.exporters.conftest import cnnkit_json
from toolkit.artifacts import open_artifact
from toolkit.choosing.packs import open_pack
from toolkit.errors import CnnkitError, CorruptError

MODEL = "lenet-maxpool"
# a box that was never meant to train: importing any of these fails
LACKING = """
import sys

sys.modules.update(dict.fromkeys(("torch", "onnx", "torchvision", "pyarrow")))
"""


@pytest.fixture(scope="module")
def pack(trained_root: Path) -> Path:
    words = ("export", MODEL, "--format", "pack", "--images", 64, "--artifacts", trained_root)
    (made,) = [one for one in cnnkit_json(*words)["artifacts"] if one["format"] == "pack"]
    assert made["path"].endswith(f"{MODEL}.pack")
    return Path(made["path"])


def box(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run cnnkit where nothing but the base install is, in an empty folder."""
    site = folder / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(LACKING)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(REPO)])}
    command = [sys.executable, "-m", "cnnkit", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)


def test_a_pack_holds_files_proofs_and_pictures(pack: Path) -> None:
    passport = open_artifact(pack).passport
    assert (passport.format, passport.parity_why) == ("pack", "each file in the pack has its own")
    names = set(zipfile.ZipFile(pack).namelist())
    kinds = ("onnx", "fp16.onnx", "int8.onnx", "int8-trt.onnx")
    for kind in kinds:
        assert {f"{MODEL}.{kind}", f"{MODEL}.{kind}.json", f"{MODEL}.{kind}.proof.safetensors"} <= names
    assert {"manifest.json", "pictures.npy", "labels.npy"} <= names
    manifest = json.loads(zipfile.ZipFile(pack).read("manifest.json"))
    assert manifest["files"] == [f"{MODEL}.{kind}" for kind in kinds]
    assert manifest["count"] > 100


def test_a_pack_is_made_of_what_is_asked_for_int8(pack: Path, trained_root: Path, tmp_path: Path) -> None:
    shutil.copytree(trained_root / MODEL, tmp_path / MODEL)
    words = ("export", MODEL, "--format", "pack", "--images", 64, "--artifacts", tmp_path)
    asked = ("--calibration", "percentile", "--calibration-images", 32)
    rows = {one["format"]: one for one in cnnkit_json(*words)["artifacts"]}
    assert rows["pack"]["cached"] is True
    rows = {one["format"]: one for one in cnnkit_json(*words, *asked)["artifacts"]}
    assert rows["pack"]["cached"] is False
    with zipfile.ZipFile(rows["pack"]["path"]) as made:
        known = json.loads(made.read(f"{MODEL}.int8.onnx.json"))["calibration"]
    assert (known["method"], known["images"]) == ("percentile", 32)


def test_another_machine_chooses_from_it_without_torch_and_data(pack: Path, tmp_path: Path) -> None:
    done = box(tmp_path, "choose", pack, "--backend", "ort", "--time", 5, "--allow-noise", "--json")
    assert done.returncode == 0, done.stderr
    found: Any = json.loads(done.stdout)
    assert found["chosen"]["backend"] == "ort"
    assert found["chosen"]["accuracy"] > 0.5
    assert Path(found["choice_file"]).parent == tmp_path / "artifacts" / MODEL
    picture = tmp_path / "picture.png"
    picture.write_bytes((REPO / "docs" / "images" / "page.png").read_bytes())
    told = box(tmp_path, "predict", MODEL, picture)
    assert told.returncode == 0, told.stderr
    # where fp16 is no slower it may be the one
    assert f"as chosen: ort {found['chosen']['precision']}" in told.stderr.splitlines()[0]
    overruled = box(tmp_path, "predict", MODEL, picture, "--backend", "ort")
    assert "as chosen" not in overruled.stderr


def test_a_damaged_pack_or_one_that_climbs_is_refused_in_one_line(pack: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.pack"
    bad.write_bytes(pack.read_bytes()[:-400])
    with pytest.raises(CorruptError, match=r"bad\.pack is no pack, or damaged: .*; pack it again"):
        opened(bad, tmp_path)
    for name, inside in damaged(pack).items():
        altered(pack, tmp_path / "altered.pack", name, inside)
        with pytest.raises(CorruptError, match=r"altered\.pack is no pack, or damaged: it"):
            opened(tmp_path / "altered.pack", tmp_path / "root")
    whole = bytearray(pack.read_bytes())
    for at in range(5_000, len(whole), len(whole) // 7):
        bad.write_bytes(whole[:at] + bytes(200) + whole[at + 200 :])
        with pytest.raises(CnnkitError, match=r"bad\.pack|does not describe|is not the file"):
            opened(bad, tmp_path / "root")
    climbing = tmp_path / "climbing.pack"
    with zipfile.ZipFile(pack) as good, zipfile.ZipFile(climbing, "w") as made:
        for name in good.namelist():
            made.writestr(name, good.read(name))
        made.writestr("../evil.json", b"{}")
    with pytest.raises(CorruptError, match="which is no file of lenet-maxpool"):
        opened(climbing, tmp_path / "root")
    assert not (tmp_path / "root").exists()
    with pytest.raises(CnnkitError, match=r"no file .*export MODEL --format pack"):
        opened(tmp_path / "none.pack", tmp_path)


def damaged(pack: Path) -> dict[str, bytes]:
    """Return what a pack must not hold, by the file's name in it."""
    with zipfile.ZipFile(pack) as good:
        manifest = json.loads(good.read("manifest.json"))
    labels = io.BytesIO()
    np.save(labels, np.zeros(manifest["count"] - 1, np.int64))
    fewer = json.dumps({**manifest, "count": manifest["count"] - 1}).encode()
    return {"labels.npy": labels.getvalue(), "manifest.json": fewer}


def altered(pack: Path, path: Path, name: str, inside: bytes) -> None:
    with zipfile.ZipFile(pack) as good, zipfile.ZipFile(path, "w") as made:
        for each in good.namelist():
            made.writestr(each, inside if each == name else good.read(each))


def test_other_content_of_that_name_is_kept(pack: Path, tmp_path: Path) -> None:
    there = tmp_path / MODEL / f"{MODEL}.onnx"
    there.parent.mkdir()
    there.write_bytes(b"mine")
    with pytest.raises(CnnkitError, match="is there already and is another file"):
        opened(pack, tmp_path)
    assert there.read_bytes() == b"mine"


def test_a_pack_of_other_weights_than_are_here_is_not_laid_beside_them(
    pack: Path, trained_root: Path, tmp_path: Path
) -> None:
    home = tmp_path / MODEL
    home.mkdir()
    for ending in ("", ".json"):
        shutil.copy(trained_root / MODEL / f"{MODEL}.safetensors{ending}", home)
    opened(pack, tmp_path)  # of these very weights
    here = {path.name for path in home.iterdir()}
    for path in home.glob(f"{MODEL}.onnx*"):
        path.unlink()
    known = json.loads((home / f"{MODEL}.safetensors.json").read_text())
    stamped = {**known, "sha256": "0" * 64}
    (home / f"{MODEL}.safetensors.json").write_text(json.dumps(stamped))
    with pytest.raises(CnnkitError, match=r"holds other weights of lenet-maxpool than .*: name an"):
        opened(pack, tmp_path)
    assert {path.name for path in home.iterdir()} < here


def opened(path: Path, root: Path) -> None:
    with open_pack(path, root):
        pass
