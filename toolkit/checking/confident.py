"""Labels that a judge who never saw them contradicts: confident learning.

Source: Northcutt, Jiang, Chuang, "Confident learning: estimating uncertainty in dataset labels" (2021). A
class whose own pictures get an average probability of t for it is taken for likely where it gets t or more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Shares = NDArray[np.float64]
# the label gets a third of the suggested class's probability
_FAR = 0.25
# standard deviations
_BEYOND_CHANCE = 3.0


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Of N labels: `score` (N,) from 0, surely wrong, to 1; what is `suggested` (N,); whether `doubted` (N,).

    `likeliest` (N,) is the judge's own answer.
    """

    score: Shares
    suggested: NDArray[np.int64]
    doubted: NDArray[np.bool_]
    likeliest: NDArray[np.int64]

    def guesses(self, labels: NDArray[np.int64]) -> bool:
        """Tell whether the judge is right no more often than by chance, each class counting alike."""
        counts = np.bincount(labels)
        right = np.bincount(labels, self.likeliest == labels, minlength=len(counts))
        counts, right = counts[counts > 0], right[counts > 0]
        chance = 1 / len(counts)
        deviation = np.sqrt(chance * (1 - chance) * (1 / counts).sum()) * chance
        return bool((right / counts).mean() <= chance + _BEYOND_CHANCE * deviation)


def judge(probabilities: Shares, labels: NDArray[np.int64]) -> Judgement:
    """Judge labels (N,) by probabilities (N, K) of networks that were not trained on them."""
    rows = np.arange(len(labels))
    usual = thresholds(probabilities, labels)
    own = probabilities[rows, labels]
    others = probabilities.copy()
    others[rows, labels] = -1
    suggested = others.argmax(axis=1)
    strongest = others[rows, suggested]
    score = own / np.maximum(own + strongest, np.finfo(np.float64).tiny)
    # likely by the standard of its own class, and likelier than the label by far
    doubted = (strongest >= usual[suggested]) & (own < usual[labels]) & (score < _FAR)
    likeliest = probabilities.argmax(axis=1)
    return Judgement(score=score, suggested=suggested, doubted=doubted, likeliest=likeliest)


def thresholds(probabilities: Shares, labels: NDArray[np.int64]) -> Shares:
    """Return the average probability (K,) that pictures of each class get for it; 1 for one without any."""
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    sums = np.bincount(
        labels, probabilities[np.arange(len(labels)), labels], minlength=probabilities.shape[1]
    )
    return np.where(counts > 0, sums / np.maximum(counts, 1), 1.0)
