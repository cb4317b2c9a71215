"""The wheel holds everything that running needs, and works from any directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # --no-isolation: hatchling is in the test extra, so building needs no network
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(REPO)]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack the wheel into a folder of its own, as `pip install --no-deps --target` does."""
    target = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--target",
        str(target),
    ]
    subprocess.run([*command, str(wheel)], check=True, capture_output=True)
    return target


def run(installed: Path, cwd: Path, *args: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, "-m", "cnnkit", *args]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environment)


def test_wheel_holds_code_sample_and_shipped_model_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "toolkit",
        "exporters",
        "serve",
        "cnnkit",
    }
    assert "toolkit/datasets/fashion_mnist_sample.npz" in names
    assert {f"{package}/py.typed" for package in ("cnnkit", "toolkit", "exporters", "serve")} <= set(names)
    assert "exporters/browser/page/index.html" in names
    assert "cnnkit/__init__.pyi" in names  # from which the names of the public surface are read
    shipped = [name for name in names if name.startswith("toolkit/shipped/lenet-maxpool/")]
    assert any(name.endswith(".safetensors") for name in shipped)
    assert any(name.endswith(".onnx.json") for name in shipped)


def test_shipped_model_is_under_a_megabyte(wheel: Path) -> None:
    sizes = [
        i.file_size for i in zipfile.ZipFile(wheel).infolist() if i.filename.startswith("toolkit/shipped/")
    ]
    assert 0 < sum(sizes) < 1_000_000


def test_installed_wheel_runs_from_an_empty_directory(installed: Path, tmp_path: Path) -> None:
    place = subprocess.run(
        [sys.executable, "-c", "import toolkit; print(toolkit.__file__)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
    )
    assert Path(place.stdout.strip()).is_relative_to(installed)
    done = run(installed, tmp_path, "models", "--json")
    assert done.returncode == 0, done.stderr
    assert "lenet" in {model["name"] for model in json.loads(done.stdout)["models"]}


def test_installed_wheel_classifies_with_the_shipped_model(installed: Path, tmp_path: Path) -> None:
    arguments = ("lenet-maxpool", "--dataset", "fashion-mnist-sample", "--first", "20", "--json")
    done = run(installed, tmp_path, "predict", *arguments)
    assert done.returncode == 0, done.stderr
    payload = json.loads(done.stdout)
    assert len(payload["predictions"]) == 20
    assert str(installed) in payload["artifact"]
    assert list(tmp_path.iterdir()) == []
