"""The pictures that candidates are judged on, in a file that their processes read."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolkit.answering import fitted
from toolkit.artifacts import Artifact
from toolkit.choosing import ChooseSettings
from toolkit.datasets import absolute_word
from toolkit.errors import CnnkitError
from toolkit.exporting.evidence import random_evidence
from toolkit.exporting.heldout import hold_out
from toolkit.passports import DatasetRef, Passport

# inputs of a network without pictures
NOISE = 64


@dataclass(frozen=True, kw_only=True)
class ChoicePictures:
    """What candidates are judged on: a file of pixels (`ready`: of inputs), and their labels, (N,).

    Where nothing can be judged on, `labels` is None, `why_unjudged` says why and the inputs are random.
    `named` is the data set or the pack that they were asked for from, None for the network's own.
    """

    file: Path
    source: str
    count: int
    labels: NDArray[np.int64] | None = None
    ready: bool = False
    why_unjudged: str | None = None
    named: str | None = None


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a folder that is gone at the end. Raises CnnkitError where none can be made, as on full disks."""
    try:
        made = tempfile.TemporaryDirectory(prefix="cnnkit-choose-")
    except OSError as error:
        raise CnnkitError(
            f"cannot make a folder for the pictures: {error.strerror or error}; free some space or set TMPDIR"
        ) from None
    with made as folder:
        yield Path(folder)


@contextlib.contextmanager
def pictures_for(source: Artifact, settings: ChooseSettings, dataset: str | None) -> Iterator[ChoicePictures]:
    """Yield a network's validation pictures in a file that candidates' processes read."""
    with temporary_folder() as folder:
        file = folder / "pictures.npy"
        try:
            written = _written(file, source, settings, dataset)
        except OSError as error:
            raise CnnkitError(
                f"cannot write the validation pictures to {folder}: {error.strerror or error}; free some "
                "space or set TMPDIR"
            ) from None
        yield written


def _written(file: Path, source: Artifact, settings: ChooseSettings, dataset: str | None) -> ChoicePictures:
    passport = on_pictures(source.passport, dataset)
    held = hold_out(passport, images=1, seed=settings.seed, data_dir=settings.data_dir, beside=source.path)
    if held.validation is None or passport.preprocessing is None or len(held.validation) == 0:
        why = held.why_unjudged or "it has no validation pictures"
        return noise_in(file, passport, settings.seed, why)
    chosen = held.validation.take(slice(settings.image_limit))
    pixels = fitted(chosen, passport.preprocessing)
    np.save(file, pixels)
    return ChoicePictures(
        file=file,
        source=f"{len(chosen):,} {held.validation_source}",
        count=len(chosen),
        labels=np.asarray(chosen.labels),
        named=dataset and absolute_word(dataset),
    )


def on_pictures(passport: Passport, dataset: str | None) -> Passport:
    """Return a passport with the data set that was typed, its own where that is the same one or None."""
    known = passport.dataset
    if dataset is None or (known is not None and known.name == absolute_word(dataset)):
        return passport
    return replace(passport, dataset=DatasetRef(name=absolute_word(dataset), named=True, halved=True))


def noise_in(file: Path, passport: Passport, seed: int, why: str) -> ChoicePictures:
    """Write seeded random inputs of a network, which tell equal numbers and nothing else."""
    drawn = random_evidence(passport, NOISE, seed, why)
    ready = drawn.pixels is None
    values = drawn.inputs if drawn.pixels is None else drawn.pixels
    np.save(file, np.asarray(values[:NOISE]))
    return ChoicePictures(
        file=file, source=f"{NOISE} seeded random inputs", count=NOISE, ready=ready, why_unjudged=why
    )
