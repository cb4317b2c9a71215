"""Whole contests among made-up processes: who stays in them, and what is told of whom."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.toolkit.choosing.made_up import MadeUpBay, MakeUp, candidate, keeping
from toolkit.choices import Budget
from toolkit.choosing import ChooseSettings
from toolkit.choosing.contest import Contest
from toolkit.choosing.judging import ChoiceJudge
from toolkit.choosing.pictures import ChoicePictures
from toolkit.choosing.requests import TellPeak
from toolkit.choosing.selection import select
from toolkit.errors import CnnkitError
from toolkit.telling import silent


def contest(
    budget: Budget, *backends: str, tell: Callable[[str], None] = silent, batches: tuple[int, ...] = (1,)
) -> Contest:
    pictures = ChoicePictures(file=Path("none"), source="none", count=4, why_unjudged="none are here")
    settings = ChooseSettings(expand=False, batches=batches)
    made = Contest([candidate(name) for name in backends], pictures, budget, settings, tell)
    made.arena.times = keeping((1.0,) * 99)
    return made


def test_what_keeps_to_the_latency_is_not_given_up_for_what_is_faster_in_the_median(
    making_up: MakeUp,
) -> None:
    calls = {"base": (*(2.0,) * 9, 9.0), "fast": (*(1.0,) * 9, 9.0), "steady": (2.5,) * 10}
    making_up(lambda backend: MadeUpBay(lambda batch: calls[backend]))

    def until_confirming(text: str) -> None:
        if text.startswith("confirming"):
            raise KeyboardInterrupt

    held = contest(Budget(within_ms=5.0), *calls, tell=until_confirming)
    with pytest.raises(KeyboardInterrupt):
        held.run()
    assert [one.candidate.backend for one in held.standing.finalists] == ["steady", "fast"]


@pytest.mark.parametrize(("pace", "kept"), [(0.1, ["base", "met badly"]), (1.0, ["base"])])
def test_of_short_calls_what_is_hopeless_on_its_threads_is_looked_at_on_one(
    making_up: MakeUp, monkeypatch: pytest.MonkeyPatch, pace: float, kept: list[str]
) -> None:
    monkeypatch.setattr("toolkit.choosing.contest.cpu", lambda: SimpleNamespace(cores=2))
    # where two threads meet badly a call takes many times as long as on one
    calls = {
        "base": pace,
        "met badly": 9 * pace,
        "met badly alone": pace,
        "slow": 9 * pace,
        "slow alone": 9 * pace,
    }
    making_up(lambda name: MadeUpBay(lambda batch: (calls[name],)))
    held = contest(Budget(), "base", "met badly", "slow")
    held.settings = dataclasses.replace(held.settings, expand=True)
    baseline = held._enter()
    held._look(baseline)
    held._judge(
        ChoiceJudge(baseline=held.arena.bays[baseline.key], pictures=held.pictures, budget=Budget()), baseline
    )
    assert [one.candidate.backend for one in held.standing.alive] == kept
    assert {one.candidate.threads for one in held.standing.alive[1:]} <= {1}
    out = [str(one.why_not) for one in held.standing.entrants if one.why_not is not None]
    assert all("9.0 times slower than one that may be chosen; not judged" in why for why in out)


def test_under_a_budget_of_memory_the_batches_that_fit_are_left_and_the_chosen_one_is_weighed(
    making_up: MakeUp,
) -> None:
    holds = {"base": 40, "fast": 40, "heavy": 70}
    opened: list[tuple[str, MadeUpBay]] = []

    def opens(name: str) -> MadeUpBay:
        paces = {"base": 1.0, "fast": 0.5, "heavy": 0.1}
        bay = MadeUpBay(lambda batch: (paces[name] * batch**0.5,), lambda batch: holds[name] + batch)
        opened.append((name, bay))
        return bay

    making_up(opens)
    held = contest(Budget(throughput=True, memory_bytes=60), *holds, batches=(1, 8, 32))
    held.run()
    base, fast, heavy = held.standing.entrants
    assert heavy.why_not == "its process holds 71 B, over the 60 B allowed"
    assert (list(base.tracks), list(fast.tracks)) == ([1, 8, 32], [1, 8])
    chosen = select(held).entrant
    found = held.standing.contender(chosen)
    assert (chosen is fast, found.batch, found.memory_bytes) == (True, 8, 48)
    last = [bay for name, bay in opened if name == "fast"][-1]
    assert [one.batch for one in last.asked if isinstance(one, TellPeak)] == [8]
    assert held.standing.best_batch(base) == 8


def test_memory_is_not_asked_of_a_system_that_does_not_tell_it(making_up: MakeUp) -> None:
    making_up(lambda backend: MadeUpBay(held=lambda batch: None))
    with pytest.raises(CnnkitError, match=r"does not tell what a process held .*; leave out `--memory`"):
        contest(Budget(memory_bytes=10), "base").run()
