"""Every network of the catalog trains on real pictures, exports, answers alike everywhere, and profiles."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from cnnkit import front_door
from tests.networks import light_models
from toolkit import zoo
from toolkit.artifacts import find_artifacts
from toolkit.backends import BACKENDS, backend_names
from toolkit.datasets.fashion_mnist_sample import load
from toolkit.modules import walk

pytest.importorskip("torch")

# values of one picture; alexnet and nin read 224×224
LARGEST_INPUT = 10_000


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of real pictures: four classes, three to learn from and two to be tested on each."""
    root, data = tmp_path_factory.mktemp("pictures"), load()
    for part, split, count in (("train", data.train, 3), ("test", data.test, 2)):
        for label in range(4):
            folder = root / part / data.classes[label].replace("/", "-")
            folder.mkdir(parents=True)
            for index in np.flatnonzero(split.labels == label)[:count]:
                Image.fromarray(split.images[index, 0]).save(folder / f"{index}.png")
    return root


def type_in(*words: object) -> dict[str, object]:
    result = CliRunner().invoke(front_door.main, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    found: dict[str, object] = json.loads(result.stdout)
    return found


def cases() -> list[object]:
    """Return the zoo's networks; those that bring no family and no kind of layer run in `make test-all`."""
    small = [one for one in zoo.models().values() if np.prod(one.input_shape) <= LARGEST_INPUT]
    short = {*light_models(), *{one.family: one.name for one in reversed(small)}.values()}
    return [pytest.param(name, marks=[pytest.mark.slow] * (name not in short)) for name in zoo.models()]


@pytest.mark.parametrize("name", cases())
def test_a_network_trains_exports_answers_alike_and_profiles(
    name: str, pictures: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnx")
    data = ("--dataset", f"folder:{pictures}", "--artifacts", tmp_path, "--json")
    trained = type_in("train", name, "--epochs", "1", "--batch", "6", *data)
    assert trained["model"] == name
    made = type_in("export", name, "--format", "onnx", "--images", "8", "--artifacts", tmp_path, "--json")
    (artifact,) = made["artifacts"]  # type: ignore[misc]
    assert artifact["parity"]["top1_agreement"] == 1.0  # type: ignore[index]
    found = {one: type_in("eval", name, "--backend", one, *data) for one in runnable(name, tmp_path)}
    (confusion,) = {json.dumps(answer["confusion"]) for answer in found.values()}
    assert [answer["backend"] for answer in found.values()] == list(found)
    assert np.trace(json.loads(confusion)) / 8 == trained["test_accuracy"]
    assert all(len(answer["classes"]) == 4 for answer in found.values())  # type: ignore[arg-type]
    _check_profile(name, tmp_path, list(found))


def runnable(name: str, root: Path) -> Iterator[str]:
    """Yield the backends that run here and open what was made of a network."""
    made = {passport.format for _, passport in find_artifacts(root, name)}
    for backend in map(BACKENDS.load, backend_names()):
        if backend.availability().available and made & set(backend.formats):
            yield backend.name


def _check_profile(name: str, root: Path, backends: list[str]) -> None:
    """Hold a profile to every module in exactly one row and every executed node claimed once."""
    words = ",".join(backends)
    found: Any = type_in(
        *("profile", name, "--backend", words, "--duration", "0.1", "--artifacts", root, "--json")
    )
    (run,) = found["runs"]
    assert {backend: run["backends"][backend]["coverage"] for backend in backends} == dict.fromkeys(
        backends, 1.0
    )
    spec = zoo.model(name)
    walked = [row.name for row in walk(spec.build(1, 4), (1, 1, *spec.input_shape[1:]))]
    listed = [module for row in run["rows"] for module in row["modules"]]
    assert sorted(listed) == sorted(walked)
