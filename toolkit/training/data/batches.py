"""Batches of uint8 pictures, in memory or read when asked for: index, augment, resize, normalise.

The order of an epoch depends on (seed, epoch) alone, what augmentation draws on (seed, epoch, picture): not
on where the pictures lie, nor on which process reads them.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toolkit.datasets import Split
from toolkit.images import Pixels
from toolkit.listings.rows import PictureRows
from toolkit.models import Recipe
from toolkit.preprocessing import FIXED_POINT, Preprocessing, resize_weights
from toolkit.training import seeding
from toolkit.training.compute.seats import ALONE, Seat
from toolkit.training.data.augmentation import augment
from toolkit.training.data.balance import balanced_order
from toolkit.training.data.draws import PictureDraws, occurrences
from toolkit.training.data.mixing import mixes

# in the place of an epoch: every picture once in its own order, nothing augmented
IN_ORDER = -1


class Batches(Protocol):
    """A training split dealt out in batches; `steps` an epoch, `images` a whole epoch's, `count` all.

    Where several ranks train, the input is of a rank's own pictures, or of all where the recipe mixes them;
    the labels are always those of the whole batch.
    """

    steps: int
    images: int
    count: int
    seat: Seat

    def plain(self) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Yield (input, labels) of every picture in its own order, nothing augmented, on every rank."""

    def epoch(self, epoch: int, first: int = 0) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Yield (input, labels) on the training device, from step `first` of an epoch on."""


@dataclass(frozen=True, kw_only=True)
class InputTransform:
    """The last steps to a network's input: resize, normalise, lay out; on the training device.

    What is trained on is what is served: every step gives the figures of toolkit/preprocessing.py.
    """

    preprocessing: Preprocessing
    device: torch.device
    channels_last: bool = False

    def __call__(self, images: Tensor) -> Tensor:
        """Turn (N, C, h, w) uint8 into (N, C, H, W) float32 input."""
        values = self._resized(images)
        if self.channels_last:
            values = values.contiguous(memory_format=torch.channels_last)
        scale = self.preprocessing.scale
        mean, std = (np.array(f, np.float32) for f in (self.preprocessing.mean, self.preprocessing.std))
        if self.preprocessing.formula == "multiply":
            return values.mul_(self._column(np.float32(scale) / std)).sub_(self._column(mean / std))
        if scale == 1 / 255:
            values.div_(self._column(np.array([255], np.float32)))
        elif scale != 1:
            values.mul_(scale)
        if mean.any():
            values.sub_(self._column(mean))
        return values if (std == 1).all() else values.div_(self._column(std))

    def _resized(self, images: Tensor) -> Tensor:
        size = self.preprocessing.size
        if tuple(images.shape[2:]) == size:
            return images.to(self.device, non_blocking=True).to(torch.float32)
        where = exact_device(self.device)
        images = images.to(where, non_blocking=True)
        down, across = (_weights(*ends, where) for ends in zip(images.shape[2:], size, strict=True))
        # Pillow's whole numbers: float64 holds every one of these sums exactly, in any order
        wide = (images.to(torch.float64) @ across.T).add_(FIXED_POINT / 2).div_(FIXED_POINT).floor_()
        tall = (down @ wide.clamp_(0, 255)).add_(FIXED_POINT / 2).div_(FIXED_POINT).floor_()
        return tall.clamp_(0, 255).to(torch.float32).to(self.device)

    def _column(self, figures: NDArray[np.float32]) -> Tensor:
        return _columns(tuple(map(float, figures)), self.device)


def exact_device(device: torch.device) -> torch.device:
    """Return where a device's pictures are resized: there, but for Apple's GPUs, which have no float64."""
    return torch.device("cpu") if device.type == "mps" else device


@cache
def _columns(figures: tuple[float, ...], device: torch.device) -> Tensor:
    column = torch.tensor(figures, dtype=torch.float32, device=device)[:, None, None]
    # a single figure goes into the kernel itself, which is twice as fast as spreading it over pixels; on a
    # GPU a number of Python's would be divided by as its reciprocal, which rounds otherwise
    return column if len(figures) > 1 else column.reshape(())


@cache
def _weights(old: int, new: int, device: torch.device) -> Tensor:
    return torch.from_numpy(resize_weights(old, new)).to(device)


def tensors(data: Split) -> tuple[Tensor, Tensor]:
    """Return a split in memory as torch tensors that share its memory where they can."""
    images = np.asarray(data.images)
    labels = data.labels if data.labels.flags.writeable else data.labels.copy()
    return tensor_of(images), torch.from_numpy(np.ascontiguousarray(labels))


def tensor_of(images: Pixels) -> Tensor:
    """Return pictures in memory as a torch tensor that shares it where it can."""
    images = images if images.flags.writeable else images.copy()
    # by way of one axis: numpy may give an axis of one channel any stride, and torch would take that for
    # channels-last and compute so
    return torch.from_numpy(np.ascontiguousarray(images).reshape(-1)).view(images.shape)


def steps_in(images: int, batch: int) -> int:
    """Return how many steps an epoch has: a last batch of one picture is left out.

    Batch norm cannot train on a single picture; which one it is changes with the epoch.
    """
    whole, rest = divmod(images, batch)
    return whole + (rest > 1 or whole == 0)


class Dealer:
    """Deals a training split out as (uint8 pictures, labels), augmented: one step of an epoch at a time.

    A rank is dealt its own pictures with the whole batch's labels, or all pictures where the recipe mixes.
    """

    def __init__(self, data: Split, recipe: Recipe, seed: int, seat: Seat = ALONE) -> None:
        held = data.images
        # pictures in memory are indexed by torch, which copies them several times as fast as numpy
        self._images = held if isinstance(held, PictureRows) else tensor_of(held)
        self._labels = torch.from_numpy(np.array(data.labels))
        self.recipe, self._seed = recipe, seed
        self._shares = not seat.alone and not mixes(recipe)
        self._seat = seat
        self._epoch = -1
        self.steps = steps_in(len(data), recipe.batch)
        self.images = min(len(data), self.steps * recipe.batch)
        self.count = len(data)

    @property
    def steps_in_order(self) -> int:
        """How many batches all pictures are, the last one of any size."""
        return -(-self.count // self.recipe.batch)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, place: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the pictures and labels of (epoch, step), or of all ranks' of (IN_ORDER, step)."""
        epoch, step = place
        if epoch == IN_ORDER:
            first = step * self.recipe.batch
            return self.chosen(torch.arange(first, min(first + self.recipe.batch, self.count)))
        if epoch != self._epoch:
            self._begin(epoch)
        dealt = range(step * self.recipe.batch, min((step + 1) * self.recipe.batch, self.count))
        labels = self._labels.index_select(0, self._order[dealt.start : dealt.stop])
        own = dealt[self._seat.share(len(dealt)).rows] if self._shares else dealt
        rows = slice(own.start, own.stop)
        pictures, _ = self.chosen(self._order[rows])
        return augment(pictures, self.recipe, self._draws.begun(rows)), labels

    def _begin(self, epoch: int) -> None:
        self._epoch, self._order = epoch, epoch_order(self._labels, self.recipe, self._seed, epoch)
        numbers = self._order
        if self.recipe.sampling == "balanced":  # a picture that comes again is augmented otherwise
            numbers = numbers + (occurrences(numbers) << 40)
        self._draws = PictureDraws(seeding.mix(self._seed, seeding.AUGMENT, epoch), numbers)

    def chosen(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pictures and labels at these places, nothing augmented."""
        if isinstance(self._images, PictureRows):
            pictures = torch.from_numpy(self._images[places.numpy()])
        else:
            pictures = self._images.index_select(0, places)
        return pictures, self._labels.index_select(0, places)


class MemoryBatches:
    """A training split dealt out in batches by this process; `count` is how many pictures it has."""

    def __init__(
        self, data: Split, recipe: Recipe, seed: int, transform: InputTransform, seat: Seat = ALONE
    ) -> None:
        self._dealer = Dealer(data, recipe, seed, seat)
        self.seat = seat
        self._transform = transform
        self.steps, self.images, self.count = self._dealer.steps, self._dealer.images, self._dealer.count

    def plain(self) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Yield (input, labels) of every picture in its own order, nothing augmented."""
        for step in range(self._dealer.steps_in_order):
            images, labels = self._dealer[IN_ORDER, step]
            yield self._transform(images), labels.to(self._transform.device)

    def epoch(self, epoch: int, first: int = 0) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Yield (input, labels) on the training device, from step `first` of an epoch on."""
        for step in range(first, self.steps):
            images, labels = self._dealer[epoch, step]
            yield self._transform(images), labels.to(self._transform.device, non_blocking=True)


def epoch_order(labels: Tensor, recipe: Recipe, seed: int, epoch: int) -> Tensor:
    """Return the order in which an epoch goes through the pictures with these labels."""
    if recipe.sampling == "balanced":
        return balanced_order(labels, seed, epoch)
    return torch.randperm(len(labels), generator=seeding.generator(seed, seeding.ORDER, epoch))
