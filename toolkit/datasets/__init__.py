"""The contract of a data set file: `DATASET`, a DatasetSpec; and Dataset, what one loads."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Split:
    """Pictures and labels: `images` (N, C, H, W) uint8, `labels` (N,) int64 from 0 to classes − 1."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64] | slice) -> Split:
        """Return the chosen pictures in the given order."""
        return Split(images=self.images[indices], labels=self.labels[indices])


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
    allows downloads; `size` is the (C, H, W) wanted by decoders of pictures of any size, and
    ignored where pictures have one size already.
    """

    name: str
    shape: tuple[int, int, int] | None
    classes: tuple[str, ...] | None
    summary: str
    licence: str
    train_images: int | None
    load: Callable[[str, Path | None, bool, tuple[int, int, int] | None], Dataset]


def fingerprint(*splits: Split) -> str:
    """Return the SHA-256 of pictures and labels, so that two runs can tell whether data is equal."""
    digest = hashlib.sha256()
    for split in splits:
        digest.update(repr((split.images.shape, split.labels.shape)).encode())
        digest.update(np.ascontiguousarray(split.images).data)
        digest.update(np.ascontiguousarray(split.labels).data)
    return digest.hexdigest()
