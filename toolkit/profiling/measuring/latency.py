"""Clean end-to-end latency: warm-up until it is stable, then windows, interleaved between the columns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from toolkit.profiling.result import Latency
from toolkit.traces import timed

WINDOWS = 10
# of fewer a comparison claims nothing; a call that outlasts the duration gets three nevertheless
LEAST_WINDOWS, LEAST_SLOW_WINDOWS = 5, 3
LONGEST_WINDOW_S, LONGEST_WARMUP_S = 0.5, 3.0  # so that an interruption loses little
STABLE = 0.05  # three warm-up windows whose medians lie this close end the warm-up
# a runtime's workers spin on for about a millisecond; the next column must not pay for that
IDLE_S = 0.01


@dataclass
class Subject:
    """One column while it is timed: its call, and the milliseconds of each call by window."""

    call: Callable[[], object]
    first_call_ms: float | None = None
    warmup_runs: int = 0
    stable: bool = False
    windows: list[list[float]] = field(default_factory=list)

    def wants_more(self, duration_s: float) -> bool:
        """Tell whether another window is due: the least number, then until the duration is spent."""
        spent_ms = sum(sum(window) for window in self.windows)
        least = LEAST_WINDOWS if self.warmup_runs else LEAST_SLOW_WINDOWS
        return len(self.windows) < least or spent_ms < duration_s * 1e3

    def latency(self) -> Latency | None:
        """Summarise what was measured; None where nothing was."""
        if not self.windows:
            return None
        every = np.concatenate([np.array(window) for window in self.windows])
        medians = tuple(float(np.median(window)) for window in self.windows)
        median = float(np.median(every))
        p90, p95, p99 = (float(v) for v in np.percentile(every, [90, 95, 99]))
        return Latency(
            median=median,
            mean=float(every.mean()),
            p90=p90,
            p95=p95,
            p99=p99,
            spread=(max(medians) - min(medians)) / median if len(medians) > 1 and median > 0 else None,
            runs=len(every),
            windows=medians,
            warmup_runs=self.warmup_runs,
            stable=self.stable,
            first_call_ms=self.first_call_ms,
        )


def measure(
    calls: Mapping[str, Callable[[], object]],
    *,
    duration_s: float,
    between: Callable[[], object] = lambda: None,
) -> tuple[dict[str, Latency | None], bool]:
    """Time every column for about `duration_s`, window by window in turn; tell whether it was cut short.

    A call that lasts longer than a window gets fewer runs: at least five, and three without a warm-up where
    it outlasts the duration. On Ctrl-C the windows that are complete count. `between` is called after each
    round of windows.
    """
    subjects = {name: Subject(call=call) for name, call in calls.items()}
    interrupted = False
    window_s = min(duration_s / WINDOWS, LONGEST_WINDOW_S)
    try:
        for subject in subjects.values():
            _warm_up(subject, duration_s)
            time.sleep(IDLE_S)
        while any(subject.wants_more(duration_s) for subject in subjects.values()):
            for subject in subjects.values():
                if subject.wants_more(duration_s):
                    _wake(subject, window_s)
                    subject.windows.append(timed_for(subject.call, window_s))
                    time.sleep(IDLE_S)
            between()
    except KeyboardInterrupt:
        interrupted = True
    return {name: subject.latency() for name, subject in subjects.items()}, interrupted


def timed_for(call: Callable[[], object], seconds: float) -> list[float]:
    """Return the milliseconds of each call, for as long as `seconds`; at least one call."""
    clock = time.perf_counter_ns
    found: list[float] = []
    end = clock() + int(seconds * 1e9)
    start = clock()
    while start < end or not found:
        call()
        stop = clock()
        found.append((stop - start) / 1e6)
        start = clock()
    return found


def _wake(subject: Subject, window_s: float) -> None:
    """Call untimed for a tenth of a window: the gap let workers fall asleep and caches go cold."""
    if subject.windows and subject.windows[-1][-1] < window_s * 1e3:
        timed_for(subject.call, window_s / 10)


def _warm_up(subject: Subject, duration_s: float) -> None:
    """Call until three windows agree, or until half of the duration is spent.

    A call that outlasts the duration is a window at once: what a cold start adds to it is little.
    """
    first = timed(subject.call, 1)[0]
    subject.first_call_ms = first
    if first >= duration_s * 1e3:
        subject.windows.append([first])
        return
    subject.warmup_runs = 1
    cap = time.perf_counter() + min(duration_s / 2, LONGEST_WARMUP_S)
    medians: list[float] = []
    while time.perf_counter() < cap:
        window = timed_for(subject.call, min(duration_s / 50, LONGEST_WINDOW_S))
        medians.append(float(np.median(window)))
        subject.warmup_runs += len(window)
        last = medians[-3:]
        if len(last) == 3 and max(last) - min(last) <= STABLE * min(last):
            subject.stable = True
            return
