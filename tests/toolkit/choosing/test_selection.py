"""Which finalist is chosen under which budget, without one clock: standings are made up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit.artifacts import Artifact, open_artifact, shipped_root
from toolkit.choices import Budget, CurvePoint
from toolkit.choosing import Candidate, ChooseSettings
from toolkit.choosing.choose import compete
from toolkit.choosing.contest import Contest
from toolkit.choosing.deciding import decided
from toolkit.choosing.explaining import why_slower
from toolkit.choosing.judging import ChoiceJudge, Ruling, apart
from toolkit.choosing.measuring import Gain, Track, Window, fewest_calls
from toolkit.choosing.pictures import ChoicePictures
from toolkit.choosing.requests import AnswerPictures, PictureAnswers
from toolkit.choosing.result import Choice, frontier
from toolkit.choosing.selection import select
from toolkit.choosing.standing import Entrant, Standing
from toolkit.errors import CnnkitError, GateError, UndecidedError
from toolkit.exporting.accuracy import Drop, paired_drop
from toolkit.telling import silent


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return open_artifact(shipped_root() / "lenet-maxpool" / "lenet-maxpool.onnx")


def entrant(
    artifact: Artifact,
    name: str,
    ms: float,
    times: tuple[float, float, float] | None,
    memory: int = 50_000_000,
) -> Entrant:
    found = Entrant(candidate=Candidate(backend=name, artifact=artifact), tracks={}, memory_bytes=memory)
    windows = [Window(generation=g, round=r, ms=(ms,) * 10) for g in (1, 2, 3) for r in range(3)]
    found.confirmed = Track(key=found.key, batch=1, windows=windows)
    found.tracks = {1: found.confirmed}
    found.ruling = Ruling(accuracy=0.9)
    if times:
        found.gain = Gain(low=times[0], times=times[1], high=times[2])
    return found


def contest(artifact: Artifact, budget: Budget, *others: Entrant, disturbed: float = 0.0) -> Contest:
    baseline = entrant(artifact, "base", 2.0, None)
    pictures = ChoicePictures(file=Path("none"), source="none", count=0)
    made = Contest([baseline.candidate], pictures, budget, ChooseSettings(), silent)
    made.standing = Standing(
        budget=budget,
        entrants=[baseline, *others],
        baseline=baseline,
        finalists=list(others),
        disturbed=disturbed,
    )
    return made


def told_of(
    artifact: Artifact, root: Path, *, sha256: str | None = None, interrupted: bool = False
) -> Choice:
    """Let a finalist win a made-up contest of the shipped weights, or of others; write down what may be."""

    def curve(entrant: Entrant) -> tuple[CurvePoint, ...]:
        if interrupted:
            raise KeyboardInterrupt
        return ()

    source = open_artifact(artifact.path.with_suffix(".safetensors"))
    known = replace(source.passport, sha256=sha256 or source.passport.sha256)
    held: Any = contest(artifact, Budget(), entrant(artifact, "ort", 1.0, (1.9, 2.0, 2.1)))
    held.run, held.arena.curve = (lambda: None), curve
    return compete(held, replace(source, passport=known), [], root=root, start=0.0)


def test_a_choice_is_written_of_the_newest_weights_and_of_no_others(
    artifact: Artifact, tmp_path: Path
) -> None:
    path = tmp_path / artifact.name / f"{artifact.name}.choice.json"
    other = told_of(artifact, tmp_path, sha256="0" * 64)
    assert (other.choice_file, path.exists()) == (None, False)
    assert other.notes == (
        f"{path} was not written: no name would open it, as it was made of other weights than the newest",
    )
    own = told_of(artifact, tmp_path)
    assert (own.choice_file, own.notes, path.exists()) == (path, (), True)


def test_ctrl_c_while_the_curve_is_measured_writes_nothing(artifact: Artifact, tmp_path: Path) -> None:
    found = told_of(artifact, tmp_path, interrupted=True)
    assert (found.partial, found.chosen, found.choice_file) == (True, None, None)
    assert len(found.measured) == 2
    assert list(tmp_path.iterdir()) == []


def test_the_surest_gain_wins(artifact: Artifact) -> None:
    fast, faster = entrant(artifact, "a", 1.5, (1.2, 1.33, 1.4)), entrant(artifact, "b", 1.0, (1.9, 2.0, 2.1))
    found = select(contest(artifact, Budget(), fast, faster))
    assert found.entrant is faster
    assert "2.00 times as fast as the baseline (1.90 to 2.10 in fresh processes)" in found.why


def test_a_gain_whose_interval_reaches_two_per_cent_is_none(artifact: Artifact) -> None:
    near = entrant(artifact, "a", 1.9, (1.01, 1.05, 1.1))
    found = select(contest(artifact, Budget(), near))
    assert found.entrant.candidate.backend == "base"
    assert "nothing is surely over 2% faster than the baseline: a fp32 came nearest" in found.why


def test_a_noisy_machine_is_told_where_the_gain_is_not_clear_and_only_there(artifact: Artifact) -> None:
    near, clear = entrant(artifact, "a", 1.9, (0.9, 1.3, 1.9)), entrant(artifact, "b", 1.0, (1.9, 2.0, 2.1))
    with pytest.raises(CnnkitError, match="too noisy to choose: 50% of the rounds were disturbed"):
        select(contest(artifact, Budget(), near, disturbed=0.5))
    scattered = entrant(artifact, "d", 2.0, (0.7, 1.01, 1.6))  # for all that is known it may be much faster
    with pytest.raises(CnnkitError, match=r"d fp32 may be 0\.70 to 1\.60 times as fast"):
        select(contest(artifact, Budget(), scattered, disturbed=0.5))
    assert select(contest(artifact, Budget(), scattered)).entrant.candidate.backend == "base"
    allowed = contest(artifact, Budget(), near, disturbed=0.5)
    allowed.settings = ChooseSettings(allow_noise=True)
    assert select(allowed).entrant.candidate.backend == "base"
    assert select(contest(artifact, Budget(), near, clear, disturbed=0.5)).entrant is clear
    for gains in ((0.1, 0.2, 0.3), (0.47, 0.76, 1.23)):  # surely slower, and slower as far as it scatters
        slower = entrant(artifact, "c", 9.0, gains)
        assert select(contest(artifact, Budget(), slower, disturbed=0.5)).entrant.candidate.backend == "base"


def test_a_latency_budget_rules_out_the_baseline_and_needs_no_gain(artifact: Artifact) -> None:
    near = entrant(artifact, "a", 1.9, (1.01, 1.05, 1.1))
    found = select(contest(artifact, Budget(within_ms=1.95), near))
    assert found.entrant is near
    assert "the baseline does not keep to the budget" in found.why


def test_a_far_quantile_takes_many_calls_before_it_counts_as_kept(artifact: Artifact) -> None:
    assert [fewest_calls(share) for share in (0.5, 0.95, 0.99, 0.999)] == [6, 60, 300, 3000]
    near, budget = entrant(artifact, "a", 1.5, (1.2, 1.33, 1.4)), Budget(within_ms=1.6, quantile=0.99)
    asked = contest(artifact, budget, near)
    assert not decided(asked.standing)
    with pytest.raises(UndecidedError, match=r"p99 within 1\.6 ms cannot be told of a fp32: .* 300 calls"):
        select(asked)
    assert near.confirmed is not None
    near.confirmed.windows *= 4
    assert decided(asked.standing)
    assert select(asked).entrant is near
    with pytest.raises(GateError):  # too few calls, and too slow by these
        select(contest(artifact, budget, entrant(artifact, "a", 1.7, (1.1, 1.2, 1.3))))


def test_the_windows_of_a_far_quantile_are_longer_as_far_as_time_allows(artifact: Artifact) -> None:
    near = entrant(artifact, "a", 1.5, (1.2, 1.33, 1.4))
    for quantile, least_s, most_s in ((0.95, 0.08, 0.08), (0.999, 0.37, 0.38), (0.999999, 2.4, 2.5)):
        asked = contest(artifact, Budget(within_ms=1.6, quantile=quantile), near)
        assert least_s <= asked.confirming_s([near, near]) <= most_s


def test_budgets_that_cannot_be_met_name_the_nearest(artifact: Artifact) -> None:
    fast = entrant(artifact, "a", 1.5, (1.2, 1.33, 1.4), memory=70_000_000)
    lossy = entrant(artifact, "c", 0.5, None)
    lossy.why_not = "it loses"
    lossy.ruling = Ruling(
        accuracy=0.8, drop=Drop(points=9.0, low=8.0, high=10.0, images=1000), why_not="it loses"
    )
    asked = contest(artifact, Budget(within_ms=1.0), fast)
    asked.standing.entrants.append(lossy)
    with pytest.raises(GateError, match=r"p95 within 1\.500 ms \(a fp32; 1\.000 asked\); or .* loses \+9"):
        select(asked)
    with pytest.raises(GateError, match=r"50.0 MB \(base fp32; 10.0 MB asked\)"):
        select(contest(artifact, Budget(memory_bytes=10_000_000), fast))


def test_a_noisy_machine_refuses_no_budget_that_may_be_kept(artifact: Artifact) -> None:
    near = entrant(artifact, "a", 1.5, (1.2, 1.33, 1.4))
    with pytest.raises(
        CnnkitError, match=r"too noisy to choose: .*; the nearest: p95 within 1\.500 ms"
    ) as told:
        select(contest(artifact, Budget(within_ms=1.45), near, disturbed=0.5))
    assert not isinstance(told.value, GateError)
    with pytest.raises(GateError):
        select(contest(artifact, Budget(within_ms=0.5), near, disturbed=0.5))


def test_the_nearest_in_memory_is_one_that_may_be_chosen(artifact: Artifact) -> None:
    small, poor = (entrant(artifact, name, 9.0, None, memory=40_000_000) for name in ("small", "poor"))
    poor.memory_bytes = 30_000_000
    poor.ruling = Ruling(accuracy=0.1, why_not="it loses")
    small.ruling = None
    asked = contest(artifact, Budget(memory_bytes=10_000_000))
    asked.standing.entrants += [small, poor]
    with pytest.raises(GateError, match=r"40.0 MB \(small fp32, its answers not judged; 10.0 MB asked\)"):
        select(asked)


def test_measuring_ends_where_one_is_surely_faster_or_none_can_be(artifact: Artifact) -> None:
    cases = {
        (1.03, 1.1, 1.2): True,  # surely worth it
        (0.98, 1.1, 1.2): False,
        (0.97, 1.0, 1.04): True,  # gains next to nothing at best
    }
    for times, done in cases.items():
        assert decided(contest(artifact, Budget(), entrant(artifact, "a", 1.8, times)).standing) is done
    hopeless = entrant(artifact, "a", 1.9, (0.9, 1.03, 1.2))
    assert hopeless.gain is not None
    hopeless.gain = replace(hopeless.gain, hope=1.01)  # however often it is drawn, it is worth no choice
    assert decided(contest(artifact, Budget(), hopeless).standing)
    # where others' work makes it scatter, that may change
    assert not decided(contest(artifact, Budget(), hopeless, disturbed=0.5).standing)
    near, sure = entrant(artifact, "a", 1.8, (0.9, 1.2, 1.5)), entrant(artifact, "b", 1.8, (1.1, 1.19, 1.3))
    slow = entrant(artifact, "c", 1.8, (1.05, 1.1, 1.15))
    assert decided(contest(artifact, Budget(), near, sure).standing)
    assert not decided(contest(artifact, Budget(), near, slow).standing)
    # of a latency asked for, one keeps to it, or all miss it by far
    assert decided(contest(artifact, Budget(within_ms=1.9), sure).standing)
    assert not decided(contest(artifact, Budget(within_ms=1.7), sure).standing)
    assert decided(contest(artifact, Budget(within_ms=1.0), sure).standing)


def test_a_faster_one_that_may_not_keep_to_the_latency_is_measured_on_and_told(artifact: Artifact) -> None:
    near = entrant(artifact, "a", 1.0, (1.5, 1.9, 2.3))
    assert near.confirmed is not None
    near.confirmed.windows = [
        replace(one, ms=(ms,) * 10)
        for one, ms in zip(near.confirmed.windows, np.repeat([1.0, 1.1, 2.0], 3), strict=True)
    ]
    asked = contest(artifact, Budget(within_ms=2.5), near)
    assert not decided(asked.standing)
    found = select(asked)
    assert found.entrant is asked.standing.baseline
    assert "nothing that surely keeps to the latency is surely over 2% faster than the baseline" in found.why
    assert "a fp32, 1.50 to 2.30 times as fast, does not surely keep to it" in found.why
    with pytest.raises(CnnkitError, match=r"too noisy to choose: .*, and a fp32, .* does not surely keep to"):
        select(contest(artifact, Budget(within_ms=2.5), near, disturbed=0.5))
    assert decided(contest(artifact, Budget(within_ms=1.0), near).standing)  # it misses that by far


def test_what_crashed_is_not_run_again_in_this_process_to_say_why_it_is_slower(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    lower = replace(artifact, passport=replace(artifact.passport, precision="int8"))
    plain, cheap = entrant(artifact, "a", 1.0, None), entrant(lower, "a", 2.0, None)
    asked, ran = contest(artifact, Budget(), plain, cheap), list[tuple[Any, ...]]()
    monkeypatch.setattr("toolkit.choosing.explaining.slower_rows", lambda *given: ran.append(given) or ())
    assert why_slower(asked, "a") == ("int8 is 2.0 times slower than fp32 on a",)
    cheap.lost = True
    assert (why_slower(asked, "a"), len(ran)) == ((), 1)
    cheap.lost = False
    cheap.candidate = replace(cheap.candidate, threads=1)  # its rows would be of one thread
    assert (why_slower(asked, "a"), len(ran)) == ((), 1)


def test_a_baseline_over_the_memory_crowds_out_nothing_that_keeps_to_it(artifact: Artifact) -> None:
    small = entrant(artifact, "small", 2.6, (0.7, 0.77, 0.8), memory=40_000_000)
    asked = contest(artifact, Budget(memory_bytes=60_000_000), small)
    base = asked.standing.baseline
    assert base is not None
    base.memory_bytes, base.over = 70_000_000, {1}
    ranked = sorted(asked.standing.alive, key=asked.standing.order)
    assert (ranked, asked._last(ranked)) == ([small, base], [small, base])
    assert select(asked).entrant is small


class FakeBay:
    """Answers what it was given, in batches of some sizes something else; counts what it was asked."""

    def __init__(
        self, artifact: Artifact, scores: Any, *further: Any, at: dict[int | None, Any] | None = None
    ) -> None:
        self.candidate = Candidate(backend="fake", artifact=artifact)
        self.scores, self.further, self.at, self.asked = scores, further, at or {}, 0

    def get(self, request: AnswerPictures) -> PictureAnswers:
        self.asked = max(self.asked, request.stop)
        scores = self.at.get(request.batch, self.scores)
        return PictureAnswers(
            scores=scores[request.start : request.stop], further=() if request.start else self.further
        )


def judge(base: FakeBay, labels: Any, points: float = 0.5, **more: Any) -> ChoiceJudge:
    pictures = ChoicePictures(
        file=Path("none"), source="fakes", count=len(base.scores), labels=labels, why_unjudged="none are here"
    )
    baseline: Any = base
    return ChoiceJudge(baseline=baseline, pictures=pictures, budget=Budget(max_accuracy_drop=points), **more)


def one_hot(classes: Any) -> Any:
    return np.eye(10, dtype=np.float32)[classes]


def test_more_pictures_are_asked_until_a_drop_is_decided(artifact: Artifact) -> None:
    labels = np.arange(8000) % 10
    base = FakeBay(artifact, one_hot(labels))
    equal, poor = FakeBay(artifact, one_hot(labels)), labels.copy()
    poor[::10] = (poor[::10] + 1) % 10
    few = labels.copy()
    few[::400] = (few[::400] + 1) % 10
    asked: Any = equal
    assert judge(base, labels).judge(asked).why_not is None
    assert equal.asked == 512
    lossy: Any = FakeBay(artifact, one_hot(poor))
    assert "it loses +10.16 points" in (judge(base, labels).judge(lossy).why_not or "")
    assert lossy.asked == 512
    near: Any = FakeBay(artifact, one_hot(few))
    ruling = judge(base, labels).judge(near)
    assert ruling.why_not is None
    assert near.asked > 512
    # each look spends a part of the error, the last one half of it
    assert near.asked == 8000
    assert ruling.drop == paired_drop(np.ones(8000, bool), few == labels, error=0.05 / 2)
    strict: Any = FakeBay(artifact, one_hot(few))
    found = judge(base, labels, points=0).judge(strict)
    assert "undecided" in (found.why_not or "")
    assert strict.asked == 8000


def test_the_first_pictures_alone_leave_open_what_they_cannot_tell(artifact: Artifact) -> None:
    labels = np.arange(8000) % 10
    few, poor = labels.copy(), labels.copy()
    few[::400] = (few[::400] + 1) % 10
    poor[::10] = (poor[::10] + 1) % 10
    base = FakeBay(artifact, one_hot(labels))
    near: Any = FakeBay(artifact, one_hot(few))
    lossy: Any = FakeBay(artifact, one_hot(poor))
    same: Any = FakeBay(artifact, one_hot(labels))
    first = {one: judge(base, labels).judge(one, briefly=True) for one in (near, lossy, same)}
    assert [(one.undecided, one.why_not is None) for one in first.values()] == [
        (True, True),
        (False, False),
        (False, True),
    ]
    assert near.asked == 512


def test_answers_are_judged_in_the_batch_that_is_timed_too(artifact: Artifact) -> None:
    labels = np.arange(1000) % 10
    right, wrong = one_hot(labels), one_hot((labels + 1) % 10)
    base, best = FakeBay(artifact, right), [1]
    held = judge(base, labels, batch_of=lambda key: best[-1])
    for at in ({None: wrong}, {1: wrong}, {1: np.full_like(right, np.nan)}):
        poor: Any = FakeBay(artifact, right, at=at)
        assert held.judge(poor).why_not is not None
    sound: Any = FakeBay(artifact, right, at={1: 1.1 * right, 8: 1.1 * right, 24: wrong})
    assert held.judge(sound).why_not is None
    verdicts = []
    for batch in (1, 8, 24):  # as more was timed, another batch turned out as its best
        best.append(batch)
        verdicts.append(held.moved(sound))
    assert verdicts == [False, False, True]
    assert "it loses" in (held.judge(sound).why_not or "")


def test_what_is_confirmed_is_timed_at_the_batch_that_was_chosen(artifact: Artifact) -> None:
    base, one = entrant(artifact, "base", 2.0, None), entrant(artifact, "a", 1.0, None)
    for each in (base, one):
        each.tracks = {batch: Track(key=each.key, batch=batch) for batch in (8, 32)}
    pictures, only_at = ChoicePictures(file=Path("none"), source="none", count=0), {base.key: 32, one.key: 8}
    asked = Contest(
        [base.candidate, one.candidate],
        pictures,
        Budget(throughput=True),
        ChooseSettings(),
        silent,
        only_at=only_at,
    )
    asked.arena.enter = lambda *given: [base, one]  # type: ignore[method-assign,assignment]
    asked._enter()
    assert [list(each.tracks) for each in (base, one)] == [[32], [8]]


def test_calls_of_disturbed_rounds_break_no_budget(artifact: Artifact) -> None:
    near = entrant(artifact, "a", 1.5, (1.2, 1.33, 1.4))
    assert near.confirmed is not None
    for place in (0, 4):  # a neighbour came in the first set's first round, and in the second set's second
        near.confirmed.windows[place] = replace(near.confirmed.windows[place], ms=(9.0,) * 10)
    asked = contest(artifact, Budget(within_ms=1.6), near)
    with pytest.raises(GateError):
        select(asked)
    asked.standing.spoilt = {(1, 0), (2, 1)}
    assert select(asked).entrant is near
    told = asked.standing.contender(near).latency_ms
    assert told is not None
    assert (told.p95, told.windows) == (1.5, 7)


@pytest.mark.parametrize(("ms", "threads"), [(0.02, [None, 1]), (2.0, [None])])
def test_of_short_calls_the_best_on_each_number_of_threads_is_confirmed(
    artifact: Artifact, ms: float, threads: list[int | None]
) -> None:
    lucky, steady = entrant(artifact, "a", ms, None), entrant(artifact, "b", 1.3 * ms, None)
    steady.candidate = replace(steady.candidate, threads=1)
    asked = contest(artifact, Budget(), lucky, steady)
    assert asked.standing.baseline is not None
    asked.arena.time = lambda entrants, turns: None  # type: ignore[method-assign]
    asked.rank(asked.standing.baseline)
    assert [one.candidate.threads for one in asked.standing.finalists] == threads
    # the luckless process is that of the best file on other threads, beside another file's on those
    other, luckless = entrant(artifact, "c", 1.1 * ms, None), entrant(artifact, "b", 1.4 * ms, None)
    steady = entrant(artifact, "b", ms, None)
    steady.candidate = replace(steady.candidate, threads=1)
    asked = contest(artifact, Budget(), other, luckless, steady)
    assert asked.standing.baseline is not None
    asked.arena.time = lambda entrants, turns: None  # type: ignore[method-assign]
    asked.rank(asked.standing.baseline)
    assert (luckless in asked.standing.finalists) == (len(threads) > 1)


def test_equal_numbers_pass_on_few_pictures(artifact: Artifact) -> None:
    labels = np.arange(50) % 10
    base, same = FakeBay(artifact, one_hot(labels)), FakeBay(artifact, one_hot(labels) + 1e-6)
    asked: Any = same
    assert judge(base, labels).judge(asked).why_not is None


def test_every_output_counts(artifact: Artifact) -> None:
    labels = np.arange(1000) % 10
    maps = np.random.default_rng(0).standard_normal((16, 4)).astype(np.float32)
    base = FakeBay(artifact, one_hot(labels), maps)
    off: Any = FakeBay(artifact, one_hot(labels), maps * 2)
    lacking: Any = FakeBay(artifact, one_hot(labels))
    good: Any = FakeBay(artifact, one_hot(labels), maps)
    assert "its output 2 differs by 1 of its size" in (judge(base, labels).judge(off).why_not or "")
    assert "other outputs" in (judge(base, labels).judge(lacking).why_not or "")
    assert judge(base, labels).judge(good).why_not is None


def test_without_labels_only_equal_numbers_pass_unless_unjudged(artifact: Artifact) -> None:
    scores = np.random.default_rng(0).standard_normal((64, 10)).astype(np.float32)
    base = FakeBay(artifact, scores)
    near: Any = FakeBay(artifact, scores * np.float32(1.01))
    said = judge(base, None).judge(near).why_not
    assert said is not None
    assert "not numerically equal" in said
    assert "none are here; --unjudged allows it" in said
    assert judge(base, None, unjudged=True).judge(near).why_not is None
    assert apart(scores, scores[:, :9]) == float("inf")


def test_the_frontier_is_what_nothing_beats_in_both(artifact: Artifact) -> None:
    asked = contest(artifact, Budget())
    made = []
    for name, ms, accuracy in (("a", 1.0, 0.8), ("b", 2.0, 0.9), ("c", 3.0, 0.85), ("d", 4.0, 0.95)):
        one = entrant(artifact, name, ms, None)
        lost = 100 * (1 - accuracy)
        one.ruling = Ruling(accuracy=0.5, drop=Drop(points=lost, low=lost, high=lost, images=9))
        made.append(asked.standing.contender(one))
    assert [one.backend for one in frontier(made)] == ["a", "b", "d"]


def test_the_batch_of_the_most_pictures_a_second_keeps_to_the_latency(artifact: Artifact) -> None:
    one = entrant(artifact, "a", 1.0, None)
    one.confirmed = None
    one.tracks = {
        batch: Track(key=one.key, batch=batch, windows=[Window(generation=0, round=1, ms=(ms,) * 5)])
        for batch, ms in ((1, 1.0), (8, 4.0), (32, 12.0))
    }
    free, bound = (Standing(budget=Budget(throughput=True, within_ms=ms)) for ms in (None, 5.0))
    assert (free.best_batch(one), bound.best_batch(one)) == (32, 8)
    assert free.score(one) == pytest.approx(12 / 32)
    assert bound.contender(one).images_per_second == pytest.approx(2000)
    # beside the baseline at that one's own best batch, as the finalists' gains are told
    base = entrant(artifact, "base", 1.0, None)
    base.tracks = {
        batch: Track(key=base.key, batch=batch, windows=[Window(generation=0, round=1, ms=(ms,) * 5)])
        for batch, ms in ((1, 1.0), (8, 4.0), (32, 64.0))
    }
    base.confirmed, free.baseline = None, base
    assert free.contender(one).gain == pytest.approx((4 / 8) / (12 / 32))


def test_scores_are_told_beside_the_baseline_so_that_a_slower_hour_counts_for_nobody(
    artifact: Artifact,
) -> None:
    base, early, late = (entrant(artifact, name, 1.0, None) for name in ("base", "a", "b"))
    windows = {"base": (2.0, 4.0), "a": (1.0, None), "b": (None, 2.2)}
    for one in (base, early, late):
        found = [
            Window(generation=0, round=place, ms=(ms,))
            for place, ms in enumerate(windows[one.candidate.backend])
            if ms is not None
        ]
        one.tracks = {1: Track(key=one.key, batch=1, windows=found)}
    standing = Standing(budget=Budget(), baseline=base)
    # 2 and 1.82 times the baseline's speed, though the second took more than twice as long
    assert standing.score(early) < standing.score(late) < 1.15 * standing.score(early)
