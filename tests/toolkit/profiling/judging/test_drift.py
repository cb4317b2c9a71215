"""What a shared machine does to two profiles is not taken for what a change of the network does."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest

from tests.toolkit.profiling.comparing.test_differences import ROWS, profile_of
from tests.toolkit.profiling.conftest import windows
from toolkit.processes import usable_cores
from toolkit.profiling.comparing.differences import compare
from toolkit.profiling.judging.drift import (
    MachineDrift,
    Pair,
    change_of_work,
    drift_of_machine,
    drift_of_rows,
    interval_of,
    steadied,
    whole_of,
)
from toolkit.profiling.measuring.yardstick import EACH_ON_ITS_CORE, PIECES, TRACED, Yardstick


def pair(before: float, after: float, *, seed: int = 0, size: int = 0) -> Pair:
    random = np.random.default_rng(seed)
    return Pair(before=tuple(windows(random, before)), after=tuple(windows(random, after)), bytes=size)


def rows_named(slow: dict[str, float], machine: float, *, seen: bool = True) -> dict[str, str]:
    """Compare ROWS with themselves on a machine that is slower by a factor, some rows slower still.

    `seen`: the fixed work beside them shows the machine's change too.
    """
    after = {name: ms * machine * slow.get(name, 1.0) for name, ms in ROWS.items()}
    sides = [profile_of(ROWS, 0), profile_of(after, 1)]
    for index, factor in enumerate((1.0, machine if seen else 1.0)):
        run = dataclasses.replace(sides[index].runs[0], yardstick={"traced_compute_ms": 0.7 * factor})
        sides[index] = dataclasses.replace(sides[index], runs=(run,))
    found = compare(*sides)
    return {d.row: d.verdict for d in found.differences if d.verdict != "no change" and not d.end_to_end}


@pytest.mark.parametrize("machine", [0.75, 1.3])
def test_a_machine_that_changed_for_every_row_names_none(machine: float) -> None:
    assert rows_named({}, machine) == {}


@pytest.mark.parametrize("machine", [0.75, 0.85, 1.15, 1.3])
def test_a_module_is_named_on_a_machine_that_changed_for_every_row(machine: float) -> None:
    assert rows_named({"conv2": 1.3}, machine) == {"conv2": "slower"}


def test_what_stayed_is_not_slower_than_a_network_that_became_faster_all_over() -> None:
    assert "fc2" not in rows_named({"fc2": 1 / 0.75}, machine=0.75, seen=False)
    assert rows_named({"fc2": 1 / 0.75}, machine=0.75, seen=True) == {"fc2": "slower"}


def test_what_computes_out_of_the_cache_may_come_to_wait_for_memory() -> None:
    # a dense layer and a convolution at a machine's peak; from memory 6.6 MB take 0.13 ms, 0.85 MB 0.017
    dense = dataclasses.replace(pair(0.0864, 0.0864, size=6_600_000), arithmetic=1.0)
    convolution = dataclasses.replace(pair(0.42, 0.42, size=850_000), arithmetic=1.0)
    assert dense.exposed(50.0) == 1.0
    assert convolution.exposed(50.0) == pytest.approx(0.04, rel=0.1)
    assert dataclasses.replace(convolution, arithmetic=0.3).exposed(50.0) == pytest.approx(0.7)


def test_no_row_is_called_faster_because_most_became_slower() -> None:
    slower = dict.fromkeys(("conv1", "pool1", "conv2", "pool2", "fc1"), 1.3)
    assert "fc2" not in rows_named(slower, machine=1.0)


def test_the_drift_is_what_changed_for_the_rows_alike() -> None:
    rows = [pair(ms, 1.2 * ms, seed=i) for i, ms in enumerate((0.2, 0.5, 0.1, 0.8))]
    drift = drift_of_rows(rows, gbytes_s=None, machine=float(np.log(1.3)))
    assert np.expm1(drift.slowest) == pytest.approx(0.2, abs=0.05)
    assert drift.fastest == drift.slowest
    unseen = drift_of_rows(rows, gbytes_s=None)
    assert (unseen.fastest, unseen.slowest) == (0.0, drift.slowest)


def test_the_drift_is_read_off_what_computes_and_not_off_what_waits_for_memory() -> None:
    computing = [dataclasses.replace(pair(0.5, 0.5, seed=i), arithmetic=1.0) for i in range(4)]
    waiting = [dataclasses.replace(pair(2.0, 3.0, seed=i), arithmetic=0.1) for i in range(4)]
    drift = drift_of_rows([*waiting, *computing], gbytes_s=None)
    assert np.expm1(drift.slowest) == pytest.approx(0.0, abs=0.02)
    assert drift.deviation(waiting[0]) > 0.3 > 0.05 > drift.deviation(computing[0])


def test_the_first_row_may_stray_further_than_the_rows_that_wait_for_memory() -> None:
    computing = [dataclasses.replace(pair(0.5, 0.5, seed=i), arithmetic=1.0) for i in range(4)]
    waiting = dataclasses.replace(pair(2.0, 2.4), arithmetic=0.1)
    opening = dataclasses.replace(pair(0.1, 0.15), arithmetic=0.3, first=True)
    drift = drift_of_rows([opening, *computing, waiting], gbytes_s=None)
    assert drift.first == pytest.approx(2 * np.log(1.2), rel=0.2)
    assert drift.deviation(opening) > 1.5 * drift.deviation(dataclasses.replace(opening, first=False))


def test_the_whole_call_waits_for_memory_as_much_as_its_rows_together() -> None:
    rows = [
        dataclasses.replace(pair(3.0, 3.0), arithmetic=1.0),
        dataclasses.replace(pair(1.0, 1.0), arithmetic=0.2),
    ]
    whole = whole_of(rows, before=[4.0], after=[4.0], drift=MachineDrift())
    assert whole.arithmetic == pytest.approx(0.8, abs=0.02)


def test_three_rows_tell_no_drift() -> None:
    drift = drift_of_rows([pair(1.0, 2.0)] * 3, gbytes_s=None)
    assert (drift.fastest, drift.slowest) == (0.0, 0.0)


def test_a_row_that_streams_its_weights_may_wander_more() -> None:
    drift = MachineDrift(gbytes_s=20.0)
    computing, streaming = pair(1.0, 1.0), pair(1.0, 1.0, size=20_000_000)  # 20 MB in 1 ms: all of it
    assert drift.deviation(streaming) > 3 * drift.deviation(computing)


def test_a_late_thread_weighs_more_on_a_short_row() -> None:
    drift = MachineDrift(scatter_ms=0.01)
    assert drift.deviation(pair(0.02, 0.02)) > 3 * drift.deviation(pair(2.0, 2.0))


def test_two_processes_have_a_wider_interval_than_one() -> None:
    entry = pair(1.0, 1.05)
    within = interval_of(entry, tests=10, drift=None, random=np.random.default_rng(0))
    between = interval_of(entry, tests=10, drift=MachineDrift(), random=np.random.default_rng(0))
    assert between[0] < within[0] < within[1] < between[1]


def test_the_whole_call_is_held_against_fixed_work() -> None:
    drift = drift_of_machine(
        {"compute_ms": 1.0, "stream_ms": 1.0}, {"compute_ms": 1.0, "stream_ms": 1.5}, MachineDrift()
    )
    assert drift.fastest == 0.0
    assert np.expm1(drift.slowest) == pytest.approx(0.5)
    assert drift_of_machine({}, {}, MachineDrift()) == MachineDrift()


@pytest.mark.parametrize("threads", [1, 2])
def test_the_yardstick_times_both_pieces_of_work(threads: int) -> None:
    yardstick, cores = Yardstick(threads), usable_cores()
    assert yardstick.medians() == {}
    yardstick()
    held = threads > 1 and cores > 1 and hasattr(os, "sched_setaffinity")
    assert tuple(yardstick.medians()) == (EACH_ON_ITS_CORE if held else PIECES)
    assert all(ms > 0 for ms in yardstick.medians().values())
    assert usable_cores() == cores  # it holds its threads while it works only


def test_threads_that_were_held_on_cores_are_not_held_against_free_ones() -> None:
    free, held = (
        {f"{kind}{name}": ms for kind in ("", TRACED) for name in names}
        for names, ms in ((PIECES, 4.6), (EACH_ON_ITS_CORE, 2.5))
    )
    assert drift_of_machine(free, held, MachineDrift()) == MachineDrift()
    assert change_of_work(free, held) == 0
    twice = {name: 2 * ms for name, ms in held.items()}
    assert np.expm1(drift_of_machine(held, twice, MachineDrift()).slowest) == pytest.approx(1)
    assert np.expm1(change_of_work(held, twice)) == pytest.approx(1)


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
