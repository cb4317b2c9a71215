"""Batches from a set that lies in memory as uint8: index, augment, normalise, resize.

The order of an epoch and what augmentation draws depend on (seed, epoch, step) alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toolkit.datasets import Split
from toolkit.images import Preprocessing
from toolkit.training import seeding
from toolkit.training.augmentation import augment

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from toolkit.models import Recipe


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
        count = max(1, round(fraction * len(where)))
        held[random.permutation(where)[:count]] = True
    return data.take(np.flatnonzero(~held)), data.take(np.flatnonzero(held))


def evenly(data: Split, count: int) -> Split:
    """Return `count` pictures, as evenly over the classes as they last, in their own order."""
    rank = np.empty(len(data), dtype=np.int64)
    for label in np.unique(data.labels):
        where = np.flatnonzero(data.labels == label)
        rank[where] = np.arange(len(where))
    return data.take(np.sort(np.argsort(rank, kind="stable")[:count]))


def preprocessing_for(recipe: Recipe, data: Split, size: tuple[int, int]) -> Preprocessing:
    """Return how pixels become input under a recipe; `standardise` measures the training pictures."""
    channels = data.images.shape[1]
    if recipe.pixels == "standardise":
        levels = np.arange(256) / 255
        counts = [np.bincount(data.images[:, c].ravel(), minlength=256) for c in range(channels)]
        means = [float(levels @ count / count.sum()) for count in counts]
        deviations = [
            float(np.sqrt((levels - mean) ** 2 @ count / count.sum()))
            for mean, count in zip(means, counts, strict=True)
        ]
        # pictures of one single colour have no deviation to divide by
        return Preprocessing(
            size=size, channels=channels, mean=tuple(means), std=tuple(d or 1.0 for d in deviations)
        )
    offset, width = (0.5, 0.5) if recipe.pixels == "half" else (0.0, 1.0)
    return Preprocessing(size=size, channels=channels, mean=(offset,) * channels, std=(width,) * channels)


@dataclass(frozen=True, kw_only=True)
class Finish:
    """The last steps to a network's input: normalise, resize, lay out; on the training device."""

    preprocessing: Preprocessing
    device: torch.device
    channels_last: bool

    def __call__(self, images: Tensor) -> Tensor:
        """Turn (N, C, h, w) uint8 into (N, C, H, W) float32 input."""
        import torch
        from torch.nn import functional

        values = images.to(self.device, non_blocking=True).to(torch.float32)
        if self.channels_last:
            values = values.contiguous(memory_format=torch.channels_last)
        for channel, (mean, std) in enumerate(
            zip(self.preprocessing.mean, self.preprocessing.std, strict=True)
        ):
            part = values[:, channel] if len(self.preprocessing.mean) > 1 else values
            part.mul_(self.preprocessing.scale / std).sub_(mean / std)
        if tuple(values.shape[2:]) != self.preprocessing.size:
            values = functional.interpolate(values, self.preprocessing.size, mode="bilinear", antialias=True)
        return values


class MemoryBatches:
    """A training split in memory, dealt out in batches that (seed, epoch, step) determine."""

    def __init__(self, data: Split, recipe: Recipe, seed: int, finish: Finish) -> None:
        self.images, self.labels = tensors(data)
        self.recipe = recipe
        self.seed = seed
        self.finish = finish
        whole, rest = divmod(len(data), recipe.batch)
        # batch norm cannot train on a single picture
        self.steps = whole + (rest > 1 or whole == 0)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (images, labels) of an epoch's steps from step `first` on."""
        import torch

        order = torch.randperm(len(self.labels), generator=seeding.generator(self.seed, seeding.ORDER, epoch))
        random = torch.Generator()
        size = self.recipe.batch
        for step in range(first, self.steps):
            chosen = order[step * size : (step + 1) * size]
            random.manual_seed(seeding.mix(self.seed, seeding.AUGMENT, epoch, step))
            images = augment(self.images[chosen], self.recipe, random)
            yield self.finish(images), self.labels[chosen].to(self.finish.device, non_blocking=True)


def tensors(data: Split) -> tuple[Tensor, Tensor]:
    """Return a split as torch tensors that share its memory where they can."""
    import torch

    images = data.images if data.images.flags.writeable else data.images.copy()
    labels = data.labels if data.labels.flags.writeable else data.labels.copy()
    return torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(np.ascontiguousarray(labels))
