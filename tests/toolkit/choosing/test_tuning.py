"""Which settings are tried, in which order: times are made up, no process is started."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from toolkit.artifacts import Artifact, open_artifact, shipped_root
from toolkit.choices import Budget
from toolkit.choosing import Candidate, ChooseSettings
from toolkit.choosing.arena import Arena
from toolkit.choosing.judging import Ruling
from toolkit.choosing.measuring import Track, Window
from toolkit.choosing.pictures import ChoicePictures
from toolkit.choosing.standing import Entrant, Standing
from toolkit.choosing.tuning import Tuner, costly
from toolkit.telling import silent

MODEL = "lenet-maxpool"
COMPILER = any(shutil.which(word) for word in ("c++", "g++", "clang++"))


class MadeUpArena(Arena):
    """Takes a candidate's milliseconds from its settings, and notes who entered, at which limit."""

    def __init__(self, settings: ChooseSettings, standing: Standing) -> None:
        pictures = ChoicePictures(file=Path("none"), source="none", count=0)
        super().__init__(pictures, settings, standing)
        self.entered: list[tuple[Candidate, float | None]] = []

    def enter(
        self, candidates: Sequence[Candidate], batches: Sequence[int], *, limit_s: float | None = None
    ) -> list[Entrant]:
        self.entered += [(one, limit_s) for one in candidates]
        found = [entrant(one) for one in candidates]
        self.standing.entrants += found
        bays: dict[str, Any] = {one.key: ClosedBay() for one in found}
        self.bays |= bays
        return found

    def time(self, entrants: Sequence[Entrant], turns: tuple[int, float]) -> None:
        pass

    def weigh(self, entrants: Sequence[Entrant], at: Mapping[str, int] | None = None) -> None:
        pass


class ClosedBay:
    def close(self) -> None:
        pass


class LenientJudge:
    def alike(self, known: str, bay: object) -> bool:
        return True


def entrant(candidate: Candidate) -> Entrant:
    ms = {"pytorch": 1.3, "ort": 1.0}[candidate.backend]
    ms *= 0.8 if candidate.settings.get("channels_last") else 1.0
    ms *= 0.9 if candidate.threads == 1 else 1.0
    tail = 9.0 if candidate.threads == 1 else ms  # one call of ten
    track = Track(key=candidate.key, batch=1, windows=[Window(generation=0, round=1, ms=(*(ms,) * 9, tail))])
    return Entrant(candidate=candidate, tracks={1: track}, ruling=Ruling(accuracy=0.9))


def tuned(
    *backends: str,
    time_s: float = 60.0,
    halves: bool = False,
    budget: Budget | None = None,
    threads: tuple[int, ...] | None = None,
) -> MadeUpArena:
    files: dict[str, Artifact] = {
        "ort": open_artifact(shipped_root() / MODEL / f"{MODEL}.onnx"),
        "pytorch": open_artifact(shipped_root() / MODEL / f"{MODEL}.safetensors"),
    }
    alive = [entrant(Candidate(backend=name, artifact=files[name])) for name in backends]
    if halves:
        known = replace(files["ort"], passport=replace(files["ort"].passport, precision="fp16"))
        alive.append(entrant(Candidate(backend="ort", artifact=known)))
    standing = Standing(budget=budget or Budget(), entrants=list(alive), baseline=alive[0])
    settings = ChooseSettings(time_s=time_s, threads=threads)
    arena, judge = MadeUpArena(settings, standing), LenientJudge()
    made: Any = judge
    Tuner(arena=arena, judge=made, baseline=alive[0], batches=(1,), settings=settings, tell=silent).run()
    return arena


def test_what_is_slower_than_other_settings_of_its_file_is_out_and_the_best_share_its_ruling() -> None:
    arena = tuned("ort")
    tried = arena.standing.entrants[1:]
    assert len(tried) == len(arena.entered) >= 3
    left = [one for one in tried if one.why_not is None]
    assert len(left) == 2
    assert all(one.ruling is not None for one in left)
    assert {one.why_not for one in tried} == {None, "slower than other settings of ort fp32"}


def test_settings_that_keep_to_the_latency_are_kept_before_those_that_are_faster_in_the_median() -> None:
    for budget, threads in ((Budget(), 1), (Budget(within_ms=5.0), 2)):
        tried = tuned("ort", budget=budget, threads=(2, 1)).standing.entrants[1:]
        assert [one.candidate.threads for one in tried if one.why_not is None] == [threads] * 2


def test_no_settings_are_tried_of_halves_that_are_computed_as_fp32_is() -> None:
    entered = tuned("ort", halves=True).entered
    assert {one.artifact.passport.precision for one, _ in entered} == {"fp32"}


@pytest.mark.skipif(not COMPILER, reason="no C++ compiler is here, so nothing is compiled")
def test_what_opens_slowly_comes_last_beside_the_fastest_settings_alone_and_has_a_limit() -> None:
    entered = tuned("ort", "pytorch").entered
    slow = [place for place, (one, _) in enumerate(entered) if costly(one)]
    assert slow == [len(entered) - 1]
    one, limit_s = entered[-1]
    assert dict(one.settings) == {"channels_last": "yes", "compile": "yes"}
    assert limit_s is not None
    assert 20 < limit_s <= 36  # of 60 s, 24 are for confirming


def test_settings_that_there_is_no_time_for_are_told() -> None:
    arena = tuned("ort", "pytorch", time_s=0.0)
    assert arena.entered == []
    untried = arena.standing.entrants[2:]
    assert untried
    assert {one.why_not for one in untried} == {"not tried: the time was up (--time 0)"}
