"""What a run was started with, as its `run.json` holds it: whether a job may go on with the run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from toolkit.artifacts import hash_file
from toolkit.checkpoints import model_file_hash
from toolkit.flattening import Levels
from toolkit.listings.records import Record
from toolkit.recipes import OWN_PIXELS, Recipe
from toolkit.schema import Positive, Seed
from toolkit.training import Arithmetic, Job, Layout, Loader
from toolkit.training.compute.format import Compute
from toolkit.transfer import IMAGENET, known_input

# what an equal run need not share: what it was begun with, and what only describes a recipe
_BEGUN_WITH = {"threads", "ranks", "torch", "scheme", "compute", "teacher_compute", "options", "kept"}
# of draws, schedules, averages and input: raised where equal seeds and recipes give other weights than before
_SCHEME, _SCHEME_OF_SOME, _SCHEME_OF_SHAPES_AND_AVERAGES = 2, 3, 4
# the same batches come from all of them
_LOADING = {"loader"}
_DESCRIPTIVE = {"changed", "name", "source", "assumed"}


@dataclass(frozen=True, kw_only=True)
class ComputeOptions:
    """How a run was asked to compute, in the words of `cnnkit train`; `threads` is None where it was not."""

    precision: Arithmetic
    layout: Layout
    threads: Positive | None = None


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What makes a run the run it is, then what it was begun with; a resumed one must be asked for alike.

    `kept` holds the keys of a run's file that no field names.
    """

    model: str
    recipe: Recipe
    dataset: str
    fingerprint: str
    size: tuple[Positive, Positive] | None = None
    images: Annotated[int, Meta(ge=1)] | None = None  # as many as were asked for, there or not
    seed: Seed = 0
    device: str = "cpu"
    loader: Loader = "memory"
    pretrained: str | None = None
    freeze: bool = False
    trained_on: str | None = None  # the hash of the list of pictures, of one's own
    fold: str | None = None
    teacher_sha256: str | None = None
    model_file_sha256: str | None = None
    loss_weights: tuple[float, ...] | None = None  # of the classes, as a file of weights had them
    sync_batch_norm: bool = False
    pretrained_hash: str | None = None  # of a file and what its passport says of its input; else None
    levels: Levels | None = None
    grey: bool = False
    folds_carry: bool = False  # as Fold.split deals; of one's own pictures `trained_on` says all

    threads: Positive | None = None
    ranks: Positive = 1
    torch: str | None = None
    scheme: int = 1  # that of the job in its release; the first ones did not tell it
    compute: Compute | None = None
    teacher_compute: Compute | None = None  # None, too, in runs of a release that did not note it
    options: ComputeOptions | None = None  # None in runs of a release that did not note them
    kept: Mapping[str, Any] = field(default_factory=dict)

    def shared_out_anew(self, ranks: int, threads: int, asked: int | None) -> RunFacts:
        """Return what a run goes on with on other ranks, each with so many threads; `asked` is as typed."""
        return replace(
            self,
            ranks=ranks,
            threads=threads,
            compute=self.compute and replace(self.compute, threads=threads),
            teacher_compute=self.teacher_compute and replace(self.teacher_compute, threads=threads),
            options=self.options and replace(self.options, threads=asked),
        )


def compute_options(job: Job) -> ComputeOptions:
    """Return how a job asks to compute."""
    return ComputeOptions(precision=job.arithmetic, layout=job.layout, threads=job.threads)


def scheme_of(job: Job) -> int:
    """Return the number of the draws, schedules, averages and input that a job has in this release.

    Jobs whose weights a change leaves alone keep their number.
    """
    recipe = job.recipe
    if recipe.crop_area is not None or _turns_oblongs(job) or _averages_otherwise(recipe):
        return _SCHEME_OF_SHAPES_AND_AVERAGES
    waits = recipe.patience_epochs is not None and recipe.unfreeze_at is not None
    return _SCHEME_OF_SOME if recipe.augmix or waits or job.pretrained else _SCHEME


def _turns_oblongs(job: Job) -> bool:
    """Tell whether pictures that are not square are turned or sheared."""
    height, width = job.size or job.model.input_shape[1:]
    recipe = job.recipe
    return height != width and bool(recipe.rotate_degrees or recipe.augmix or recipe.randaugment)


def _averages_otherwise(recipe: Recipe) -> bool:
    """Tell whether an equal average's figures come from single pictures, or is waited for over cycles."""
    waits = recipe.patience_epochs is not None and recipe.cycles > 1
    return recipe.average_from is not None and (waits or recipe.batch == 1)


def identity(
    job: Job,
    fingerprint: str,
    record: Record | None = None,
    *,
    weights: tuple[float, ...] | None = None,
    teacher: str | None = None,
    levels: Levels | None = None,
) -> RunFacts:
    """Return what makes a job's run the run it is; `weights` are the classes', `teacher` is a hash.

    `levels` are those that became black and white, typed or measured.
    """
    return RunFacts(
        model=job.model.name,
        recipe=job.recipe,
        dataset=job.dataset_name,
        fingerprint=fingerprint,
        size=job.size,
        images=job.images,
        seed=job.seed,
        device=job.device,
        loader=job.loader,
        pretrained=job.pretrained,
        freeze=job.freeze,
        trained_on=uses_hash(record) if record else None,
        fold=job.fold,
        teacher_sha256=teacher,
        model_file_sha256=model_file_hash(job.model, job.model_file),
        loss_weights=weights,
        sync_batch_norm=job.sync_batch_norm,
        pretrained_hash=_pretrained_hash(job.pretrained),
        levels=levels,
        grey=job.grey,
        folds_carry=job.fold is not None and record is None,
    )


def _pretrained_hash(source: str | None) -> str | None:
    if source is None or source == IMAGENET or not Path(source).is_file():
        return None
    known = known_input(source)
    told = "None"
    if known is not None:
        # as the first runs with this hash have it: a field that came since is told where it says something
        fields = f"size={known.size}, mean={known.mean}, std={known.std}, classes={known.classes}"
        told = f"KnownInput({fields}{', turned=True' if known.turned else ''})"
    return hashlib.sha256(f"{hash_file(Path(source))} {told}".encode()).hexdigest()


def uses_hash(record: Record) -> str:
    """Return a hash of what each picture is used for, whatever the pictures are called."""
    uses = sorted((one.use, one.label, one.sha256) for one in record.pictures if one.use != "excluded")
    return hashlib.sha256(repr(uses).encode("utf-8", "surrogateescape")).hexdigest()


def differences(asked: RunFacts, begun: RunFacts) -> list[str]:
    """Say where what is asked for differs from what a run was begun with."""
    now, then = ({**asdict(facts), **asdict(facts.recipe)} for facts in (asked, begun))
    ignored = _BEGUN_WITH | _LOADING | _DESCRIPTIVE | {"recipe"}
    if asked.fingerprint == begun.fingerprint:
        ignored.add("dataset")  # the same pictures by another path
    if asked.pretrained_hash and asked.pretrained_hash == begun.pretrained_hash:
        ignored.add("pretrained")
    if begun.pretrained and begun.pretrained_hash is None:
        ignored.add("pretrained_hash")  # of a release that knew the path alone
    if not asked.pretrained or asked.recipe.pixels in OWN_PIXELS:
        ignored.add("own_pixels")  # asked for or not, these recipes' pixels are the same
    if asked.loss_weights and asked.loss_weights == begun.loss_weights:
        ignored.add("class_weights")
    return [
        f"{key} {then[key]!r}, now {value!r}"
        for key, value in now.items()
        if key not in ignored and value != then[key]
    ]
