"""Random inputs that stand in for pictures: seeded, of several scales, drawn only when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

# standard normal, as networks with preprocessing outside get it · pixels from 0 to 1 · pixels from 0 to 255
Scale = Literal["normal", "unit", "pixels"]
SCALES: tuple[Scale, ...] = ("normal", "unit", "pixels")


@dataclass(frozen=True, kw_only=True)
class Noise:
    """(count, *shape) random inputs of a dtype, each at the next of the scales; whole numbers are pixels."""

    count: int
    shape: tuple[int, ...]
    dtype: str
    seed: int
    scales: tuple[Scale, ...] = SCALES

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, part: slice) -> NDArray[Any]:
        rows = range(self.count)[part]
        drawn = np.empty((len(rows), *self.shape), self.dtype)
        for place, row in enumerate(rows):
            drawn[place] = self._row(row)
        return drawn

    def _row(self, row: int) -> NDArray[Any]:
        # a generator each: any part is the same whichever parts are drawn
        draw = np.random.default_rng([self.seed, row])
        if np.issubdtype(np.dtype(self.dtype), np.integer):
            return draw.integers(0, 256, self.shape, dtype=np.uint8)
        scale = self.scales[row % len(self.scales)]
        if scale == "normal":
            return draw.standard_normal(self.shape, np.float32)
        return draw.random(self.shape, np.float32) * np.float32(255 if scale == "pixels" else 1)
