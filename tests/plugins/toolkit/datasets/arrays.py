"""`npy:FILE`: pictures and labels in one `.npz` file, `images` (N, H, W) uint8 and `labels` (N,).

Every fourth picture is for testing.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from toolkit.datasets import Dataset, DatasetSpec, Fit, Split, fingerprint
from toolkit.errors import NotFoundError


def _place(name: str) -> Path:
    return Path(name.removeprefix("npy:")).expanduser().resolve()


def load(
    name: str,
    data_dir: Path | None = None,
    fetch: bool = True,
    size: Fit | None = None,
) -> Dataset:
    """Read the file. Raises NotFoundError where there is none."""
    path = _place(name)
    if not path.is_file():
        raise NotFoundError(f"no file {path}; --dataset npy:FILE takes one with images and labels")
    with np.load(path) as held:
        every = Split(images=held["images"][:, None], labels=held["labels"].astype(np.int64))
    tested = np.arange(len(every)) % 4 == 3
    train, test = every.take(np.flatnonzero(~tested)), every.take(np.flatnonzero(tested))
    return Dataset(
        name=f"npy:{path}",
        train=train,
        test=test,
        classes=tuple(f"class {label}" for label in range(int(every.labels.max()) + 1)),
        source=str(path),
        fingerprint=fingerprint(train, test),
    )


def listing(name: str) -> str | None:
    """Return a hash of the file; None where there is none."""
    path = _place(name)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


DATASET = DatasetSpec(
    name="arrays",
    shape=None,
    classes=None,
    summary="your own pictures, in one file of arrays",
    licence="yours",
    train_images=None,
    load=load,
    scheme="npy",
    example="npy:FILE",
    layout="images (N, H, W) and labels (N,)",
    listing=listing,
)
