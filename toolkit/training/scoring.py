"""What a network gets right: over all images, with an interval, by class and as a confusion matrix."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from toolkit.outputs import logits_of

if TYPE_CHECKING:
    from torch import nn

    from toolkit.datasets import Split
    from toolkit.training.compute.ranks import Ranks
    from toolkit.training.data.batches import InputTransform


@dataclass(frozen=True, kw_only=True)
class Score:
    """The answers of one pass over a split; `confusion` counts (true class, answer)."""

    images: int
    loss: float
    confusion: NDArray[np.int64]

    @property
    def accuracy(self) -> float:
        """Return the share of right answers."""
        return float(np.trace(self.confusion)) / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """Return the accuracy's 95 % Wilson interval."""
        return wilson(int(np.trace(self.confusion)), self.images)

    @property
    def class_accuracy(self) -> tuple[float | None, ...]:
        """Return each class's share of right answers; None for a class without pictures."""
        return _shares(self.confusion.diagonal(), self.confusion.sum(axis=1))

    @property
    def class_precision(self) -> tuple[float | None, ...]:
        """Return, of the pictures that were given each answer, the share that is of that class.

        None for an answer that was never given.
        """
        return _shares(self.confusion.diagonal(), self.confusion.sum(axis=0))

    @property
    def class_f1(self) -> tuple[float | None, ...]:
        """Return each class's harmonic mean of precision and recall; None for a class without pictures."""
        true, answered = self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        return _shares(2 * self.confusion.diagonal(), np.where(true > 0, true + answered, 0))

    @property
    def balanced_accuracy(self) -> float:
        """Return the mean of the classes' shares of right answers, over the classes that have pictures."""
        return float(np.mean([share for share in self.class_accuracy if share is not None]))

    @property
    def macro_f1(self) -> float:
        """Return the mean of the classes' F1, over the classes that have pictures."""
        return float(np.mean([share for share in self.class_f1 if share is not None]))


def confused(confusion: NDArray[np.int64], count: int) -> list[tuple[int, int, int]]:
    """Return the most frequent mistakes of a confusion matrix as (true class, answer, how often)."""
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    pairs = [(int(at) // len(wrong), int(at) % len(wrong)) for at in order]
    return [(true, answer, int(wrong[true, answer])) for true, answer in pairs if wrong[true, answer]]


def _shares(part: NDArray[np.int64], whole: NDArray[np.int64]) -> tuple[float | None, ...]:
    return tuple(float(some / of) if of else None for some, of in zip(part, whole, strict=True))


def wilson(right: float, images: float) -> tuple[float, float]:
    """Return the interval that holds a share with 95 % confidence.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference" (1927).
    """
    share, z = right / images, 1.959964
    spread = z * math.sqrt(share * (1 - share) / images + z * z / (4 * images * images))
    scale = 1 + z * z / images
    middle = share + z * z / (2 * images)
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def score(
    module: nn.Module,
    data: Split,
    *,
    classes: int,
    transform: InputTransform,
    batch: int,
    flip: bool = False,
    moved: Callable[[], None] = lambda: None,
    ranks: Ranks | None = None,
) -> Score:
    """Run a module over a split in fp32; with `flip`, average with the mirror image.

    `moved` is called after each batch. Ranks share the batches out, and all return the score of the whole.
    """
    import torch
    from torch.nn import functional

    from toolkit.training.data.batches import tensor_of

    was_training = module.training
    module.eval()
    losses: list[float] = []
    confusion = torch.zeros(classes * classes, dtype=torch.int64)
    starts = range(0, len(data), batch)
    with torch.inference_mode():
        for start in starts if ranks is None else [starts[turn] for turn in ranks.seat.of(len(starts))]:
            inputs = transform(tensor_of(np.asarray(data.images[start : start + batch])))
            truth = torch.from_numpy(np.array(data.labels[start : start + batch]))
            mirrored = inputs.flip(3) if flip else None  # first: a network may change its input in place
            logits = logits_of(module(inputs))
            if mirrored is not None:
                logits = torch.logaddexp(
                    logits.log_softmax(1), logits_of(module(mirrored)).log_softmax(1)
                ) - math.log(2)
            logits = logits.float().cpu()
            losses.append(float(functional.cross_entropy(logits, truth, reduction="sum")))
            moved()
            confusion += torch.bincount(truth * classes + logits.argmax(1), minlength=classes * classes)
    module.train(was_training)
    if ranks is not None and not ranks.alone:
        # by batch and in their order, so that the sum is one process's to the bit
        parts = ranks.gather((losses, confusion))
        losses = [loss for found, _ in parts for loss in found]
        confusion = torch.stack([counts for _, counts in parts]).sum(0)
    total = 0.0
    for loss in losses:
        total += loss
    return Score(
        images=len(data),
        loss=total / len(data),
        confusion=confusion.view(classes, classes).numpy(),
    )
