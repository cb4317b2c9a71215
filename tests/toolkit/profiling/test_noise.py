"""What a shared machine does to two profiles is not taken for what a change of the network does."""

from __future__ import annotations

import numpy as np
import pytest

from tests.toolkit.profiling.conftest import windows
from tests.toolkit.profiling.test_compare import ROWS, profile_of
from toolkit.profiling.compare import compare
from toolkit.profiling.noise import Drift, Pair, drift_of_machine, drift_of_rows, interval_of, steadied
from toolkit.profiling.yardstick import Yardstick


def pair(before: float, after: float, *, seed: int = 0, size: int = 0) -> Pair:
    random = np.random.default_rng(seed)
    return Pair(before=tuple(windows(random, before)), after=tuple(windows(random, after)), bytes=size)


def rows_named(slow: dict[str, float], machine: float) -> dict[str, str]:
    """Compare ROWS with themselves on a machine that is slower by a factor, some rows slower still."""
    after = {name: ms * machine * slow.get(name, 1.0) for name, ms in ROWS.items()}
    found = compare(profile_of(ROWS, 0), profile_of(after, 1))
    return {d.row: d.verdict for d in found if d.verdict != "no change" and not d.end_to_end}


def test_a_machine_that_is_slower_for_every_row_names_none() -> None:
    assert rows_named({}, machine=1.3) == {}


def test_a_module_is_named_on_a_machine_that_is_slower_for_every_row() -> None:
    assert rows_named({"conv2": 1.3}, machine=1.15) == {"conv2": "slower"}


def test_no_row_is_called_faster_because_most_became_slower() -> None:
    slower = dict.fromkeys(("conv1", "pool1", "conv2", "pool2", "fc1"), 1.3)
    assert "fc2" not in rows_named(slower, machine=1.0)


def test_the_drift_is_what_changed_for_the_rows_alike() -> None:
    drift = drift_of_rows(
        [pair(ms, 1.2 * ms, seed=i) for i, ms in enumerate((0.2, 0.5, 0.1, 0.8))], gbytes_s=None
    )
    assert np.expm1(drift.slowest) == pytest.approx(0.2, abs=0.05)
    assert drift.fastest == drift.slowest


def test_three_rows_tell_no_drift() -> None:
    drift = drift_of_rows([pair(1.0, 2.0)] * 3, gbytes_s=None)
    assert (drift.fastest, drift.slowest) == (0.0, 0.0)


def test_a_row_that_streams_its_weights_may_wander_more() -> None:
    drift = Drift(gbytes_s=20.0)
    computing, streaming = pair(1.0, 1.0), pair(1.0, 1.0, size=20_000_000)  # 20 MB in 1 ms: all of it
    assert drift.deviation(streaming) > 3 * drift.deviation(computing)


def test_a_late_thread_weighs_more_on_a_short_row() -> None:
    drift = Drift(scatter_ms=0.01)
    assert drift.deviation(pair(0.02, 0.02)) > 3 * drift.deviation(pair(2.0, 2.0))


def test_two_processes_have_a_wider_interval_than_one() -> None:
    entry = pair(1.0, 1.05)
    within = interval_of(entry, tests=10, drift=None, random=np.random.default_rng(0))
    between = interval_of(entry, tests=10, drift=Drift(), random=np.random.default_rng(0))
    assert between[0] < within[0] < within[1] < between[1]


def test_the_whole_call_is_held_against_fixed_work() -> None:
    drift = drift_of_machine(
        {"compute_ms": 1.0, "stream_ms": 1.0}, {"compute_ms": 1.0, "stream_ms": 1.5}, Drift()
    )
    assert drift.fastest == 0.0
    assert np.expm1(drift.slowest) == pytest.approx(0.5)
    assert drift_of_machine({}, {}, Drift()) == Drift()


def test_the_yardstick_times_both_pieces_of_work() -> None:
    yardstick = Yardstick(threads=2)
    assert yardstick.medians() == {}
    yardstick()
    assert set(yardstick.medians()) == {"compute_ms", "stream_ms"}
    assert all(ms > 0 for ms in yardstick.medians().values())


def test_a_window_that_was_slow_for_every_row_makes_none_unsteady() -> None:
    slow = [1.0, 1.5, 1.0, 1.2, 1.0, 0.9]
    found = steadied({name: [ms * factor for factor in slow] for name, ms in ROWS.items()})
    for name, ms in ROWS.items():
        assert found[name] == pytest.approx([ms] * len(slow))


def test_a_row_that_wanders_by_itself_stays_unsteady() -> None:
    own = [0.2, 0.3, 0.2, 0.25, 0.2, 0.18]
    found = steadied({"a": own, **{name: [1.0] * 6 for name in "bcde"}})
    assert found["a"] == pytest.approx(own)


def test_three_rows_are_left_as_they_are() -> None:
    rows = dict.fromkeys("abc", (1.0, 2.0))
    assert steadied(rows) == rows
