"""How far answers may be from those that they are held against, where rounding alone is to explain it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.passports import Precision

# relative to max(1, largest |logit|): what rounding in another order of summation can do in fp32
FP32_TOLERANCE = 1e-4
# the size of the difference (RMS) relative to the output's own, for outputs beside the scores
FURTHER_RMS: dict[Precision, float] = {"fp32": 1e-4, "fp16": 0.02, "bf16": 0.1, "int8": 0.5}


def rms_ratio(wanted: NDArray[Any], have: NDArray[Any]) -> float:
    """Return the size of the difference of two arrays (root mean square) relative to the first one's."""
    first, second = wanted.astype(np.float64).ravel(), have.astype(np.float64).ravel()
    size = float(np.sqrt(np.square(first).mean())) if first.size else 0.0
    return float(np.sqrt(np.square(second - first).mean())) / (size or 1.0) if first.size else 0.0
