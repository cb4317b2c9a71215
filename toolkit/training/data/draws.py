"""Random numbers by picture: what a picture of an epoch draws depends on seed, epoch and picture alone.

Neither the batch that it is in, nor its place there, nor the rank that deals it out changes them.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
# splitmix64's finaliser: (right shift, factor) each, and a last shift
_STEPS = ((np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)), (np.uint64(27), np.uint64(0x94D049BB133111EB)))
_LAST = np.uint64(31)


class PictureDraws:
    """A counter-based generator for each picture of a batch; every draw takes the next numbers of each.

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (2014), splitmix64 with a
    picture's own start.
    """

    def __init__(self, start: int, pictures: Tensor) -> None:
        """Begin at a start (see `seeding.mix`) for pictures by their (N,) numbers, any int64."""
        numbers = pictures.numpy().astype(np.uint64)
        self._starts = _scattered(numbers * _GAMMA + np.full(1, start, np.uint64))
        self._taken = 0

    def __len__(self) -> int:
        return len(self._starts)

    def uniform(self, *shape: int) -> Tensor:
        """Return (*shape, N) numbers from 0 to just below 1, in float32."""
        numbers = (self._next(math.prod(shape)) >> np.uint64(40)).astype(np.float32)
        return torch.from_numpy(numbers).mul_(2.0**-24).view(*shape, len(self))

    def integers(self, below: int, *shape: int) -> Tensor:
        """Return (*shape, N) whole numbers from 0 to below, without it."""
        high = self._next(math.prod(shape)) >> np.uint64(32)
        return torch.from_numpy((high * np.uint64(below) >> np.uint64(32)).astype(np.int64)).view(
            *shape, len(self)
        )

    def levels(self, *shape: int) -> Tensor:
        """Return (N, *shape) uint8 levels from 0 to 255."""
        size = math.prod(shape)
        numbers = np.ascontiguousarray(self._next(-(-size // 8)).T)
        return torch.from_numpy(numbers.view(np.uint8)[:, :size].reshape(-1, *shape))

    def of(self, places: Tensor) -> PictureDraws:
        """Return draws of their own for the pictures at some places."""
        return PictureDraws._from(self._next(1)[0, places.numpy()])

    def begun(self, places: slice) -> PictureDraws:
        """Return the draws of the pictures at some places, from their first on."""
        return PictureDraws._from(self._starts[places])

    @classmethod
    def _from(cls, starts: NDArray[np.uint64]) -> PictureDraws:
        found = cls.__new__(cls)
        found._starts, found._taken = starts, 0
        return found

    def _next(self, count: int) -> NDArray[np.uint64]:
        """Return the next (count, N) numbers of 64 bits."""
        counters = np.arange(self._taken + 1, self._taken + 1 + count, dtype=np.uint64)
        self._taken += count
        return _scattered(self._starts + counters[:, None] * _GAMMA)


def _scattered(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scatter numbers over all 64 bits, in place."""
    for shift, factor in _STEPS:
        numbers ^= numbers >> shift
        numbers *= factor
    numbers ^= numbers >> _LAST
    return numbers


def occurrences(order: Tensor) -> Tensor:
    """Return how often each picture of an order has come before."""
    numbers, places = order.sort(stable=True)
    found = torch.empty_like(order)
    found[places] = torch.arange(len(order)) - torch.searchsorted(numbers, numbers)
    return found
