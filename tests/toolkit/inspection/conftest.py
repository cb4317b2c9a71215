"""A small network that really learned something, as checkpoint and as ONNX."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from cnnkit import front_door
from toolkit.datasets import Dataset
from toolkit.datasets.fashion_mnist_sample import load

Run = Callable[..., Result]


@pytest.fixture(scope="session")
def sample() -> Dataset:
    """Return the sample of Fashion-MNIST that ships."""
    return load()


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an artifacts folder with a lenet-maxpool trained on the sample, checkpoint only."""
    pytest.importorskip("torch")
    root = tmp_path_factory.mktemp("trained")
    words = ["train", "lenet-maxpool", "--dataset", "fashion-mnist-sample", "--epochs", "3", "--json"]
    result = CliRunner().invoke(front_door.main, [*words, "--artifacts", str(root)])
    assert result.exit_code == 0, result.output
    return root


@pytest.fixture(scope="session")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an artifacts folder with that checkpoint and its ONNX file."""
    pytest.importorskip("onnx")
    import shutil

    root = tmp_path_factory.mktemp("exported")
    shutil.copytree(trained / "lenet-maxpool", root / "lenet-maxpool")
    words = ["export", "lenet-maxpool", "--format", "onnx", "--images", "100", "--json"]
    result = CliRunner().invoke(front_door.main, [*words, "--artifacts", str(root)])
    assert result.exit_code == 0, result.output
    return root


@pytest.fixture
def boot(tmp_path: Path, sample: Dataset) -> Path:
    """Return a PNG of a test picture, light on black as in the data set."""
    path = tmp_path / "boot.png"
    Image.fromarray(sample.test.images[0, 0]).save(path)
    return path


def read(result: Result) -> Any:
    """Return the one JSON object on stdout."""
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)
