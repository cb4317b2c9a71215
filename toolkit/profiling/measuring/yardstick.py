"""Fixed work that is timed beside a profile, so that a slower machine is not taken for a slower network."""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from toolkit.machine.cpu import cpu

# an L1's worth of exponentials tells the cores' clock; 16 MB tell what neighbours leave of cache and memory
COMPUTE_COUNT, STREAM_COUNT = 4096, 4_000_000
# 0.7 ms of work: a thread takes 0.1 ms to wake up, more or less, which must not look like a slow core
PASSES, REPEATS = 400, 3
# what its times are called: of threads that run where the kernel puts them, and of such that are held apart
PIECES, EACH_ON_ITS_CORE = ("compute_ms", "stream_ms"), ("each_core_compute_ms", "each_core_stream_ms")
TRACED = "traced_"


class Yardstick:
    """Times its two pieces of work whenever it is called: 5 to 10 ms on as many threads as the profile.

    Where the system lets it, several threads are held each on a core of its own: left alone, the kernel puts
    two of them on one core at times and leaves them there for longer than the work lasts, which doubles its
    time on an idle machine. The pieces have other names then: such times say nothing about others.
    """

    def __init__(self, threads: int | None) -> None:
        self.threads = threads or cpu().cores  # those that this process may use, as for the peaks
        self._held = 1 < self.threads <= cpu().cores and hasattr(os, "sched_setaffinity")
        self._small = np.linspace(0, 1, COMPUTE_COUNT, dtype=np.float32)
        self._large = np.ones(STREAM_COUNT, np.float32)
        self._taken: dict[str, list[float]] = {
            name: [] for name in (EACH_ON_ITS_CORE if self._held else PIECES)
        }

    def __call__(self) -> None:
        """Take each time once more."""
        works: tuple[Callable[[], object], ...] = (self._compute, self._large.sum)
        with self._pool() as pool:
            for taken, work in zip(self._taken.values(), works, strict=True):
                taken.append(self._take(work, pool))

    @contextlib.contextmanager
    def _pool(self) -> Iterator[ThreadPoolExecutor]:
        """Give the other threads; while it is open, they and this one are each held on a core."""
        if not self._held:
            with ThreadPoolExecutor(self.threads) as pool:
                yield pool
            return
        cores = os.sched_getaffinity(0)
        here = ctypes.CDLL(None).sched_getcpu()  # where the profile's own thread runs
        free = sorted(cores - {here})

        def hold() -> None:
            with contextlib.suppress(OSError):  # a core that was taken away meanwhile
                os.sched_setaffinity(0, {free.pop()})

        try:
            os.sched_setaffinity(0, {here})
            with ThreadPoolExecutor(self.threads - 1, initializer=hold) as pool:
                yield pool
        finally:
            os.sched_setaffinity(0, cores)

    def _compute(self) -> None:
        into = np.empty_like(self._small)
        for _ in range(PASSES):
            np.exp(self._small, out=into)

    def _take(self, work: Callable[[], object], pool: ThreadPoolExecutor) -> float:
        found = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            others = [pool.submit(work) for _ in range(self.threads - 1)]
            work()  # here, on the core that the profile's own thread runs on
            for other in others:
                other.result()
            found.append((time.perf_counter() - start) * 1e3)
        return min(found)  # an interruption only ever lengthens one

    @property
    def latest(self) -> Mapping[str, float]:
        """Return each piece of work's milliseconds when it was last timed; empty before the first call."""
        return {name: times[-1] for name, times in self._taken.items() if times}

    def medians(self) -> Mapping[str, float]:
        """Return the median milliseconds of each piece of work; empty before the first call."""
        return {name: float(np.median(times)) for name, times in self._taken.items() if times}
