"""Training: the loop, its recipes, augmentation, resume, the divergence guard and sweeps.

The contract: a `Job` says what to train, `train(job, watcher)` of `toolkit.training.run` trains it,
an `Outcome` says what came of it, and a `Watcher` is told of it on the way.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from toolkit.artifacts import Artifact, artifact_name
from toolkit.datasets import dataset_words
from toolkit.errors import CnnkitError
from toolkit.listings import MOST_PIXELS, Reading
from toolkit.machine.cpu import MOST_THREADS
from toolkit.models import ModelSpec, Recipe
from toolkit.recipes import About, Metric
from toolkit.schema import Count, Magnitude, Positive, Seed, Share

Arithmetic = Literal["auto", "measured", "fp32", "bf16", "fp16"]
Layout = Literal["auto", "contiguous", "channels-last"]
Loader = Literal["memory", "torch"]
Store = Literal["on", "off"]

# more are a slip of the finger, which would take the whole machine down before any error could be told
MOST_WORKERS = 256
MOST_RANKS = 64


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is trained, on what, and where; `recipe` says how.

    `name` is the artifact's; `dataset` None is the model's own; `size` (height, width) None is the
    model's own; `images` limits the training set to that many, evenly over the classes.
    """

    model: ModelSpec
    recipe: Recipe
    root: Path
    dataset: str | None = None
    size: tuple[int, int] | None = None
    model_file: Path | None = None
    name: Annotated[str | None, About("Name of the artifact (default: the model's).")] = None
    data_dir: Annotated[Path | None, About("Folder searched first for data.")] = None
    group: Annotated[
        str | None,
        About(
            "Regular expression that finds a picture's clip, patient or camera: a group stays in one part."
        ),
    ] = None
    exclude: Annotated[
        Path | None, About("List of pictures to leave out, as `cnnkit check --write-list` writes it.")
    ] = None
    columns: Annotated[
        str | None,
        About("Columns of a table, image=FILE,label=KIND[,part=…,group=…]; levels of a folder, label=2."),
    ] = None
    levels: Annotated[
        str | None,
        About(
            "LOW,HIGH: values of files of more than 8 bits that become black and white (default: the data's)."
        ),
    ] = None
    grey: Annotated[bool, About("One channel, whatever colours the pictures have.")] = False
    skip_damaged: Annotated[bool, About("Go on without pictures that cannot be read.")] = False
    max_pixels: Annotated[int, About("Largest picture that is decoded, in pixels.", 1, MOST_PIXELS)] = (
        MOST_PIXELS
    )
    images: Annotated[int | None, About("Train on so many images, evenly over the classes.", 1)] = None
    seed: Annotated[int, About("Seed of everything that is drawn.", 0)] = 0
    device: Annotated[str, About("cpu, cuda, cuda:N or mps.")] = "cpu"
    threads: Annotated[int | None, About("Threads to compute with.", 1, MOST_THREADS)] = None
    arithmetic: Annotated[
        Arithmetic,
        About(
            "What to compute in while training; auto chooses by processor, network and batch, measured by "
            "trying, which a busy machine may do otherwise.",
            word="precision",
        ),
    ] = "auto"
    layout: Annotated[Layout, About("How pixels lie in memory; auto chooses.")] = "auto"
    loader: Annotated[
        Loader, About("memory: this process deals out batches (default); torch: a DataLoader, ahead.")
    ] = "memory"
    workers: Annotated[
        int | None,
        About(
            "Processes that load; means --loader torch (default: one a core with --store off).",
            0,
            MOST_WORKERS,
        ),
    ] = None
    store: Annotated[
        Store,
        About("on: your own pictures are decoded once, into the cache; off: whenever they are needed."),
    ] = "on"
    ranks: Annotated[
        int,
        About(
            "Train with so many processes, here or where --on says, which share every batch out.",
            1,
            MOST_RANKS,
        ),
    ] = 1
    sync_batch_norm: Annotated[
        bool, About("Batch norm of the whole batch where ranks share it out, as one process has it.")
    ] = False
    resume: Annotated[bool, About("Go on with the newest unfinished run of this command.")] = False
    save_every_s: Annotated[
        float, About("How often the state is saved within an epoch.", 0, word="save-every")
    ] = 10.0
    stall_limit_s: Annotated[
        float | None,
        About(
            "Give up when no step was made for so long (default: only say where it hangs).",
            above=0,
            word="stall-limit",
        ),
    ] = None
    teacher: Annotated[
        str | None,
        About("Learn from this trained network's answers, too: a name here or a checkpoint."),
    ] = None
    fold: Annotated[
        str | None,
        About("Hold out this fold of so many, such as 1/5, in place of a share: for cross-validation."),
    ] = None
    flip_test: Annotated[bool, About("Also test with mirror images averaged in: a separate figure.")] = False
    pretrained: Annotated[
        str | None,
        About(
            "Start from ImageNet's weights (resnets), a package's published ones in this machine's cache, "
            "or a file of weights."
        ),
    ] = None
    freeze: Annotated[bool, About("Only the head learns; all other layers stay as they start.")] = False

    @property
    def artifact_name(self) -> str:
        """Return the name under which the artifacts lie."""
        return self.name or artifact_name(self.model.name)

    @property
    def dataset_name(self) -> str:
        """Return the data set's name as given, or the model's own. Raises CnnkitError where it has none."""
        name = self.model.dataset if self.dataset is None else self.dataset
        if name is None:
            raise CnnkitError(
                f"{self.model.name} has no data set of its own; add `--dataset {'|'.join(dataset_words())}`"
            )
        return name

    @property
    def reading(self) -> Reading:
        """Return how pictures of one's own are read."""
        return Reading(
            group=self.group,
            exclude=self.exclude,
            columns=self.columns,
            skip_damaged=self.skip_damaged,
            max_pixels=self.max_pixels,
            store=self.store == "on",
        )


