"""Wheels in a folder: whole, in parts, for another Python, damaged, unpacked already."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.gpu.packages import base_packages, unpack
from tests.gpu.plan import REPO

CODE = "answer = 42\n"


def wheel(folder: Path, name: str, files: dict[str, str] | None = None) -> Path:
    path = folder / name
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in (files or {"carried.py": CODE}).items():
            archive.writestr(file, text)
    return path


def imported(paths: tuple[Path, ...], module: str) -> str:
    """Return the `answer` of a module as an interpreter with those paths sees it."""
    path = os.pathsep.join(map(str, paths))
    command = [sys.executable, "-c", f"import {module}; print({module}.answer)"]
    ran = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    return ran.stdout.strip()


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    return folder


def test_a_wheel_is_imported_without_pip(wheels: Path, tmp_path: Path) -> None:
    wheel(wheels, "carried-1.0-py3-none-any.whl")
    found = unpack(wheels, tmp_path / "work")
    assert imported(found.paths, "carried") == "42"
    assert found.notes == ("carried-1.0-py3-none-any.whl unpacked",)


def test_a_wheel_in_parts_is_joined_in_the_order_of_their_numbers(wheels: Path, tmp_path: Path) -> None:
    whole = wheel(tmp_path, "carried-1.0-py3-none-any.whl")
    data = whole.read_bytes()
    third = len(data) // 3
    for number, start in enumerate((0, third, 2 * third)):
        end = None if number == 2 else start + third
        (wheels / f"{whole.name}.part-{number:02}").write_bytes(data[start:end])
    found = unpack(wheels, tmp_path / "work")
    assert imported(found.paths, "carried") == "42"
    assert found.notes == ("carried-1.0-py3-none-any.whl unpacked",)


def test_a_wheel_whose_last_part_is_missing_is_named(wheels: Path, tmp_path: Path) -> None:
    data = wheel(tmp_path, "carried-1.0-py3-none-any.whl").read_bytes()
    (wheels / "carried-1.0-py3-none-any.whl.part-00").write_bytes(data[: len(data) // 2])
    (note,) = unpack(wheels, tmp_path / "work").notes
    assert note.startswith("carried-1.0-py3-none-any.whl is not used: ")
    assert note.endswith("its parts, if it came in parts, are not all there")


def test_a_wheel_for_another_python_is_named_and_left(wheels: Path, tmp_path: Path) -> None:
    wheel(wheels, "carried-1.0-cp27-cp27mu-linux_x86_64.whl")
    found = unpack(wheels, tmp_path / "work")
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert found.notes == (
        f"carried-1.0-cp27-cp27mu-linux_x86_64.whl is not used: it is for cp27, this is Python {own}",
    )
    assert imported(found.paths, "carried") == ""


@pytest.mark.parametrize("tags", [f"cp3{sys.version_info[1]}-cp3{sys.version_info[1]}", "cp38-abi3"])
def test_a_wheel_for_this_python_or_every_later_one_is_taken(tags: str, wheels: Path, tmp_path: Path) -> None:
    wheel(wheels, f"carried-1.0-{tags}-manylinux_2_17_x86_64.whl")
    assert imported(unpack(wheels, tmp_path / "work").paths, "carried") == "42"


def test_what_a_wheel_keeps_under_data_lands_on_the_path(wheels: Path, tmp_path: Path) -> None:
    files = {"carried-1.0.data/purelib/carried.py": CODE, "carried-1.0.data/scripts/carry": "#!python\n"}
    wheel(wheels, "carried-1.0-py3-none-any.whl", files)
    assert imported(unpack(wheels, tmp_path / "work").paths, "carried") == "42"


def test_unpacked_wheels_are_taken_as_they_lie_flat_or_each_in_a_folder(wheels: Path, tmp_path: Path) -> None:
    (wheels / "flat.py").write_text(CODE)
    (wheels / "one" / "one-1.0.dist-info").mkdir(parents=True)
    (wheels / "one" / "apart.py").write_text(CODE)
    found = unpack(wheels, tmp_path / "work")
    assert imported(found.paths, "flat") == imported(found.paths, "apart") == "42"


def test_the_base_packages_are_the_projects_own_without_the_runtime() -> None:
    found = base_packages(REPO / "pyproject.toml")
    assert {"click", "numpy", "PIL", "safetensors"} <= set(found)
    assert not any(name.startswith("onnxruntime") for name in found)
