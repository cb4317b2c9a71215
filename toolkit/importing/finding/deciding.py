"""Whether one preprocessing is clearly worse than another, on the same pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

# so sure must be whoever is told apart, of all that are compared: out of many equals, the luckiest would else
# outdo the right one
SURE = 0.01
# a loss that is not surely so much larger, in nats and as a share, says nothing of a preprocessing: a network
# may be a little surer with sharper pictures than it learned with, and on every one
LEAST_LOSS, LEAST_SHARE = 0.02, 0.05
# one that is so many points worse is worse, however few the pictures
CLEAR_POINTS = 5.0


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What came of one combination: `right` (N,) and `losses` (N,) of the same pictures, in one order."""

    right: NDArray[np.bool_]
    losses: NDArray[np.float64]

    @property
    def accuracy(self) -> float:
        """The share that is right."""
        return float(self.right.mean())


def judged(scores: NDArray[np.float32], labels: NDArray[np.int64], *, probabilities: bool) -> Answers:
    """Judge (N, K) answers, or (N, 1) for two classes, on labels (N,).

    A loss is −log of the right class's probability at the temperature that suits all of these answers
    best: inputs of less contrast make a network less sure of itself, and that alone is no fault.
    """
    logits = _logits(scores, probabilities=probabilities)
    bad = ~np.isfinite(logits).all(axis=1)
    logits[bad] = 0.0
    right = (logits.argmax(axis=1) == labels) & ~bad
    losses = min((_losses(logits, labels, t) for t in np.geomspace(0.1, 16, 12)), key=np.mean)
    return Answers(right=right, losses=losses)


def _logits(scores: NDArray[np.float32], *, probabilities: bool) -> NDArray[np.float64]:
    values = scores.astype(np.float64)
    if probabilities:
        values = np.clip(values, 1e-12, 1.0)
        if values.shape[1] == 1:
            values = np.concatenate([np.clip(1 - values, 1e-12, 1.0), values], axis=1)
        return np.asarray(np.log(values))
    if values.shape[1] == 1:
        values = np.concatenate([np.zeros_like(values), values], axis=1)
    # answers to wrong scales may be huge, and a temperature has to reach them
    spread = float(np.nanstd(values)) if np.isfinite(values).any() else 1.0
    return values / max(1.0, spread / 4)


def _losses(
    logits: NDArray[np.float64], labels: NDArray[np.int64], temperature: float
) -> NDArray[np.float64]:
    warm = logits / temperature
    top = warm.max(axis=1)
    total = np.log(np.exp(warm - top[:, None]).sum(axis=1)) + top
    return np.asarray(total - warm[np.arange(len(labels)), labels])


def mcnemar(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Return the exact two-sided probability of so unequal a number of pictures that only one gets right.

    McNemar's test ("Note on the sampling error of the difference between correlated proportions", 1947)
    in its exact, binomial form.
    """
    won, lost = int((one & ~other).sum()), int((~one & other).sum())
    count, less = won + lost, min(won, lost)
    tail = sum(math.comb(count, k) for k in range(less + 1))
    return min(1.0, float(2 * tail / 2**count))


def clearly_worse(one: Answers, best: Answers, *, sure: float = SURE) -> bool:
    """Tell whether `one` is worse than `best`: less often right (McNemar), or at a larger loss (paired).

    The interval of the difference in loss has to lie beyond what a preference explains, not beyond 0 alone.
    """
    if one.accuracy < best.accuracy and mcnemar(one.right, best.right) < sure:
        return True
    apart = one.losses - best.losses
    if len(apart) < 2:
        return False
    doubt = NormalDist().inv_cdf(1 - sure / 2) * float(apart.std(ddof=1)) / math.sqrt(len(apart))
    return float(apart.mean()) - doubt > max(LEAST_LOSS, LEAST_SHARE * float(best.losses.mean()))


def points_behind(one: NDArray[np.bool_], best: NDArray[np.bool_]) -> float:
    """Return how many points fewer pictures one gets right."""
    return 100 * (float(best.mean()) - float(one.mean()))


def best_of(answers: list[Answers]) -> int:
    """Return the place of the best: of those that are not clearly less often right, the smallest loss."""
    leader = max(answers, key=lambda one: (one.accuracy, -one.losses.mean()))
    near = [
        place
        for place, one in enumerate(answers)
        if one is leader or mcnemar(one.right, leader.right) >= 0.05
    ]
    return min(near, key=lambda place: answers[place].losses.mean())
