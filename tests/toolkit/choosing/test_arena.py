"""Which batches an arena times, weighs and times anew: no process is started."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, repeat
from pathlib import Path

import pytest

from tests.toolkit.choosing.made_up import MadeUpBay, MakeUp, candidate, keeping
from toolkit.choices import Budget
from toolkit.choosing import ChooseSettings
from toolkit.choosing.arena import SCREEN, Arena
from toolkit.choosing.measuring import DISTURBED
from toolkit.choosing.pictures import ChoicePictures
from toolkit.choosing.requests import EngineOpened, TellPeak
from toolkit.choosing.standing import Standing


def arena(budget: Budget, by_round: Sequence[float] = (1.0,) * 60) -> Arena:
    pictures = ChoicePictures(file=Path("none"), source="none", count=0)
    made = Arena(pictures, ChooseSettings(), Standing(budget=budget))
    made.times = keeping(by_round)
    return made


def test_a_file_is_timed_at_the_batches_that_it_takes_and_is_out_where_there_is_none(
    making_up: MakeUp,
) -> None:
    class SixteenRows(MadeUpBay):
        takes = EngineOpened(least=2, most=16)

    making_up(lambda backend: SixteenRows())
    made = arena(Budget())
    (some,), (none,) = made.enter([candidate("a")], (1, 8, 32)), made.enter([candidate("a")], (1, 32))
    assert (list(some.tracks), some.why_not) == ([8], None)
    assert none.why_not == "it takes batches of 2 to 16 only"


def test_a_process_tells_its_memory_at_its_largest_batch_first(making_up: MakeUp) -> None:
    opened: list[MadeUpBay] = []

    def opens(backend: str) -> MadeUpBay:
        opened.append(MadeUpBay(held=lambda batch: 40 + batch))
        return opened[-1]

    making_up(opens)
    for most, asked in ((None, [[32]]), (80, [[32]]), (50, [[32], [1, 8]])):
        opened.clear()
        made = arena(Budget(memory_bytes=most))
        (one,) = made.enter([candidate("a")], (1, 8, 32))
        made.weigh([one])
        assert [[each.batch for each in bay.asked if isinstance(each, TellPeak)] for bay in opened] == asked
    assert (list(one.tracks), one.memory_bytes, one.why_not) == ([1, 8], 48, None)


@pytest.mark.parametrize(("looks", "windows"), [([1.0], 1), ([2.0, 1.0], 1), ([2.0, 2.0, 2.0], 3)])
def test_a_look_that_others_disturbed_is_taken_anew(
    making_up: MakeUp, looks: list[float], windows: int
) -> None:
    paces = {"a": chain([9.0] if len(looks) > 1 else [], repeat(1.0)), "base": repeat(1.0)}
    making_up(lambda backend: MadeUpBay(lambda batch: (next(paces[backend]),)))
    made = arena(Budget(), (1.0, 1.0, *looks))
    base, one = made.enter([candidate("base"), candidate("a")], (1,))
    made.standing.baseline = base
    made.time([base], SCREEN)
    made.look([base, one])
    assert (len(one.tracks[1].windows), len(base.tracks[1].windows)) == (windows, 2 + windows)
    assert made.standing.score(one) == pytest.approx(1.0)


def test_the_curve_ends_with_the_first_batch_that_the_budget_does_not_allow(making_up: MakeUp) -> None:
    making_up(
        lambda backend: MadeUpBay(lambda batch: (*(0.4 * batch,) * 9, 3.0 * batch), lambda batch: batch)
    )
    for budget, last in ((Budget(), 64), (Budget(within_ms=15.0), 8), (Budget(memory_bytes=16), 32)):
        made = arena(budget)
        (one,) = made.enter([candidate("a")], (1,))
        curve = made.curve(one)
        assert (curve[0].latency_ms, curve[-1].batch) == (pytest.approx(0.4), last)
        assert (curve[-1].quantile_ms, curve[-1].memory_bytes) == {
            64: (None, None),
            8: (pytest.approx(24.0 * DISTURBED), None),
            32: (None, 32),
        }[last]
    made = arena(Budget(throughput=True, within_ms=15.0))
    (one,) = made.enter([candidate("a")], (24,))
    one.confirmed = one.tracks[24]
    assert [point.batch for point in made.curve(one)] == [
        1,
        2,
        4,
        8,
        16,
        24,
        32,
    ]  # it was confirmed to keep it
    making_up(lambda backend: MadeUpBay(lambda batch: (30.0 * batch,)))
    made = arena(Budget(throughput=True))
    (one,) = made.enter([candidate("a")], (24,))
    one.confirmed = one.tracks[24]
    assert made.curve(one)[-1].batch == 24  # nobody waits for larger ones, and its own is on the curve
