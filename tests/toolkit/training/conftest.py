"""A small real job, and a watcher that remembers what it was told."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from toolkit import zoo
from toolkit.machine.threads import own_threads
from toolkit.models import ModelSpec
from toolkit.modules.operations import FunctionCall, Operations
from toolkit.training import EpochRecord, Job, Watcher, recipes
from toolkit.training.objective import Objective

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Compute with one thread: nets this small gain little from more, and lose much on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    own_threads.cache_clear()
    yield
    torch.set_num_threads(before)
    own_threads.cache_clear()


@pytest.fixture(autouse=True)
def hears_interrupts() -> Iterator[None]:
    """Take Ctrl-C as a terminal's processes do: those in the background of a script ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Listener(Watcher):
    """Remembers what a training says."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.records: list[EpochRecord] = []
        self.count = 0

    def say(self, text: str) -> None:
        self.said.append(text)

    def start(self, *, epochs: int, images: int, done: int) -> None:
        self.said.append(f"start {epochs} × {images}, {done} done")

    def images(self, count: int) -> None:
        self.count += count

    def epoch(self, record: EpochRecord) -> None:
        self.records.append(record)


@pytest.fixture
def listener() -> Listener:
    return Listener()


MakeJob = Callable[..., Job]


@pytest.fixture
def make_job(tmp_path: Path) -> MakeJob:
    """Return a maker of jobs on the real sample: recipe fields in `changes`, the rest as keywords."""

    def make(
        model: str = "lenet-relu", recipe: str = "default", changes: dict[str, Any] | None = None, **more: Any
    ) -> Job:
        spec = zoo.model(model)
        fields = {"epochs": 2, **(changes or {})}
        options = {"dataset": "fashion-mnist-sample", "root": tmp_path / "artifacts", **more}
        return Job(model=spec, recipe=recipes.override(recipes.find(spec, recipe), fields), **options)

    return make


def objective_for(labels: NDArray[np.int64], *, classes: int, smoothing: float = 0.0) -> Objective:
    """Return the objective of pictures with these labels, each drawn once an epoch and counted alike."""
    shares = np.bincount(labels, minlength=classes) / len(labels)
    return Objective(shares=tuple(map(float, shares)), smoothing=smoothing)


def operations_of(module: Any, *shape: int) -> tuple[FunctionCall, ...]:
    """Return what a network computes its answer to a picture of this shape with."""
    watching = Operations(module)
    with torch.no_grad(), watching:
        module.eval()(torch.zeros(1, *shape))
    return tuple(watching.found)


def zoo_operations(spec: ModelSpec) -> tuple[FunctionCall, ...]:
    """Return the operations of a network of the zoo for ten classes."""
    return operations_of(spec.build(spec.input_shape[0], 10), *spec.input_shape)
