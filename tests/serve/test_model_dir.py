"""`cnnkit serve --model-dir`: what is under a folder, however it was laid there, and nothing else."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from cnnkit import front_door
from serve.lineup import files_under
from serve.settings import OpeningSettings
from toolkit.artifacts import read_passport, sidecar, write_json
from toolkit.backends import DEFAULT_BACKEND
from toolkit.errors import NotFoundError


def placed(shipped: Path, folder: Path, name: str, **facts: object) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    shutil.copy(shipped, path)
    write_json(sidecar(path), dataclasses.replace(read_passport(shipped), **facts).to_json())
    return str(path)


def found(folder: Path, **opening: object) -> tuple[str, ...]:
    return files_under(folder, DEFAULT_BACKEND, OpeningSettings(root=folder, **opening))  # type: ignore[arg-type]


def test_every_artifact_is_found_flat_or_in_folders(shipped: Path, tmp_path: Path) -> None:
    flat = placed(shipped, tmp_path, "bags.onnx")
    deep = placed(shipped, tmp_path / "shoes" / "1", "shoes.onnx", trained=False)
    (tmp_path / "notes.json").write_text("{}")
    assert found(tmp_path) == (flat, deep)


def test_the_newest_file_of_a_name_is_served_however_old(shipped: Path, tmp_path: Path) -> None:
    placed(shipped, tmp_path / "a", "lenet-maxpool.onnx", created="2001-01-01T00:00:00+00:00")
    newer = placed(shipped, tmp_path / "b", "lenet-maxpool.onnx", created="2002-01-01T00:00:00+00:00")
    assert found(tmp_path) == (newer,)  # never what ships, which has that name and is younger


def test_a_folder_without_one_says_what_is_there(shipped: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no file there has a passport"):
        found(tmp_path)
    placed(shipped, tmp_path, "bags.onnx")
    with pytest.raises(NotFoundError, match=r"in int8; there are bags\.onnx \(fp32\): try --precision"):
        found(tmp_path, precision="int8")


@pytest.mark.parametrize(
    ("beside", "told"),
    [
        (["lenet"], "lenet"),
        (["--artifacts", "."], "--artifacts"),
        (["--untrained"], "--untrained"),
        (["--seed", "3"], "--seed"),
    ],
)
def test_what_else_says_where_models_are_is_refused(tmp_path: Path, beside: list[str], told: str) -> None:
    result = CliRunner().invoke(front_door.main, ["serve", *beside, "--model-dir", str(tmp_path)])
    assert result.exit_code == 2
    assert f"leave {told} away" in result.stderr
