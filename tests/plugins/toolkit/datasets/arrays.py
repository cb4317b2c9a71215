"""`npy:FILE`: pictures and labels in one `.npz` file, `images` (N, H, W) uint8 and `labels` (N,).

Every fourth picture is for testing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolkit.datasets import DatasetSpec
from toolkit.errors import NotFoundError
from toolkit.listings import PLAIN, Entry, Listing, Reading


@lru_cache(maxsize=1)
def _images(path: Path) -> NDArray[np.uint8]:
    with np.load(path) as held:
        return np.asarray(held["images"], dtype=np.uint8)


@dataclass(frozen=True)
class Slice:
    """One picture of the array, as the bytes of a PGM file."""

    path: Path
    index: int

    @property
    def within(self) -> str:
        """Which picture of the array."""
        return str(self.index)

    def read(self) -> bytes:
        """Return a file of the picture."""
        pixels = _images(self.path)[self.index]
        height, width = pixels.shape
        return f"P5 {width} {height} 255\n".encode() + pixels.tobytes()


def listing(name: str, reading: Reading = PLAIN) -> Listing:
    """List the pictures. Raises NotFoundError where there is no such file."""
    path = Path(name.removeprefix("npy:")).expanduser().resolve()
    if not path.is_file():
        raise NotFoundError(f"no file {path}; --dataset npy:FILE takes one with images and labels")
    with np.load(path) as held:
        labels = [int(label) for label in held["labels"]]
    entries = [
        Entry(
            name=f"picture {index}",
            place=Slice(path, index),
            label=label,
            part="test" if index % 4 == 3 else "train",
        )
        for index, label in enumerate(labels)
    ]
    return Listing(
        word=f"npy:{path}",
        root=path,
        classes=tuple(f"class {label}" for label in range(max(labels) + 1)),
        entries=tuple(sorted(entries, key=lambda entry: entry.label)),
    )


DATASET = DatasetSpec(
    name="arrays",
    shape=None,
    classes=None,
    summary="your own pictures, in one file of arrays",
    licence="yours",
    train_images=None,
    scheme="npy",
    example="npy:FILE",
    layout="images (N, H, W) and labels (N,)",
    listing=listing,
)
