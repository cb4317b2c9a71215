"""What frozen layers make of the training pictures, computed once: the head then learns from that."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.outputs import logits_of
from toolkit.recipes import Recipe
from toolkit.training import seeding
from toolkit.training.compute.format import Compute
from toolkit.training.data.augmentation import augments
from toolkit.training.data.batches import MemoryBatches, epoch_order
from toolkit.training.data.mixing import mixes
from toolkit.transfer import head

# more features than that are computed anew in each epoch
_MOST_BYTES = 2 << 30


class FrozenFeatures:
    """A training split as the head's inputs, in memory, dealt out in the order of its pictures."""

    def __init__(self, features: Tensor, labels: Tensor, recipe: Recipe, seed: int, batches: MemoryBatches):
        self._features, self._labels = features, labels
        self._recipe, self._seed = recipe, seed
        self.steps, self.images, self._seat = batches.steps, batches.images, batches.seat

    def epoch(self, epoch: int, first: int = 0) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Yield (features, labels) from step `first` of an epoch on; the features are a rank's own."""
        order = epoch_order(self._labels.cpu(), self._recipe, self._seed, epoch).to(self._features.device)
        size = self._recipe.batch
        for step in range(first, self.steps):
            chosen = order[step * size : (step + 1) * size]
            own = chosen[self._seat.share(len(chosen)).rows]
            yield self._features[own], self._labels[chosen]


def frozen_features(
    module: nn.Module,
    batches: object,
    recipe: Recipe,
    *,
    seed: int,
    compute: Compute,
    alive: Callable[[], None],
) -> FrozenFeatures | None:
    """Compute the head's inputs of every training picture; None where they are not the same each time.

    They are not where pictures are augmented or mixed, where something random stands before the head, or
    where more comes after it. `alive` is called after each batch.
    """
    if not isinstance(batches, MemoryBatches) or augments(recipe) or mixes(recipe):
        return None
    seen: list[Tensor] = []

    def keep(part: nn.Module, given: Any) -> None:
        seen.append(given[0])

    module.train()
    found: list[Tensor] = []
    labels: list[Tensor] = []
    hook = head(module).register_forward_pre_hook(keep)
    try:
        with torch.no_grad(), compute.autocast():
            for images, truth in batches.plain():
                seen.clear()
                seeding.reseed(compute.device, seed, seeding.DROPOUT, 0, len(found))
                answers = logits_of(module(images))
                if not found and not _is_all(module, images, answers, seen, compute):
                    return None
                if seen[0].numel() * seen[0].element_size() / len(truth) * batches.count > _MOST_BYTES:
                    return None
                found.append(seen[0])
                labels.append(truth)
                alive()
    finally:
        hook.remove()
    return FrozenFeatures(torch.cat(found), torch.cat(labels), recipe, seed, batches)


def _is_all(module: nn.Module, images: Tensor, answers: Tensor, seen: list[Tensor], compute: Compute) -> bool:
    """Tell whether the head's input decides the answer, and another draw of what is random does not."""
    if len(seen) != 1:
        return False
    seeding.reseed(compute.device, 1, seeding.DROPOUT, 0, 0)
    first = seen[0]
    again = logits_of(module(images))
    same = len(seen) == 2 and torch.equal(first, seen[1]) and torch.equal(answers, again)
    own = head(module)(first)
    del seen[1:]
    return same and own.shape == answers.shape and torch.equal(own, answers)
