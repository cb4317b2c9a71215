"""What a training's loss is, and what its bounds are: the loss of guessing and that of being right.

Labels are (N,) whole numbers, or (N, classes) shares where pictures were mixed. A class's weight multiplies
the loss of its pictures; weights are scaled so that their mean over the pictures is 1. Then the loss of the
best answer that ignores the picture is the entropy of what is asked for: the classes' shares as they are
drawn, times their weights, with the smoothing that labels get.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import CnnkitError

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A training's loss: `shares` are the classes' among the pictures drawn, `weights` those of their loss.

    `weights` None is 1 for each class; given, their mean over the pictures drawn is 1.
    """

    shares: tuple[float, ...]
    smoothing: float = 0.0
    weights: tuple[float, ...] | None = None

    @property
    def chance(self) -> float:
        """Return the loss of the best answer that is the same for every picture."""
        return _entropy(self._smoothed(self._asked))

    @property
    def floor(self) -> float:
        """Return the loss of right answers that are as sure as the smoothed labels."""
        classes = len(self.shares)
        return _entropy(self._smoothed(np.eye(classes)[0])) if classes > 1 else 0.0

    @property
    def evenness(self) -> float:
        """Return how even the classes are in the loss, from 0 to 1: their entropy over the most it can be."""
        present = int(np.count_nonzero(self._asked))
        return _entropy(self._asked) / math.log(present) if present > 1 else 0.0

    @property
    def present(self) -> frozenset[int]:
        """Return the classes that there are pictures of."""
        return frozenset(int(label) for label in np.flatnonzero(self.shares))

    @property
    def counted(self) -> frozenset[int]:
        """Return the classes whose pictures count in the loss: not those with a weight of 0."""
        return frozenset(int(label) for label in np.flatnonzero(self._asked))

    @property
    def _asked(self) -> NDArray[np.float64]:
        weighted = np.array(self.shares) * np.array(self.weights or (1.0,) * len(self.shares))
        return np.asarray(weighted / weighted.sum())

    def _smoothed(self, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        return (1 - self.smoothing) * shares + self.smoothing / len(shares)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of (N, classes) logits."""
        from torch.nn import functional

        if labels.ndim == 1 and self.weights is None:
            return functional.cross_entropy(logits, labels, label_smoothing=self.smoothing)
        classes = logits.shape[1]
        wanted = functional.one_hot(labels, classes).to(logits) if labels.ndim == 1 else labels.to(logits)
        if self.weights is not None:
            wanted = wanted * logits.new_tensor(self.weights)
        spread = wanted.sum(1, keepdim=True) * (self.smoothing / classes)
        return -((1 - self.smoothing) * wanted + spread).mul(logits.log_softmax(1)).sum(1).mean()


def right_answers(logits: Tensor, labels: Tensor) -> Tensor:
    """Return how right each of N answers is, from 0 to 1: of a mixed picture, the answered class's share."""
    answers = logits.argmax(1)
    if labels.ndim == 1:
        return (answers == labels).float()
    return labels.gather(1, answers[:, None])[:, 0].float()


def main_labels(labels: Tensor) -> Tensor:
    """Return (N,) labels: of a mixed picture, the class that most of it is of."""
    return labels if labels.ndim == 1 else labels.argmax(1)


def insist_that_it_learns(module: nn.Module, logits: Tensor) -> None:
    """Raise CnnkitError where a network's answers come of no weight that may change."""
    if not logits.requires_grad:
        raise CnnkitError(
            f"nothing in {type(module).__name__} learns: its answers come of no weight that may change; "
            "give it layers with weights, leave requires_grad on, and keep detach() and no_grad() out of its "
            "forward()"
        )


def _entropy(shares: NDArray[np.float64]) -> float:
    some = shares[shares > 0]
    return float(-(some * np.log(some)).sum())
