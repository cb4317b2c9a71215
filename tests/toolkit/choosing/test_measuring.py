"""What ratios of windows say: gains with intervals over sets of processes, quantiles that will hold."""

from __future__ import annotations

import math
import mmap
import resource
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from tests.toolkit.choosing.made_up import Scripted, keeping
from toolkit.backends import Engine
from toolkit.choosing import worker
from toolkit.choosing.measuring import Timekeeper, Track, Window, gain, ratio
from toolkit.choosing.requests import CallTimes, OpenEngine, PeakTold, TellPeak


def track(
    key: str,
    factors: list[float],
    *,
    noise: float = 0.0,
    seed: int = 0,
    rounds: int = 6,
    sets: int | None = None,
) -> Track:
    """Return windows of about a millisecond × each process's factor, in as many sets unless it is said.

    Processes beyond the number of sets are further ones of the last set.
    """
    random = np.random.default_rng(seed)
    made = Track(key=key, batch=1)
    for number, factor in enumerate(factors, 1):
        for place in range(rounds):
            ms = factor * np.exp(noise * random.standard_normal(20))
            of = {"generation": min(number, sets or number), "round": number * rounds + place}
            made.windows.append(Window(**of, ms=tuple(ms.tolist()), process=number))
    return made


def test_a_gain_is_the_baseline_over_the_track_with_its_interval() -> None:
    found = gain(track("a", [2.0, 2.02, 1.98]), track("b", [1.0, 1.0, 1.0]), set())
    assert found is not None
    assert found.times == pytest.approx(2.0, rel=0.01)
    assert 1.9 < found.low < found.times < found.high < 2.1


def test_sets_that_agree_by_luck_are_no_surer_than_their_rounds() -> None:
    base, other = track("a", [1.0] * 3, noise=0.5, seed=1), track("b", [1.0] * 3, noise=0.5, seed=2)
    found = gain(base, other, set())
    assert found is not None
    assert found.high / found.low > 1.02


def test_another_batch_is_compared_by_the_picture() -> None:
    base, other = track("a", [2.0] * 3), track("b", [8.0] * 3)
    other.batch = 8
    found = gain(base, other, set())
    assert found is not None
    assert found.times == pytest.approx(2.0)
    assert ratio(base, other, set()) == pytest.approx(2.0)


def test_one_set_of_processes_tells_no_interval() -> None:
    assert gain(track("a", [2.0]), track("b", [1.0]), set()) is None


def test_disturbed_rounds_are_left_out_unless_all_are() -> None:
    base, other = track("a", [1.0] * 3), track("b", [1.0] * 3)
    spoilt = {(1, 6), (2, 15)}
    for windows in (other.windows,):
        for at, one in enumerate(windows):
            if (one.generation, one.round) in spoilt:
                windows[at] = Window(generation=one.generation, round=one.round, ms=(9.0,) * 20)
    found = gain(base, other, spoilt)
    assert found is not None
    assert found.times == pytest.approx(1.0)
    every = {(one.generation, one.round) for one in base.windows}
    assert ratio(base, other, every) == pytest.approx(1.0)


def test_a_quantile_that_a_next_process_keeps_lies_above_what_was_seen() -> None:
    made = track("a", [1.0, 1.1, 0.9, 1.05], noise=0.02)
    assert made.worst(0.95) > 1.1
    latency = made.latency(0.99)
    assert latency is not None
    assert latency.p95 < (latency.quantile_ms or 0)
    assert math.isinf(Track(key="b", batch=1).worst(0.95))


@pytest.mark.parametrize(("own", "others"), [(0.03, 0.03), (0.3, 0.01), (0.1, 0.1)])
@pytest.mark.parametrize("drawn", [3, 6])
def test_intervals_hold_as_often_as_they_say(own: float, others: float, drawn: int) -> None:
    """About 95 % of the intervals hold the true gain, be the baseline drawn again in the last set or not."""
    random, held = np.random.default_rng(0), 0
    for seed in range(200):
        base = 1.5 * np.exp(own * random.standard_normal(drawn))
        other = np.exp(others * random.standard_normal(3))[np.minimum(np.arange(drawn), 2)]
        first = track("a", base.tolist(), noise=0.01, seed=seed, rounds=2, sets=3)
        second = track("b", other.tolist(), noise=0.01, seed=seed + 999, rounds=2, sets=3)
        # in one set it is one process, whatever is beside it
        second.windows = [replace(one, process=one.generation) for one in second.windows]
        found = gain(first, second, set())
        assert found is not None
        held += found.low <= 1.5 <= found.high
    assert held >= 180


def test_a_baseline_that_is_drawn_again_alone_makes_the_interval_narrower_and_hope_is_told() -> None:
    random = np.random.default_rng(3)
    base = (2.0 * np.exp(0.3 * random.standard_normal(8))).tolist()
    few = gain(track("a", base[:3]), track("b", [1.0] * 3), set())
    many = gain(track("a", base, sets=3), track("b", [1.0] * 8, sets=3), set())
    assert few is not None
    assert many is not None
    assert many.high / many.low < few.high / few.low
    assert few.low < few.hope
    tie = gain(track("a", [1.0, 1.02, 0.98]), track("b", [1.0] * 3), set())
    assert tie is not None
    assert tie.hope < 1.02


