"""Batches from a set that lies in memory as uint8: index, augment, resize, normalise.

The order of an epoch and what augmentation draws depend on (seed, epoch, step) alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toolkit.datasets import Split
from toolkit.images import Preprocessing, resize_batch, resize_weights
from toolkit.training import seeding
from toolkit.training.data.augmentation import augment

if TYPE_CHECKING:
    from toolkit.models import Recipe


class Batches(Protocol):
    """A training split dealt out in batches; `steps` an epoch, `images` a whole epoch's."""

    steps: int
    images: int

    def epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (input, labels) on the training device, from step `first` of an epoch on."""


@dataclass(frozen=True, kw_only=True)
class InputTransform:
    """The last steps to a network's input: resize, normalise, lay out; on the training device.

    Resizing in float32 may land a pixel one level beside toolkit.images.resize_batch, whose own sums
    `exact` uses: slower, for figures that are compared with what other commands find.
    """

    preprocessing: Preprocessing
    device: torch.device
    channels_last: bool = False
    exact: bool = False

    def __call__(self, images: Tensor) -> Tensor:
        """Turn (N, C, h, w) uint8 into (N, C, H, W) float32 input."""
        size = self.preprocessing.size
        if self.exact:
            images = torch.from_numpy(resize_batch(images.numpy(), size))
        values = images.to(self.device, non_blocking=True).to(torch.float32)
        if tuple(values.shape[2:]) != size:
            down, across = (_weights(*ends, self.device) for ends in zip(values.shape[2:], size, strict=True))
            wide = (values @ across.T).add_(0.5).floor_()
            values = (down @ wide).add_(0.5).floor_().clamp_(0, 255)
        if self.channels_last:
            values = values.contiguous(memory_format=torch.channels_last)
        # figure by figure as in toolkit.images.normalise, so that what is served is what was trained
        return values.mul_(self._factor).sub_(self._offset)

    @cached_property
    def _factor(self) -> Tensor:
        return self._column(self.preprocessing.scale / np.array(self.preprocessing.std, dtype=np.float32))

    @cached_property
    def _offset(self) -> Tensor:
        mean, std = (np.array(f, np.float32) for f in (self.preprocessing.mean, self.preprocessing.std))
        return self._column(mean / std)

    def _column(self, figures: NDArray[np.float32]) -> Tensor:
        column = torch.from_numpy(figures.astype(np.float32)).to(self.device)[:, None, None]
        # a single figure goes into the kernel itself, which is twice as fast as spreading it over pixels
        return column if len(figures) > 1 else column.reshape(())


@cache
def _weights(old: int, new: int, device: torch.device) -> Tensor:
    return torch.from_numpy(resize_weights(old, new)).to(device)


def tensors(data: Split) -> tuple[Tensor, Tensor]:
    """Return a split as torch tensors that share its memory where they can."""
    images = data.images if data.images.flags.writeable else data.images.copy()
    labels = data.labels if data.labels.flags.writeable else data.labels.copy()
    # by way of one axis: numpy may give an axis of one channel any stride, and torch would take that for
    # channels-last and compute so
    flat = torch.from_numpy(np.ascontiguousarray(images).reshape(-1))
    return flat.view(images.shape), torch.from_numpy(np.ascontiguousarray(labels))


def steps_in(images: int, batch: int) -> int:
    """Return how many steps an epoch has: a last batch of one picture is left out.

    Batch norm cannot train on a single picture; which one it is changes with the epoch.
    """
    whole, rest = divmod(images, batch)
    return whole + (rest > 1 or whole == 0)


class MemoryBatches:
    """A training split in memory, dealt out in batches."""

    def __init__(self, data: Split, recipe: Recipe, seed: int, transform: InputTransform) -> None:
        self._images, self._labels = tensors(data)
        self._recipe = recipe
        self._seed = seed
        self._transform = transform
        self.steps = steps_in(len(data), recipe.batch)
        self.images = min(len(data), self.steps * recipe.batch)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (input, labels) on the training device, from step `first` of an epoch on."""
        order = epoch_order(len(self._labels), self._seed, epoch)
        random = torch.Generator()
        size = self._recipe.batch
        for step in range(first, self.steps):
            chosen = order[step * size : (step + 1) * size]
            random.manual_seed(seeding.mix(self._seed, seeding.AUGMENT, epoch, step))
            images = augment(self._images.index_select(0, chosen), self._recipe, random)
            labels = self._labels.index_select(0, chosen)
            yield self._transform(images), labels.to(self._transform.device, non_blocking=True)


def epoch_order(images: int, seed: int, epoch: int) -> Tensor:
    """Return the order in which an epoch goes through the images."""
    return torch.randperm(images, generator=seeding.generator(seed, seeding.ORDER, epoch))
