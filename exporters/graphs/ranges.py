"""The range of every value in a graph, from one pass over real pictures.

Each value's histogram is kept on a range that doubles when a picture exceeds it, so that one pass
gives every method its threshold: `minmax` the extremes; `percentile` (99.99 % of the values);
`entropy` the cut whose 8-bit histogram loses least information (Migacz, "8-bit inference with
TensorRT", GTC 2017).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.exporting import RangeMethod
from toolkit.graphs.facts import input_spec
from toolkit.graphs.running import float_values, values
from toolkit.images import Inputs
from toolkit.telling import Pace, Tell, silent

BINS = 2048
LEVELS = 128
PERCENT = 99.99
# inputs that are looked at however long they take
FEWEST = 64


@dataclass
class Range:
    """One value's extremes and the histogram of its magnitudes over [0, limit]."""

    low: float = np.inf
    high: float = -np.inf
    limit: float = 0.0
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))

    def add(self, array: NDArray[np.float32], *, histogram: bool = True) -> None:
        """Take in one batch of the value; its extremes alone without `histogram`."""
        if array.size == 0:
            return
        self.low, self.high = min(self.low, float(array.min())), max(self.high, float(array.max()))
        largest = max(abs(self.low), abs(self.high))
        if not histogram or not np.isfinite(largest):
            return
        if self.limit == 0.0:
            # a range too small to cut into bins is as good as 0
            self.limit = max(largest, float(np.finfo(np.float32).tiny)) if largest else 1.0
        while self.limit < largest:  # two bins become one
            self.counts = np.concatenate(
                [self.counts.reshape(-1, 2).sum(axis=1), np.zeros(BINS // 2, np.int64)]
            )
            self.limit *= 2
        found, _ = np.histogram(np.abs(array), bins=BINS, range=(0.0, self.limit))
        self.counts += found

    def clipped(self, method: RangeMethod) -> tuple[float, float]:
        """Return the range that is worth 8 bits, by that method."""
        cut = {"minmax": lambda: np.inf, "percentile": self._percentile, "entropy": self._entropy}[method]()
        return max(self.low, -cut), min(self.high, cut)

    def _percentile(self) -> float:
        share = np.cumsum(self.counts) / max(1, self.counts.sum())
        return float((np.searchsorted(share, PERCENT / 100) + 1) * self.limit / BINS)

    def _entropy(self) -> float:
        best, cut = np.inf, BINS
        counts = self.counts.copy()
        counts[0] = counts[1]  # exact zeros (black borders, ReLU) are kept by any scale and prove nothing
        for stop in range(LEVELS, BINS + 1, 16):
            loss = _divergence(counts, stop)
            if loss < best:
                best, cut = loss, stop
        return float(cut * self.limit / BINS)


def _divergence(counts: NDArray[np.int64], stop: int) -> float:
    """Return the information lost when magnitudes beyond bin `stop` are clipped and 128 levels remain."""
    kept = counts[:stop].astype(np.float64)
    reference = kept.copy()
    reference[-1] += counts[stop:].sum()
    levels = np.arange(stop) * LEVELS // stop
    filled = kept > 0
    sums = np.bincount(levels, weights=kept, minlength=LEVELS)
    sizes = np.bincount(levels, weights=filled, minlength=LEVELS)
    spread = np.where(filled, (sums / np.maximum(sizes, 1))[levels], 0.0)
    if spread.sum() == 0 or reference.sum() == 0:
        return float("inf")
    p, q = _smooth(reference / reference.sum()), _smooth(spread / spread.sum())
    return float((p * np.log(p / q)).sum())


def _smooth(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give empty bins a little of the others' mass, so that the divergence is finite."""
    empty = shares == 0
    if not empty.any():
        return shares
    taken = 1e-4 * empty.sum() / max(1, (~empty).sum())
    return np.maximum(np.where(empty, 1e-4, shares - taken), 1e-9)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The ranges of a graph's values by name, and on how many inputs they were measured."""

    ranges: dict[str, Range]
    images: int


def measure(
    model: Any,
    inputs: Inputs,
    *,
    histograms: bool = True,
    tell: Tell = silent,
    seconds: float | None = None,
) -> Measured:
    """Return the range of the graph's input and of every fp32 value in it, over all inputs.

    `seconds` ends it sooner, with FEWEST inputs at least: for random ones, of which more say no more.
    """
    first = input_spec(model).name
    wanted = float_values(model, untold=True)
    ranges = {name: Range() for name in (*wanted, first)}
    pace, begun = Pace("measuring ranges", len(inputs), tell), time.perf_counter()
    for batch in values(model, inputs, wanted):
        for name, array in batch.items():
            if array.dtype == np.float32:
                ranges[name].add(array, histogram=histograms)
        pace.step(min(len(batch[first]), len(inputs) - pace.done))
        late = seconds is not None and time.perf_counter() - begun > seconds
        if late and pace.done >= FEWEST:
            break
    told = {name: found for name, found in ranges.items() if found.low <= found.high}
    return Measured(ranges=told, images=pace.done)


def overflowing(model: Any, ranges: dict[str, Range], limit: float) -> list[str]:
    """Return the nodes that read, make or hold a value beyond `limit` or not finite.

    A reader counts as well as a maker: what lies between the two must not be cast either.
    """
    from onnx import numpy_helper

    wide = {name for name, found in ranges.items() if not max(abs(found.low), abs(found.high)) <= limit}
    wide |= {t.name for t in model.graph.initializer if _exceeds(numpy_helper.to_array(t), limit)}
    return [node.name for node in model.graph.node if wide & {*node.input, *node.output}]


def _exceeds(array: NDArray[Any], limit: float) -> bool:
    return bool(array.dtype == np.float32 and array.size and not np.abs(array).max() <= limit)
