"""Weights are equal from memory, a store or decoding, with any workers, and after kills that swap them."""

from __future__ import annotations

import dataclasses
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from toolkit.artifacts import hash_file  # noqa: E402  (after the skip)
from toolkit.datasets.fashion_mnist_sample import load  # noqa: E402
from toolkit.errors import CnnkitError  # noqa: E402
from toolkit.listings import store  # noqa: E402
from toolkit.training.run import train  # noqa: E402

# dropout, momentum, averaged weights, every augmentation, statistics of the pictures
FIELDS = {
    **{"epochs": 2, "batch": 20, "ema_decay": 0.9, "flip": True, "shift_pixels": 1, "cutout_pixels": 3},
    **{"augmix": 0.3, "rotate_degrees": 5.0, "colour": 0.1, "pixels": "standardise"},
}
PICTURES = 200

KILLED = f"""
import os, signal, sys
from pathlib import Path
import torch
from toolkit import zoo
from toolkit.listings import store
from toolkit.training import Job, Watcher, recipes
from toolkit.training.run import train

store.IN_MEMORY_BYTES = 0
root, word, left, kind, workers, resume = sys.argv[1:]
left = [int(left)]

class Killer(Watcher):
    def images(self, count):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

spec = zoo.model("lenet-dropout")
recipe = recipes.override(recipes.find(spec, "default"), {FIELDS!r})
train(Job(model=spec, recipe=recipe, root=Path(root), dataset=word, threads=1, save_every_s=0.0, store=kind,
          workers=int(workers), loader="torch", resume=resume == "resume"), Killer())
"""


@pytest.fixture(scope="module")
def word(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a folder of JPEGs that must be decoded and resized."""
    folder, sample = tmp_path_factory.mktemp("jpegs"), load()
    for index in range(PICTURES):
        path = folder / f"class {sample.train.labels[index] % 4}" / f"{index:04}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(sample.train.images[index, 0]).resize((45, 40)).save(path)
    return f"folder:{folder}"


@pytest.fixture
def job(make_job: Any, word: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(store, "IN_MEMORY_BYTES", 0)
    return make_job("lenet-dropout", changes=FIELDS, threads=1, dataset=word)


def trained(job: Any, listener: Any, root: Path, **more: Any) -> str:
    train(dataclasses.replace(job, root=root, **more), listener)
    return hash_file(root / "lenet-dropout" / "lenet-dropout.safetensors")


def test_memory_store_and_decoding_give_equal_weights_with_any_workers(
    job: Any, listener: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = trained(job, listener, tmp_path / "stored")
    assert trained(job, listener, tmp_path / "loaded", loader="torch", workers=1) == stored
    for workers in (0, 2):
        assert trained(job, listener, tmp_path / f"off-{workers}", store="off", workers=workers) == stored
    monkeypatch.setattr(store, "IN_MEMORY_BYTES", 1 << 30)
    assert trained(job, listener, tmp_path / "memory") == stored


def killed(root: Path, word: str, batch: int, kills: list[tuple[int, str, int]]) -> None:
    """Train with a kill after so many steps, by each store and number of workers in turn."""
    code = KILLED.replace("'batch': 20", f"'batch': {batch}")
    for number, (steps, kind, workers) in enumerate(kills):
        more = [str(steps), kind, str(workers), "resume" if number else "start"]
        ended = subprocess.run([sys.executable, "-c", code, str(root), word, *more], check=False)
        assert ended.returncode == -signal.SIGKILL


def test_a_run_that_is_killed_and_goes_on_from_elsewhere_ends_with_the_same_bytes(
    job: Any, listener: Any, word: str, tmp_path: Path
) -> None:
    killed(tmp_path / "killed", word, 20, [(3, "on", 0), (5, "off", 2), (2, "on", 1)])
    resumed = trained(job, listener, tmp_path / "killed", resume=True)
    assert resumed == trained(job, listener, tmp_path / "whole")


@pytest.mark.slow
def test_ten_kills_at_random_steps_with_workers_and_store_swapped_change_no_byte(
    job: Any, listener: Any, word: str, tmp_path: Path
) -> None:
    draw = random.Random(0)
    loaders = (0, 1, 2, 4, 0, 1, 2, 4, 0, 2)
    kills = [(draw.randint(1, 6), draw.choice(("on", "off")), workers) for workers in loaders]
    job = dataclasses.replace(job, recipe=dataclasses.replace(job.recipe, batch=4))
    killed(tmp_path / "killed", word, 4, kills)
    resumed = trained(job, listener, tmp_path / "killed", resume=True)
    assert resumed == trained(job, listener, tmp_path / "whole")


def test_pictures_that_change_while_they_are_decoded_end_the_run_in_one_line(
    job: Any, listener: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "changing"
    source = Path(job.dataset.removeprefix("folder:"))
    for path in source.rglob("*.jpg"):
        (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
        (folder / path.parent.name / path.name).write_bytes(path.read_bytes())

    class Vandal(type(listener)):  # type: ignore[misc]
        def start(self, *, epochs: int, images: int, done: int) -> None:
            for path in folder.rglob("*.jpg"):
                path.write_bytes(b"another")

    other = dataclasses.replace(job, dataset=f"folder:{folder}", store="off", workers=1)
    with pytest.raises(CnnkitError, match=r"^class \d/\d+\.jpg changed while it was read; let nothing write"):
        train(other, Vandal())
