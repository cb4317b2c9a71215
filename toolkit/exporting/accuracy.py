"""Whether a cheaper network is as accurate: the paired difference on the same pictures, with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Answer = Literal["pass", "fail", "undecided"]
# how often an interval of 95 % misses, and how many standard deviations wide it is to either side
ERROR, Z95 = 0.05, 1.959964


@dataclass(frozen=True, kw_only=True)
class Drop:
    """How much accuracy was lost, in points, with its 95 % interval, on how many pictures."""

    points: float
    low: float
    high: float
    images: int

    def judge(self, allowed: float) -> Answer:
        """Pass when the whole interval is within `allowed` points, fail when all of it is beyond."""
        if self.high <= allowed:
            return "pass"
        return "fail" if self.low > allowed else "undecided"

    def words(self) -> str:
        """Say the drop in one line."""
        return f"{self.points:+.2f} points ({self.low:+.2f} to {self.high:+.2f}) on {self.images} images"


def paired_drop(before: NDArray[np.bool_], after: NDArray[np.bool_], *, error: float = ERROR) -> Drop:
    """Compare two networks' right answers, (N,) each, on the same pictures.

    `error` is how often the interval may miss, less than usual where one looks again on more pictures.
    Only pictures that one got right and the other wrong say anything. The interval is Agresti and
    Min's for matched pairs ("Simple improved confidence intervals for comparing matched
    proportions", 2005): half a picture is added to each of the four cells, so that no discordant
    picture at all does not mean an interval of zero.
    """
    count, z = len(before), NormalDist().inv_cdf(1 - error / 2)
    lost, won = int((before & ~after).sum()), int((~before & after).sum())
    total = count + 2.0
    difference = (lost - won) / total
    spread = math.sqrt(max(0.0, (lost + won + 1.0) / total - difference**2) / total)
    return Drop(
        points=100 * (lost - won) / count,
        low=100 * (difference - z * spread),
        high=100 * (difference + z * spread),
        images=count,
    )


def error_of_look(number: int, *, last: bool) -> float:
    """Return how often the interval of a look may miss, so that all looks together miss in 5 % at most.

    `number` counts from 1. Half of the error is the last look's, at all pictures, where most is decided; each
    look before it has half of what is left of the other half. A look that is the only one has all of it.
    """
    if last:
        return ERROR if number == 1 else ERROR / 2
    return ERROR * 0.5 ** (number + 1)


def fewest_images(allowed: float) -> int | None:
    """Return on how many images a drop can pass at least where no answer changes; None where on no number."""
    return max(1, math.ceil(100 * Z95 / allowed - 2)) if allowed > 0 else None
