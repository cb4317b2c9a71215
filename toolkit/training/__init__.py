"""Training: the loop, its recipes, augmentation, resume, the divergence guard and sweeps.

The contract: a `Job` says what to train, `train(job, watcher)` of `toolkit.training.run` trains it,
an `Outcome` says what came of it, and a `Watcher` is told of it on the way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from toolkit.artifacts import Artifact
from toolkit.models import ModelSpec, Recipe

Arithmetic = Literal["auto", "fp32", "bf16", "fp16"]
Layout = Literal["auto", "contiguous", "channels-last"]
Loader = Literal["memory", "torch"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is trained, on what, and where; `recipe` says how.

    `name` is the artifact's; `dataset` None is the model's own; `size` (height, width) None is the
    model's own; `images` limits the training set to that many, evenly over the classes.
    """

    model: ModelSpec
    recipe: Recipe
    root: Path
    name: str | None = None
    dataset: str | None = None
    data_dir: Path | None = None
    size: tuple[int, int] | None = None
    images: int | None = None
    seed: int = 0
    device: str = "cpu"
    threads: int | None = None
    arithmetic: Arithmetic = "auto"
    layout: Layout = "auto"
    loader: Loader = "memory"
    workers: int = 0
    resume: bool = False
    save_every_s: float = 10.0
    stall_limit_s: float | None = None
    flip_test: bool = False
    pretrained: str | None = None
    freeze: bool = False
    model_file: Path | None = None

    @property
    def artifact_name(self) -> str:
        """Return the name under which the artifacts lie."""
        return self.name or self.model.name

    @property
    def dataset_name(self) -> str:
        """Return the data set's name as given, or the model's own."""
        return self.dataset or self.model.dataset


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """What one epoch came to, over all of its images; `rate` is its last learning rate."""

    epoch: int
    attempt: int
    rate: float
    train_loss: float
    train_accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a training came to. Accuracies are shares of 1; unknown is None."""

    checkpoint: Artifact
    folder: Path
    records: tuple[EpochRecord, ...]
    selected_epoch: int
    test_accuracy: float
    test_accuracy_ci95: tuple[float, float]
    test_images: int
    val_accuracy: float | None
    class_accuracy: tuple[float | None, ...]
    confusion: tuple[tuple[int, ...], ...]
    flip_test_accuracy: float | None
    seconds: float
    images_per_second: float | None
    arithmetic: str
    layout: str
    threads: int
    peak_memory_bytes: int | None
    device_peak_memory_bytes: int | None
    device_utilisation: float | None
    events: tuple[str, ...] = field(default=())


class Watcher(Protocol):
    """Whoever wants to know how a training goes; every method may do nothing."""

    def say(self, text: str) -> None:
        """Take a sentence for people."""

    def start(self, *, epochs: int, images: int, done: int) -> None:
        """Learn how many epochs of how many images come, and how many images of them are done."""

    def images(self, count: int) -> None:
        """Learn that so many more images were trained on."""

    def epoch(self, record: EpochRecord) -> None:
        """Learn what an epoch came to."""
