"""How far two sets of windows differ, and how much of it a shared machine does by itself.

Windows of one process are alike where those of two processes are not: neighbours take cache, memory
bandwidth and clock from a whole process, for minutes at times. How much of that there was is read off the
rows themselves, since few of them have really changed: their common drift, and their scatter about it.
Rows do not feel a neighbour alike. What a core does in its own registers and cache slows down with its
clock, all such rows alike within 3 % even where the clock differs by a third; what waits for memory, for a
cache that others use too or for its own first instructions changes by anything between nothing and twofold.
So the drift is read off the former, and the latter are judged by a scatter of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from toolkit.profiling.measuring.yardstick import EACH_ON_ITS_CORE, PIECES, TRACED

RESAMPLES = 4000
LEVEL = 0.05  # chance of any false alarm among all rows
# of one row in two processes of a machine that nobody else uses (tests/benchmarks/bench_compare.py)
LEAST_SCATTER = 0.02
# of a row that waits for memory all the time: what neighbours leave of L3 and bandwidth (the same benchmark;
# AlexNet's dense layers changed by 0.22 to 0.26 of it between processes of a quiet machine, and their windows
# wander by up to 0.29)
EXPOSED_SCATTER = 0.3
# the scatter of two or three such rows is only worth a remark from so many times the usual one on
NOTABLE_SCATTER = 2.2
# the first row strays by so many times what the rows that wait for memory strayed: their weights have pushed
# its code and data out of the core's own cache since the last call
FIRST_STRAYS = 2.0
STREAM_GBYTES_S = 20.0  # where the profile holds no measured bandwidth
LARGEST_WEIGHT = 0.25  # of one row in the drift, so that the network's largest does not set it alone
LEAST_WEIGHT = 0.02  # of a row that tells anything of the drift
MAD_TO_DEVIATION = 1.4826  # of a normal distribution


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One row before and after: its windows in milliseconds, and the bytes that it moves.

    `arithmetic` is the share of its time that its multiply-adds take at the machine's peak; None for a row
    without multiply-adds. `first` tells whether a call begins with it. `steady` holds both sides without
    what all rows of the same window did; the windows themselves where that is not known.
    """

    before: tuple[float, ...] = ()
    after: tuple[float, ...] = ()
    bytes: int = 0
    arithmetic: float | None = None
    first: bool = False
    steady: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    @property
    def medians(self) -> tuple[float, float] | None:
        """Return both medians; None where a side is missing or takes no time."""
        if not self.before or not self.after:
            return None
        a, b = float(np.median(self.before)), float(np.median(self.after))
        return (a, b) if a > 0 and b > 0 else None

    def exposed(self, gbytes_s: float) -> float:
        """Return the share of its time, 0 to 1, in which the row may have waited for memory.

        What computes waits for whatever its arithmetic does not explain. Whatever a row does, it waits for
        its bytes once a neighbour has pushed them out of the cache: a dense layer that multiplies at full
        speed out of L3 was seen 1.6 times as slow out of memory.
        """
        ms = min(self.medians or (0.0, 0.0))
        fetching = min(1.0, self.bytes / (gbytes_s * 1e6) / ms) if ms else 1.0
        return fetching if self.arithmetic is None else max(1.0 - self.arithmetic, fetching)


@dataclass(frozen=True, kw_only=True)
class MachineDrift:
    """What the machine did between two processes: it changed each row's logarithm by `fastest` to `slowest`.

    What lies between both is nobody's change: of the rows it is their common drift, as far as fixed work
    beside them (yardstick.py) bears it out; the rest may be the network's.

    `unexplained` is how much slower the rows became beyond what that fixed work did.

    About that rows scatter by a share of their time, by milliseconds (what a late thread costs is the
    same for a short row as for a long one), and by `exposed` as far as they wait for memory; the first row
    by `first` besides.
    """

    fastest: float = 0.0
    slowest: float = 0.0
    unexplained: float = 0.0
    scatter: float = LEAST_SCATTER
    scatter_ms: float = 0.0
    exposed: float = EXPOSED_SCATTER
    first: float = 0.0
    gbytes_s: float = STREAM_GBYTES_S

    def usual(self, pair: Pair) -> float:
        """Return the deviation that waiting for memory brings a row in any two processes."""
        return EXPOSED_SCATTER * pair.exposed(self.gbytes_s)

    def noise(self, pair: Pair) -> float:
        """Return the part of `deviation` that these two processes showed, beyond what any pair may show."""
        ms = min(pair.medians or (0.0, 0.0))
        if not ms:
            return 0.0
        usual = self.usual(pair)
        own = [_beyond(_wander(windows), usual) for windows in pair.steady or (pair.before, pair.after)]
        waiting = _beyond(self.exposed, NOTABLE_SCATTER * EXPOSED_SCATTER) * pair.exposed(self.gbytes_s)
        return float(np.linalg.norm((self.scatter, self.scatter_ms / ms, waiting, *own)))

    def deviation(self, pair: Pair) -> float:
        """Return the standard deviation of the logarithm of a row's change that the machine explains."""
        ms = min(pair.medians or (0.0, 0.0))
        if not ms:
            return self.scatter
        own = [_wander(windows) for windows in pair.steady or (pair.before, pair.after)]
        first = self.first if pair.first else 0.0
        waiting = self.exposed * pair.exposed(self.gbytes_s)
        parts = (self.scatter, self.scatter_ms / ms, waiting, first, *own)
        return float(np.linalg.norm(parts))


