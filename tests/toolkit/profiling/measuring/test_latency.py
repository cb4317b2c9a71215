"""Clean latency: what a timed call costs, how many runs a slow one gets, and what Ctrl-C leaves."""

from __future__ import annotations

import time

import numpy as np
import pytest

from tests.toolkit.profiling.conftest import Clock
from toolkit import traces
from toolkit.profiling.measuring import latency as latency_module
from toolkit.profiling.measuring.latency import LEAST_WINDOWS, Subject, measure, timed_for


def test_windows_alternate_between_the_columns() -> None:
    order: list[str] = []

    def call(name: str) -> None:
        if not order or order[-1] != name:
            order.append(name)
        time.sleep(0.001)

    measure({"a": lambda: call("a"), "b": lambda: call("b")}, duration_s=0.2)
    # warm-up of a, warm-up of b, then at least three windows each in turn
    assert order[:6] == ["a", "b", "a", "b", "a", "b"]


def test_figures_are_those_of_the_calls() -> None:
    found, interrupted = measure({"sleep": lambda: time.sleep(0.002)}, duration_s=0.3)
    latency = found["sleep"]
    assert latency is not None
    assert not interrupted
    assert latency.median >= 2.0
    assert latency.median <= latency.p90 <= latency.p95 <= latency.p99
    assert len(latency.windows) >= 3
    assert latency.first_call_ms is not None
    assert latency.warmup_runs >= 1


def test_a_slow_call_gets_fewer_runs_and_three_windows_at_least() -> None:
    found, _ = measure({"slow": lambda: time.sleep(0.12)}, duration_s=0.1)
    latency = found["slow"]
    assert latency is not None
    assert latency.runs == 3
    assert len(latency.windows) == 3
    assert latency.warmup_runs == 0  # its first call is its first window


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock that calls are timed with."""
    made = Clock()
    monkeypatch.setattr(latency_module, "time", made)
    monkeypatch.setattr(traces, "time", made)
    return made


def test_a_call_that_fits_the_duration_gets_windows_enough_to_be_compared(clock: Clock) -> None:
    found, _ = measure({"slow": lambda: clock.sleep(0.06)}, duration_s=0.15)
    latency = found["slow"]
    assert latency is not None
    assert len(latency.windows) == LEAST_WINDOWS


def test_ctrl_c_keeps_the_windows_that_are_complete(clock: Clock) -> None:
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1
        clock.sleep(0.005)
        if calls == 60:
            raise KeyboardInterrupt

    found, interrupted = measure({"a": call}, duration_s=1.0)
    latency = found["a"]
    assert interrupted
    assert latency is not None
    assert 0 < latency.runs < 60


def test_ctrl_c_in_the_warm_up_leaves_nothing_measured() -> None:
    def call() -> None:
        raise KeyboardInterrupt

    found, interrupted = measure({"a": call}, duration_s=0.1)
    assert interrupted
    assert found == {"a": None}


def test_spread_is_the_range_of_window_medians_over_the_median() -> None:
    subject = Subject(call=lambda: None, windows=[[1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.1, 1.1, 1.1]])
    latency = subject.latency()
    assert latency is not None
    assert latency.median == 1.0
    assert latency.spread == pytest.approx(0.1)
    assert latency.windows == pytest.approx((1.0, 1.0, 1.1))


def test_a_window_holds_one_call_at_least() -> None:
    assert len(timed_for(lambda: time.sleep(0.01), 0.0)) == 1


def test_percentiles_are_numpys() -> None:
    values = [float(v) for v in np.arange(1, 101)]
    latency = Subject(call=lambda: None, windows=[values]).latency()
    assert latency is not None
    assert latency.p99 == pytest.approx(float(np.percentile(values, 99)))
    assert latency.spread is None  # one window tells nothing about spread
