"""The labelled pictures of a search: decoded once, brought to size once for each way of doing that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toolkit.images import Pixels
from toolkit.preprocessing import Preprocessing, fit_batch, fit_pixels

# decoded pictures that are kept while a search goes on
KEPT_BYTES = 1 << 30

Geometry = tuple[object, ...]


@dataclass(kw_only=True)
class Pool:
    """Pictures in an order of which any first part is a fair sample of one half.

    `images` are (N, C, h, w) pictures of one size, or None where `read(index)` decodes a picture.
    `labels` (N,) are the network's. `searched` of them, the first, are for the search; all others are
    held back for the report.
    """

    labels: NDArray[np.int64]
    searched: int
    images: Pixels | None = None
    read: Callable[[int], Image.Image] | None = None
    all_tested: bool = True
    _decoded: dict[int, Image.Image] = field(default_factory=dict)
    _bytes: int = 0
    _fitted: dict[Geometry, list[Pixels]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def fitted(self, preprocessing: Preprocessing, start: int, stop: int) -> Pixels:
        """Return pictures at the network's size, (N, C, H, W) uint8; those before `start` were asked for."""
        if self.images is not None:
            return fit_batch(self.images[start:stop], preprocessing)
        held = self._fitted.setdefault(preprocessing.geometry, [])
        if len(held) < stop:
            missing = range(len(held), stop)
            with ThreadPoolExecutor() as pool:  # Pillow resizes without the interpreter's lock
                held.extend(pool.map(lambda at: fit_pixels(self._picture(at), preprocessing), missing))
        return np.stack(held[start:stop])

    def forget(self, kept: Sequence[Preprocessing]) -> None:
        """Let go of pictures in other geometries."""
        wanted = {one.geometry for one in kept}
        for geometry in [one for one in self._fitted if one not in wanted]:
            del self._fitted[geometry]

    def _picture(self, index: int) -> Image.Image:
        if index in self._decoded:
            return self._decoded[index]
        assert self.read is not None
        picture = self.read(index)
        size = picture.width * picture.height * len(picture.getbands())
        if self._bytes + size <= KEPT_BYTES:
            self._decoded[index] = picture
            self._bytes += size
        return picture


def halves(labels: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], int]:
    """Return a seeded order of pictures and how many of its first are for the search: half of each class."""
    random = np.random.default_rng(seed)
    mixed = random.permutation(len(labels))
    by_class = mixed[np.argsort(labels[mixed], kind="stable")]
    first, second = random.permutation(by_class[::2]), random.permutation(by_class[1::2])
    return np.concatenate([first, second]), len(first)


def mean_and_deviation(pixels: Pixels) -> tuple[list[float], list[float]]:
    """Return the mean and the standard deviation of (N, C, H, W) pictures by channel, of pixels / 255."""
    means, deviations = [], []
    levels = np.arange(256) / 255
    for channel in range(pixels.shape[1]):
        counts = np.zeros(256, dtype=np.int64)
        for start in range(0, len(pixels), 4096):
            counts += np.bincount(pixels[start : start + 4096, channel].ravel(), minlength=256)
        share = counts / counts.sum()
        mean = float(levels @ share)
        means.append(mean)
        deviations.append(float(np.sqrt((levels - mean) ** 2 @ share)))
    return means, deviations
