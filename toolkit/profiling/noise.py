"""How far two sets of windows differ, and how much of it a shared machine does by itself.

Windows of one process are alike where those of two processes are not: neighbours take cache, memory
bandwidth and clock from a whole process. How much of that there was is read off the rows themselves,
since few of them have really changed: their common drift, and their scatter about it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 4000
LEVEL = 0.05  # chance of any false alarm among all rows
# of one row in two processes of a machine that nobody else uses (tests/benchmarks/bench_compare.py)
LEAST_SCATTER = 0.02
# of a row that only streams its weights: what neighbours leave of L3 and memory (the same benchmark)
STREAM_SCATTER = 0.25
STREAM_GBYTES_S = 20.0  # where the profile holds no measured bandwidth
LARGEST_WEIGHT = 0.25  # of one row in the drift, so that the network's largest does not set it alone
MAD_TO_DEVIATION = 1.4826  # of a normal distribution


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One row before and after: its windows in milliseconds, and the bytes that it moves.

    `steady` holds both sides without what all rows of the same window did; the windows themselves where
    that is not known.
    """

    before: tuple[float, ...] = ()
    after: tuple[float, ...] = ()
    bytes: int = 0
    steady: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    @property
    def medians(self) -> tuple[float, float] | None:
        """Return both medians; None where a side is missing or takes no time."""
        if not self.before or not self.after:
            return None
        a, b = float(np.median(self.before)), float(np.median(self.after))
        return (a, b) if a > 0 and b > 0 else None


@dataclass(frozen=True, kw_only=True)
class Drift:
    """What the machine did between two processes: it changed each row's logarithm by `fastest` to `slowest`.

    About that rows scatter by a share of their time, by milliseconds (what a late thread costs is the
    same for a short row as for a long one), and by how much of their time is the memory's.
    """

    fastest: float = 0.0
    slowest: float = 0.0
    scatter: float = LEAST_SCATTER
    scatter_ms: float = 0.0
    gbytes_s: float = STREAM_GBYTES_S

    def deviation(self, pair: Pair) -> float:
        """Return the standard deviation of the logarithm of a row's change that the machine explains."""
        ms = min(pair.medians or (0.0, 0.0))
        if not ms:
            return self.scatter
        streaming = min(1.0, pair.bytes / (self.gbytes_s * 1e6) / ms)
        own = [_wander(windows) for windows in pair.steady or (pair.before, pair.after)]
        parts = (self.scatter, self.scatter_ms / ms, STREAM_SCATTER * streaming, *own)
        return float(np.linalg.norm(parts))


def drift_of_rows(rows: Sequence[Pair], *, gbytes_s: float | None) -> Drift:
    """Return the rows' median change, by their share of the time, and their robust scatter about it.

    With fewer than four rows they cannot tell the machine from the network: no drift is taken off.
    """
    gbytes_s = gbytes_s or STREAM_GBYTES_S
    medians = np.array([pair.medians for pair in rows if pair.medians])
    if len(medians) < 4:
        return Drift(gbytes_s=gbytes_s)
    before, after = medians.T
    changes, least = np.log(after / before), medians.min(axis=1)
    weights = np.minimum(least / least.sum(), LARGEST_WEIGHT)
    common = _weighted_median(changes, weights)
    scatter = MAD_TO_DEVIATION * _weighted_median(np.abs(changes - common), weights)
    return Drift(
        fastest=common,
        slowest=common,
        scatter=max(LEAST_SCATTER, scatter),
        scatter_ms=float(np.median(np.abs(after - before * np.exp(common)))),
        gbytes_s=gbytes_s,
    )


def drift_of_machine(before: Mapping[str, float], after: Mapping[str, float], rows: Drift) -> Drift:
    """Return how the same fixed work changed between two profiles; for the whole call, not its rows."""
    changes = [0.0, *(float(np.log(after[key] / before[key])) for key in before if key in after)]
    return Drift(fastest=min(changes), slowest=max(changes), scatter=rows.scatter)


def _weighted_median(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    order = np.argsort(values)
    summed = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(summed, summed[-1] / 2)])


def interval_of(
    pair: Pair, *, tests: int, drift: Drift | None, random: np.random.Generator
) -> tuple[float, float]:
    """Return the interval of log(after / before): a bootstrap of the medians' ratio, Bonferroni's level.

    With `drift` the sets are of two processes, and the interval is widened by what the machine explains.
    """
    x, y = (np.array(side) for side in pair.steady or (pair.before, pair.after))
    ratios = np.log(_resampled(y, random) / _resampled(x, random))
    tail = LEVEL / max(1, tests) / 2
    low, high = (float(v) for v in np.quantile(ratios, [tail, 1 - tail]))
    if drift is None:
        return low, high
    middle = float(np.log(np.median(pair.after) / np.median(pair.before)))
    margin = NormalDist().inv_cdf(1 - tail) * drift.deviation(pair)
    return min(low, middle - margin), max(high, middle + margin)


def _wander(windows: Sequence[float]) -> float:
    """Return the robust standard deviation of windows about their median: a process is one draw of it."""
    values = np.log(np.maximum(np.array(windows), 1e-12))
    return MAD_TO_DEVIATION * float(np.median(np.abs(values - np.median(values))))


def steadied(rows: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, ...]]:
    """Return each row's windows without what all rows of the same window have in common.

    A neighbour or the clock slows a window as a whole, which says nothing of one row. With fewer than
    four rows that cannot be told, and the windows stay as they are.
    """
    known = {name: np.log(np.maximum(np.array(w), 1e-12)) for name, w in rows.items() if len(w)}
    if len(known) < 4:
        return {name: tuple(windows) for name, windows in rows.items()}
    count = min(len(logs) for logs in known.values())
    times = np.array([np.exp(np.median(logs)) for logs in known.values()])
    weights = np.minimum(times / times.sum(), LARGEST_WEIGHT)
    strays = np.array([logs[:count] - np.median(logs) for logs in known.values()])
    common = np.array([_weighted_median(window, weights) for window in strays.T])
    return {name: tuple(np.exp(logs[:count] - common).tolist()) for name, logs in known.items()}


def _resampled(values: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    picks = random.integers(0, len(values), (RESAMPLES, len(values)))
    medians: NDArray[np.float64] = np.median(values[picks], axis=1)
    return np.maximum(medians, 1e-12)