class NotingBay:
    """Notes who is timed."""

    process = 1

    def __init__(self, key: str, noted: list[str]) -> None:
        self.key, self.noted = key, noted

    def get(self, request: object, more_s: float) -> CallTimes:
        self.noted.append(self.key)
        return CallTimes(ms=(1.0,))


def test_each_round_begins_with_another_track() -> None:
    noted: list[str] = []
    bays: Any = {key: NotingBay(key, noted) for key in "abc"}
    tracks = [Track(key=key, batch=1) for key in "abc"]
    Timekeeper(yardstick=Scripted([1.0] * 6)).run(tracks, bays, rounds=3, window_s=0.0)
    assert sorted(noted[::3]) == ["a", "b", "c"]
    assert noted[:3] == ["b", "c", "a"]


def test_the_yardstick_tells_which_rounds_were_disturbed() -> None:
    keeper = Timekeeper()
    keeper.run([], {}, rounds=3, window_s=0.01)
    assert 0 <= keeper.noisy() <= 1
    assert keeper.noisy(since=1) == 0


def noise_of(by_round: list[float]) -> Timekeeper:
    keeper = keeping(by_round)
    keeper.run([], {}, rounds=len(by_round), window_s=0.01)
    return keeper


def test_rounds_that_others_disturbed_are_told() -> None:
    keeper = noise_of([1.0, 1.02, 1.5, 1.01, 1.0, 2.0, 1.03, 1.0])
    assert {number for _, number in keeper.disturbed} == {3, 6}
    assert keeper.noisy() == pytest.approx(2 / 8)


def test_a_neighbour_that_never_pauses_disturbs_every_round() -> None:
    keeper = Timekeeper(yardstick=Scripted([1.0] * 4), busy=-1.0)  # any work of others is too much
    keeper.run([], {}, rounds=2, window_s=0.01)
    assert keeper.noisy() == 1


def test_a_laptop_that_throttles_is_slower_for_good_and_not_disturbed() -> None:
    keeper = noise_of([1.0 + 0.01 * place for place in range(60)])
    assert keeper.noisy() == 0


def test_a_next_process_keeps_the_quantile_as_often_as_is_said() -> None:
    random, kept = np.random.default_rng(1), 0
    for _ in range(300):
        factors = np.exp(0.05 * random.standard_normal(4))
        made = track("a", factors[:3].tolist(), rounds=2)
        kept += factors[3] <= made.worst(0.95)
    assert kept >= 0.91 * 300


def test_one_undisturbed_round_among_others_tells_no_ratio_alone() -> None:
    base, other = track("a", [1.0], rounds=3), track("b", [0.5], rounds=3)
    other.windows[1] = Window(generation=1, round=1, ms=(50.0,) * 20)  # it was suspended, and nobody noticed
    assert ratio(base, other, {(1, 0), (1, 2)}) == pytest.approx(2.0)


@pytest.mark.parametrize(("on_gpu", "called"), [(True, "run"), (False, "bound")])
def test_copies_to_a_device_and_back_are_timed_as_whoever_serves_it_needs_them(
    on_gpu: bool, called: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bound call leaves them out; backends on the CPU have none."""
    done: list[str] = []
    engine = SimpleNamespace(
        run=lambda batch: done.append("run"), bind=lambda batch: partial(done.append, "bound")
    )
    takes = SimpleNamespace(shape=(None, 1, 2, 2), dtype="float32")
    artifact = SimpleNamespace(passport=SimpleNamespace(input=takes))
    asked = SimpleNamespace(candidate=SimpleNamespace(backend="any", artifact=artifact), seed=0)
    shelf = SimpleNamespace(load=lambda name: SimpleNamespace(on_gpu=on_gpu))
    monkeypatch.setattr(worker, "BACKENDS", shelf)
    bay = worker._Bay()
    bay.asked, bay.engine = cast("OpenEngine", asked), cast("Engine", engine)
    bay._call(2)()
    assert done == [called]


@pytest.mark.skipif(sys.platform != "linux", reason="no other system tells a process's peak")
def test_what_opening_took_counts_in_a_process_s_peak() -> None:
    bay = worker._Bay()
    bay.asked, bay.engine = cast("OpenEngine", "opened"), cast("Engine", "opened")
    bay.calls[1] = lambda: None
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    with mmap.mmap(-1, 64 << 20) as opening:  # an allocator may have as much at hand
        opening.write(b"x" * len(opening))
    told = bay.answer(TellPeak(batch=1))
    assert isinstance(told, PeakTold)
    assert told.peak_bytes is not None
    assert told.peak_bytes > before + (60 << 20)
