"""Fixed work that is timed beside a profile, so that a slower machine is not taken for a slower network."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from toolkit.machine.cpu import cpu

# an L1's worth of exponentials tells the cores' clock; 16 MB tell what neighbours leave of cache and memory
COMPUTE_COUNT, STREAM_COUNT = 4096, 4_000_000
# 0.7 ms of work: a thread takes 0.1 ms to wake up, more or less, which must not look like a slow core
PASSES, REPEATS = 400, 3


class Yardstick:
    """Times its two pieces of work whenever it is called: 5 to 10 ms on as many threads as the profile."""

    def __init__(self, threads: int | None) -> None:
        self.threads = threads or cpu().cores  # those that this process may use, as for the peaks
        self._small = np.linspace(0, 1, COMPUTE_COUNT, dtype=np.float32)
        self._large = np.ones(STREAM_COUNT, np.float32)
        self._taken: dict[str, list[float]] = {"compute_ms": [], "stream_ms": []}

    def __call__(self) -> None:
        """Take each time once more."""
        with ThreadPoolExecutor(self.threads) as pool:
            self._take("compute_ms", self._compute, pool)
            self._take("stream_ms", self._large.sum, pool)

    def _compute(self) -> None:
        into = np.empty_like(self._small)
        for _ in range(PASSES):
            np.exp(self._small, out=into)

    def _take(self, name: str, work: Callable[[], object], pool: ThreadPoolExecutor) -> None:
        found = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            others = [pool.submit(work) for _ in range(self.threads - 1)]
            work()  # here, on the core that the profile's own thread runs on
            for other in others:
                other.result()
            found.append((time.perf_counter() - start) * 1e3)
        self._taken[name].append(min(found))  # an interruption only ever lengthens one

    @property
    def latest(self) -> Mapping[str, float]:
        """Return each piece of work's milliseconds when it was last timed; empty before the first call."""
        return {name: times[-1] for name, times in self._taken.items() if times}

    def medians(self) -> Mapping[str, float]:
        """Return the median milliseconds of each piece of work; empty before the first call."""
        return {name: float(np.median(times)) for name, times in self._taken.items() if times}