def drift_of_rows(rows: Sequence[Pair], *, gbytes_s: float | None, machine: float = 0.0) -> MachineDrift:
    """Return the rows' median change, by their share of the time, and their robust scatter about it.

    `machine` is the logarithm by which the same fixed work changed meanwhile. A network that became faster
    all over on an equal machine does not make slower what stayed as it was. With fewer than four rows
    they cannot tell the machine from the network: no drift is taken off.
    """
    gbytes_s = gbytes_s or STREAM_GBYTES_S
    timed = [pair for pair in rows if pair.medians]
    if len(timed) < 4:
        return MachineDrift(gbytes_s=gbytes_s)
    before, after = np.array([pair.medians for pair in timed]).T
    changes, least = np.log(after / before), np.minimum(before, after)
    weights = np.minimum(least / least.sum(), LARGEST_WEIGHT)
    exposed = np.array([pair.exposed(gbytes_s) for pair in timed])
    computes = exposed < 0.5
    if np.count_nonzero(weights[computes] > LEAST_WEIGHT) < 3:
        computes[:] = True  # too few tell apart two kinds
    own = np.where(computes, weights, 0.0)
    common = _weighted_median(changes, own)
    strays = np.abs(changes - common)
    # a handful of rows, one of them perhaps changed, tell a deviation poorly: half of it is known before
    stray = MAD_TO_DEVIATION * _weighted_median(strays, own)
    others = weights * exposed * [not pair.first for pair in timed]
    return MachineDrift(
        fastest=min(common, max(machine, 0.0)),
        slowest=max(common, min(machine, 0.0)),
        unexplained=max(0.0, common - max(machine, 0.0)),
        scatter=max(LEAST_SCATTER, float(np.hypot(LEAST_SCATTER, stray) / np.sqrt(2))),
        scatter_ms=float(np.median(np.abs(after - before * np.exp(common))[computes])),
        exposed=max(EXPOSED_SCATTER, MAD_TO_DEVIATION * _weighted_median(strays, weights * exposed)),
        first=max(abs(common), FIRST_STRAYS * _weighted_median(strays, others) if others.any() else 0.0),
        gbytes_s=gbytes_s,
    )


def change_of_work(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """Return the logarithm by which the fixed work beside the layers' windows changed; 0 where unknown."""
    keys = [f"{TRACED}{compute}" for compute, _ in (PIECES, EACH_ON_ITS_CORE)]
    changes = [float(np.log(after[key] / before[key])) for key in keys if key in before and key in after]
    return changes[0] if changes else 0.0


def drift_of_machine(
    before: Mapping[str, float], after: Mapping[str, float], rows: MachineDrift
) -> MachineDrift:
    """Return how the fixed work beside the whole calls changed between two profiles."""
    keys = [key for key in (*PIECES, *EACH_ON_ITS_CORE) if key in before and key in after]
    changes = [0.0, *(float(np.log(after[key] / before[key])) for key in keys)]
    return MachineDrift(
        fastest=min(changes), slowest=max(changes), scatter=rows.scatter, exposed=rows.exposed
    )


def whole_of(
    rows: Sequence[Pair], *, before: Sequence[float], after: Sequence[float], drift: MachineDrift
) -> Pair:
    """Return the whole call as a pair: it waits for memory as much as its rows do together."""
    timed = [(min(pair.medians), pair.exposed(drift.gbytes_s)) for pair in rows if pair.medians]
    total = sum(ms for ms, _ in timed)
    exposed = sum(ms * share for ms, share in timed) / total if total else 0.0
    return Pair(before=tuple(before), after=tuple(after), arithmetic=1.0 - exposed)


def _weighted_median(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    order = np.argsort(values)
    summed = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(summed, summed[-1] / 2)])


def interval_of(
    pair: Pair, *, tests: int, drift: MachineDrift | None, random: np.random.Generator
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
    margin = margin_of(drift.deviation(pair), tests=tests)
    return min(low, middle - margin), max(high, middle + margin)


def margin_of(deviation: float, *, tests: int) -> float:
    """Return how far a row strays by a deviation, at the level that holds for all rows at once."""
    return NormalDist().inv_cdf(1 - LEVEL / max(1, tests) / 2) * deviation


def _beyond(deviation: float, usual: float) -> float:
    """Return the deviation that is left of one beside another that is independent of it."""
    return float(np.sqrt(max(0.0, deviation**2 - usual**2)))


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