# the field of an EpochRecord, and the column of the epochs' table, that holds a metric's figure
HELD_OUT: Mapping[Metric, str] = {
    "accuracy": "val_accuracy",
    "balanced-accuracy": "val_balanced_accuracy",
    "macro-f1": "val_macro_f1",
    "loss": "val_loss",
}


def rising(metric: Metric, figure: float | None) -> float | None:
    """Return a metric's figure so that greater is better: a loss with its sign changed.

    None stays None, and what is not finite is None, as in what was read from JSON.
    """
    if figure is None or not math.isfinite(figure):
        return None
    return -figure if metric == "loss" else figure


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """What one epoch came to, over all of its images; `rate` is its last learning rate.

    A loss that is not finite is None in JSON, and in a record that was read from JSON.
    """

    epoch: Positive
    attempt: Count
    rate: Magnitude
    train_loss: float | None
    train_accuracy: Share
    val_loss: float | None
    val_accuracy: Share | None
    seconds: Magnitude
    val_balanced_accuracy: Share | None = None
    val_macro_f1: Share | None = None

    def better_than(self, other: EpochRecord, metric: Metric) -> bool:
        """Tell whether this epoch is better in a metric, ties by loss; without held-out images, the later."""
        if self.val_accuracy is None or other.val_accuracy is None:
            return True
        for judge in (metric, "loss"):
            figures = self.figure(judge), other.figure(judge)
            now, then = (-math.inf if figure is None else figure for figure in figures)
            if now != then:
                return now > then
        return False

    def figure(self, metric: Metric) -> float | None:
        """Return the held-out figure of a metric, greater being better: a loss with its sign changed."""
        return rising(metric, getattr(self, HELD_OUT[metric]))


@dataclass(frozen=True, kw_only=True)
class TrainingFigures:
    """What was measured of a training. Accuracies are shares of 1; unknown is None.

    `class_accuracy` is each class's recall. Reports of older releases lack balanced accuracy, precision, F1.
    """

    selected_epoch: Positive
    test_accuracy: Share
    test_accuracy_ci95: tuple[Share, Share]
    test_images: Positive
    val_accuracy: Share | None
    class_accuracy: tuple[Share | None, ...]
    confusion: tuple[tuple[Count, ...], ...]
    flip_test_accuracy: Share | None
    seconds: Magnitude
    images_per_second: Magnitude | None
    arithmetic: str
    layout: str
    threads: Positive
    peak_memory_bytes: Count | None
    device_peak_memory_bytes: Count | None
    device_utilisation: Share | None
    events: tuple[str, ...] = ()
    balanced_accuracy: Share | None = None
    class_precision: tuple[Share | None, ...] = ()
    class_f1: tuple[Share | None, ...] = ()
    macro_f1: Share | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingReport(TrainingFigures):
    """What `cnnkit train --json` prints and a run's folder keeps."""

    model: str
    recipe: str
    dataset: str
    epochs: Positive
    seed: Seed
    checkpoint: str
    sha256: str
    run: str
    settings: Recipe
    history: tuple[EpochRecord, ...]

    def figure(self, metric: Metric) -> float | None:
        """Return the held-out figure of the epoch that was kept, as EpochRecord.figure; None for none."""
        kept = [record for record in self.history if record.epoch == self.selected_epoch]
        return kept[0].figure(metric) if kept else None


@dataclass(frozen=True, kw_only=True)
class Outcome(TrainingFigures):
    """What a training came to: its promoted checkpoint, its run's folder, its epochs and figures."""

    job: Job
    checkpoint: Artifact
    folder: Path
    records: tuple[EpochRecord, ...]

    def report(self) -> TrainingReport:
        """Return what is printed and kept of the outcome, paths absolute."""
        figures = {f.name: getattr(self, f.name) for f in dataclasses.fields(TrainingFigures)}
        return TrainingReport(
            model=self.job.model.name,
            recipe=self.job.recipe.name,
            dataset=self.job.dataset_name,
            epochs=len(self.records),
            seed=self.job.seed,
            checkpoint=str(self.checkpoint.path.absolute()),
            sha256=self.checkpoint.passport.sha256,
            run=str(self.folder.absolute()),
            settings=self.job.recipe,
            history=self.records,
            **figures,
        )

    def _repr_html_(self) -> str:
        from toolkit.training.record.html import outcome_html

        return outcome_html(self)


class Watcher:
    """Whoever wants to know how a training goes overrides what is of interest; this one watches nothing."""

    def say(self, text: str) -> None:
        """Take a sentence for people."""

    def read(self, done: int, total: int) -> None:
        """Learn how many pictures of one's own are hashed or decoded, of how many."""

    def start(self, *, epochs: int, images: int, done: int) -> None:
        """Learn how many epochs of how many images come, and how many images of them are done."""

    def images(self, count: int) -> None:
        """Learn that so many more images were trained on."""

    def epoch(self, record: EpochRecord) -> None:
        """Learn what an epoch came to."""
