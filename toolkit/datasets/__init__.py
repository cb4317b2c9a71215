"""The contract of a data set file: `DATASET`, a DatasetSpec; and Dataset, what one loads."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolkit.catalog import Shelf
from toolkit.errors import CnnkitError, NotFoundError, unknown_name
from toolkit.preprocessing import Preprocessing

# what a decoder brings pictures to: a (C, H, W), or all that a network's preprocessing says of it
Fit = tuple[int, int, int] | Preprocessing


@dataclass(frozen=True, kw_only=True)
class Split:
    """Pictures and labels: `images` (N, C, H, W) uint8, `labels` (N,) int64 from 0 to classes − 1.

    `fitted` is the preprocessing whose size and channels they were brought to; None for pictures as they
    lie in their files, or padded to a size.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    fitted: Preprocessing | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64] | slice) -> Split:
        """Return the chosen pictures in the given order."""
        return replace(self, images=self.images[indices], labels=self.labels[indices])


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set in memory, where it was found, and the hash of its content."""

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    source: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """One data set. `load(name, data_dir, fetch, size)` returns it or raises NotFoundError.

    `name` is as typed (`folder:PATH` for an image folder); `data_dir` is searched first; `fetch`
    allows downloads; `size` is the (C, H, W) wanted by decoders of pictures of any size, or the whole
    preprocessing, whose pixels they then are (`Split.fitted`). It is ignored where pictures have one
    size already.

    A source of people's own pictures has a `scheme`: it is typed `<scheme>:<place>`, as in `folder:PATH`.
    `example` is what errors propose, `layout` what has to lie at that place. `listing(name)` is a hash of
    the files that lie there, without decoding one; None where there are none.
    """

    name: str
    shape: tuple[int, int, int] | None
    classes: tuple[str, ...] | None
    summary: str
    licence: str
    train_images: int | None
    load: Callable[[str, Path | None, bool, Fit | None], Dataset]
    scheme: str | None = None
    example: str | None = None
    layout: str | None = None
    listing: Callable[[str], str | None] | None = None


DATASETS = Shelf("toolkit.datasets", "DATASET", DatasetSpec, "dataset")


def dataset_words() -> list[str]:
    """Return what `--dataset` takes: the names of data sets, and an example of each scheme; sorted."""
    return sorted((spec.example or word) for word, spec in _specs().items())


def dataset_names() -> list[str]:
    """Return the names of the data sets that are the same for everybody: those without a scheme."""
    return [word for word, spec in _specs().items() if spec.scheme is None]


def own_sources() -> list[DatasetSpec]:
    """Return the sources of people's own pictures: those with a scheme, in the order of their words."""
    return [spec for spec in _specs().values() if spec.scheme is not None]


def dataset_of(word: str) -> DatasetSpec:
    """Return the data set of a name, or the source of pictures of a scheme (`folder:PATH`).

    Raises NotFoundError with the nearest match.
    """
    scheme, colon, place = word.partition(":")
    specs = _specs()
    for spec in specs.values():
        if colon and spec.scheme == scheme:
            if not place.strip():
                raise NotFoundError(f"{word!r} names no {scheme}; your own pictures are `{spec.example}`")
            return spec
    found = specs.get(word)
    if found is None or found.scheme is not None:
        raise unknown_name("dataset", word, dataset_words())
    return found


def _specs() -> dict[str, DatasetSpec]:
    return {word: DATASETS.load(word) for word in DATASETS.names()}


def fingerprint(*splits: Split) -> str:
    """Return the SHA-256 of pictures and labels, so that two runs can tell whether data is equal."""
    digest = hashlib.sha256()
    for split in splits:
        digest.update(repr((split.images.shape, split.labels.shape)).encode())
        digest.update(np.ascontiguousarray(split.images).data)
        digest.update(np.ascontiguousarray(split.labels).data)
    return digest.hexdigest()


def split_off(data: Split, fraction: float) -> tuple[Split, Split | None]:
    """Hold out that fraction of every class for choosing the best epoch; None for none.

    The choice depends on the labels alone, so that runs with different seeds compare on equal images.
    """
    if fraction <= 0:
        return data, None
    random = np.random.default_rng(0)
    held = np.zeros(len(data), dtype=bool)
    for label in np.unique(data.labels):
        where = np.flatnonzero(data.labels == label)
        # a class with a single picture keeps it for training
        count = min(len(where) - 1, max(1, round(fraction * len(where))))
        held[random.permutation(where)[:count]] = True
    if not held.any():
        raise CnnkitError(
            f"no images can be held out: every class has one training image; --validation-fraction 0 "
            f"--select last trains on all {len(data)}"
        )
    return data.take(np.flatnonzero(~held)), data.take(np.flatnonzero(held))
