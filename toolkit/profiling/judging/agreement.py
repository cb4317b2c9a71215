"""How far two columns' answers to the same input are apart, before their times are compared."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def difference(answer: NDArray[np.float32], first: NDArray[np.float32]) -> float | None:
    """Return the largest difference of two (N, K) answers as a share of the largest number in `first`.

    NaN or infinite where either holds such; None where `first` is all 0 and `answer` is not.
    """
    with np.errstate(invalid="ignore", over="ignore"):  # infinity less infinity
        apart, largest = float(np.abs(answer - first).max()), float(np.abs(first).max())
        if largest == 0:
            return 0.0 if apart == 0 else None
        return float(np.float64(apart) / largest)
