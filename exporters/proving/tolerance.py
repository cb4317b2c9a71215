"""How far a file may be from its proof on another machine: rounding passes, another answer does not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import GateError
from toolkit.passports import Precision

# relative to max(1, largest |logit|), for another machine's order of summation and rounding
FLOORS: dict[Precision, float] = {"fp32": 1e-4, "fp16": 5e-3, "bf16": 4e-2, "int8": 5e-2}
# and at least this many times what was measured where the export was made
MARGIN = 2.0
# of the range of the reference's answers: beyond half of it, a constant would pass for an answer
SHARE = 0.5


def tolerance(
    precision: Precision, reference: NDArray[np.float32], shown: NDArray[np.float32], found: float, what: str
) -> float:
    """Return the largest difference that another machine may show.

    `reference` (N, K) are all answers of the reference, `shown` (M, K) those in the proof, and `found`
    is the largest difference to the latter that was measured. Raises GateError when it is so large
    that a proof which allows for it could not fail.
    """
    largest = max(1.0, float(np.abs(reference).max(initial=0.0)))
    floor = FLOORS[precision] * largest
    if precision == "fp32":
        return floor
    span = float(np.ptp(shown)) if shown.size else 0.0
    allowed = min(max(floor, MARGIN * found), max(SHARE * span, FLOORS["fp32"] * largest))
    if found > max(allowed, floor):
        raise GateError(
            f"{what} differs by {found:.2g} on the pictures of its proof, where the answers span {span:.2g}: "
            f"a proof that allows for more than {SHARE:.0%} of that could not fail; use --precision fp16, or "
            "leave --softmax away"
        )
    # an untrained network may answer all pictures nearly alike: rounding is all that can be asked of it
    return max(allowed, min(MARGIN * found, floor))
