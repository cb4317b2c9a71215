"""Batches through torch's DataLoader, picture by picture: for data larger than memory, and to compare.

What comes out depends on (seed, epoch, picture) alone: not on how many workers there are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from toolkit.datasets import Split
from toolkit.models import Recipe
from toolkit.training import seeding
from toolkit.training.data.augmentation import augment
from toolkit.training.data.batches import InputTransform, epoch_order, steps_in


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pictures:
    """A map-style data set for DataLoader; its indices are (epoch, index)."""

    data: Split
    recipe: Recipe
    seed: int
    transform: InputTransform

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, place: tuple[int, int]) -> tuple[Tensor, int]:
        """Return one (C, H, W) float32 input and its label."""
        epoch, index = place
        picture = torch.from_numpy(np.array(self.data.images[index : index + 1]))
        random = seeding.generator(self.seed, seeding.AUGMENT, epoch, index)
        return self.transform(augment(picture, self.recipe, random))[0], int(self.data.labels[index])


class WorkerBatches:
    """A training split dealt out by a DataLoader with so many worker processes; 0 is this process."""

    def __init__(
        self, data: Split, recipe: Recipe, seed: int, transform: InputTransform, *, workers: int
    ) -> None:
        on_cpu = dataclasses.replace(transform, device=torch.device("cpu"), channels_last=False)
        self._pictures = Pictures(data=data, recipe=recipe, seed=seed, transform=on_cpu)
        self._transform = transform
        self._workers = workers
        self.steps = steps_in(len(data), recipe.batch)
        self.images = min(len(data), self.steps * recipe.batch)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (input, labels) on the training device, from step `first` of an epoch on."""
        size = self._pictures.recipe.batch
        pictures = self._pictures
        labels = torch.from_numpy(np.array(pictures.data.labels))
        order = epoch_order(labels, pictures.recipe, pictures.seed, epoch).tolist()
        batches = [
            [(epoch, index) for index in order[step * size : (step + 1) * size]]
            for step in range(first, self.steps)
        ]
        loader: DataLoader[tuple[Tensor, Tensor]] = DataLoader(
            self._pictures,  # type: ignore[arg-type]  # DataLoader asks only for the two methods
            batch_sampler=batches,
            num_workers=self._workers,
            pin_memory=self._transform.device.type == "cuda",
            generator=torch.Generator(),  # or it would draw from the one that dropout draws from
        )
        layout = torch.channels_last if self._transform.channels_last else torch.contiguous_format
        device = self._transform.device
        for inputs, labels in loader:
            yield (
                inputs.to(device, non_blocking=True).contiguous(memory_format=layout),
                labels.to(device, non_blocking=True),
            )
