"""The contest: candidates are opened, timed, judged and thinned out, the best confirmed in fresh ones."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from toolkit.backends import DEFAULT_BACKEND
from toolkit.choices import Budget
from toolkit.choosing import Candidate, ChooseSettings, LostError
from toolkit.choosing.arena import Arena
from toolkit.choosing.candidates import variants
from toolkit.choosing.judging import ChoiceJudge, ChoicePictures, alike
from toolkit.choosing.measuring import Track, gain
from toolkit.choosing.standing import Entrant, Standing
from toolkit.errors import CnnkitError
from toolkit.telling import Tell

# seconds of a window, and windows in turn: to thin out, to rank what is left, to confirm
SCREEN_S, SCREENS = 0.03, 4
RANK_S, RANKS = 0.06, 5
CONFIRM_S, CONFIRMS = 0.1, 6
# slower than the best that may be chosen by so much, a file's settings, or its answers, are not looked at
HOPELESS, EXPANDED = 2.5, 1.6
FINALISTS, RANKED = 3, 8
# sets of fresh processes: the least that tell an interval, and the most that are taken
LEAST_SETS, MOST_SETS = 3, 8
# of the time: what confirming takes at least
RESERVE = 0.45
# a choice pays where all of its gain's interval lies above
WORTH = 1.02
# what could gain less than this is not measured on to be sure of: the baseline is as good
INDIFFERENT = 1.05
# of the rounds: beyond it, what is not clear is not told
TOO_NOISY = 0.34


class Contest:
    """One run over a network's candidates. `standing` is what it came to, whenever it ends."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        pictures: ChoicePictures,
        budget: Budget,
        settings: ChooseSettings,
        tell: Tell,
    ) -> None:
        self.candidates, self.pictures, self.budget = candidates, pictures, budget
        self.settings, self.tell = settings, tell
        self.batches = settings.batches or ((1, 8, 32) if budget.throughput else (1,))
        self.standing = Standing(budget=budget)
        self.arena = Arena(pictures, settings, self.standing)

    def run(self) -> Standing:
        """Hold the contest. Raises CnnkitError where the baseline itself does not run."""
        try:
            baseline = self._enter()
            judge = ChoiceJudge(
                baseline=self.arena.bays[baseline.key],
                pictures=self.pictures,
                budget=self.budget,
                unjudged=self.settings.unjudged,
            )
            self._judge(judge, baseline)
            if self.settings.expand:
                self._expand(judge, baseline)
            self._rank(baseline)
        finally:
            self.arena.close()
        self._confirm(baseline)
        self.standing.disturbed = self.arena.times.noisy(since=1)
        return self.standing

    def _enter(self) -> Entrant:
        """Open every file with its defaults and time all in turn; return the baseline."""
        first = baseline_of(self.candidates)
        self.tell(f"opening {len(self.candidates)} files on their backends …")
        entrants = self.arena.enter(self.candidates, self.batches)
        baseline = next(one for one in entrants if one.candidate is first)
        self.standing.baseline = baseline
        _require(baseline, "does not run")
        self.tell(f"timing {len(self.standing.alive)} of them in turn …")
        self._time(entrants, rounds=SCREENS, window_s=SCREEN_S)
        _require(baseline, "does not run")
        self.arena.weigh(entrants, max(self.batches))
        return baseline

    def _time(self, entrants: Sequence[Entrant], *, rounds: int, window_s: float) -> None:
        alive = [one for one in entrants if one.why_not is None]
        tracks = [track for one in alive for track in one.tracks.values()]
        self.arena.take_turns(alive, tracks, rounds=rounds, window_s=window_s, bounded=True)

    def _judge(self, judge: ChoiceJudge, baseline: Entrant) -> None:
        """Judge the fast ones first; what is hopelessly slower than one that may be chosen is not judged."""
        self.tell(f"judging answers on {self.pictures.source} …")
        best, score = math.inf, self.standing.score
        order = sorted(self.standing.alive, key=score)
        # the baseline's own accuracy is told beside the others'
        for one in [baseline, *(other for other in order if other is not baseline)]:
            own = score(one)
            if one is baseline:
                self._judge_baseline(judge, one)
            elif own > HOPELESS * best:
                self.arena.out(one, f"{own / best:.1f} times slower than one that may be chosen; not judged")
            else:
                self._judge_one(judge, one)
            if one.why_not is None:
                best = min(best, own)

    def _judge_baseline(self, judge: ChoiceJudge, baseline: Entrant) -> None:
        try:
            baseline.ruling = judge.own()
            baseline.why_not = baseline.ruling.why_not
        except LostError as error:
            baseline.why_not = str(error)
        _require(baseline, "is no reference")

    def _judge_one(self, judge: ChoiceJudge, one: Entrant) -> None:
        try:
            one.ruling = judge.judge(self.arena.bays[one.key])
        except LostError as error:
            self.arena.out(one, str(error))
            return
        if one.ruling.why_not is not None:
            self.arena.out(one, one.ruling.why_not)

    def _expand(self, judge: ChoiceJudge, baseline: Entrant) -> None:
        """Try the settings of each file that comes near the best, the fastest file first."""
        score = self.standing.score
        for one in sorted(self.standing.alive, key=score):
            others = list(variants(one.candidate, self.settings, max(self.batches)))
            best = min(map(score, self.standing.alive))
            if one.why_not is not None or score(one) > EXPANDED * best or not others:
                continue
            if time.monotonic() > self.arena.ends - RESERVE * self.settings.time_s:
                why = f"not tried: the time was up (--time {self.settings.time_s:g})"
                untried = [Entrant(candidate=other, tracks={}, why_not=why) for other in others]
                self.standing.entrants += untried
                continue
            self.tell(f"trying {len(others)} settings of {one.candidate.contender(1).label} …")
            self._try(judge, one, baseline, others)

    def _try(self, judge: ChoiceJudge, one: Entrant, baseline: Entrant, others: Sequence[Candidate]) -> None:
        """Time settings of one file beside it and the baseline; keep the two best of them open."""
        entrants = self.arena.enter(others, self.batches)
        beside = {each.key: each for each in (baseline, one)}
        self._time([*beside.values(), *entrants], rounds=SCREENS, window_s=SCREEN_S)
        self.arena.weigh(entrants, max(self.batches))
        alive = [other for other in entrants if other.why_not is None]
        known = one.candidate
        for other in sorted(alive, key=self.standing.score)[2:]:
            precision = known.artifact.passport.precision
            self.arena.out(other, f"slower than other settings of {known.backend} {precision}")
        for other in alive:
            if other.why_not is None:
                self._judge_beside(judge, one, other)

    def _judge_beside(self, judge: ChoiceJudge, one: Entrant, other: Entrant) -> None:
        """Give other settings of a file its ruling where they answer alike; else judge them by themselves."""
        try:
            same = alike(self.arena.bays[one.key], self.arena.bays[other.key], self.pictures.count)
        except LostError as error:
            self.arena.out(other, str(error))
            return
        if same:
            other.ruling = one.ruling
        else:
            self._judge_one(judge, other)

    def _rank(self, baseline: Entrant) -> None:
        """Time those near the best for longer, and take the half of them, until a few are left."""
        score = self.standing.score
        alive = sorted(self.standing.alive, key=score)[:RANKED]
        while True:
            everyone = {one.key: one for one in (baseline, *alive)}
            self._time([*everyone.values()], rounds=RANKS, window_s=RANK_S)
            alive = sorted((one for one in alive if one.why_not is None), key=score)
            if len(alive) <= FINALISTS or self.arena.late:
                break
            alive = alive[: max(FINALISTS, len(alive) // 2)]
        self.standing.finalists = [one for one in alive[:FINALISTS] if one is not baseline]
        best = min([baseline, *self.standing.finalists], key=score)
        self.standing.batch = self.standing.best_batch(best)

    def _confirm(self, baseline: Entrant) -> None:
        """Measure the finalists and the baseline in sets of fresh processes until the gain is decided."""
        standing, batch = self.standing, self.standing.batch
        everyone = [baseline, *standing.finalists]
        names = ", ".join(one.candidate.contender(batch).label for one in everyone)
        self.tell(f"confirming {names} in fresh processes …")
        own = {one.key: Track(key=one.key, batch=batch) for one in everyone}
        for number in range(1, MOST_SETS + 1):
            self._confirm_once(number, [one for one in everyone if one.why_not is None], own)
            for one in everyone:  # what was complete counts, after Ctrl-C, too
                one.confirmed = own[one.key]
                one.gain = gain(own[baseline.key], own[one.key], standing.spoilt)
            baseline.gain = None
            if number >= LEAST_SETS and (self._decided() or self._over()):
                break

    def _confirm_once(self, number: int, everyone: Sequence[Entrant], own: dict[str, Track]) -> None:
        """Measure everyone in one set of fresh processes; its windows are taken whatever the time is."""
        self.arena.times.generation = number
        try:
            self.arena.reopen(everyone)
            tracks = [own[one.key] for one in everyone]
            self.arena.take_turns(everyone, tracks, rounds=CONFIRMS, window_s=CONFIRM_S, bounded=False)
            self.arena.weigh(everyone, self.standing.batch)
        finally:
            self.arena.close()

    def _over(self) -> bool:
        """Tell whether the time is up; on a disturbed machine choosing goes on half as long again."""
        disturbed = self.arena.times.noisy(since=1) > TOO_NOISY
        return time.monotonic() > self.arena.ends + (0.5 * self.settings.time_s if disturbed else 0.0)

    def _decided(self) -> bool:
        """Tell whether the fastest finalist surely is worth a choice, or surely gains next to nothing."""
        found = [one.gain for one in self.standing.finalists if one.why_not is None and one.gain]
        if not found:
            return True
        best = max(found, key=lambda one: one.times)
        return best.low > WORTH or best.high < INDIFFERENT


def _require(baseline: Entrant, what: str) -> None:
    """Raise CnnkitError where the baseline is out: nothing can be held against it."""
    if baseline.why_not is not None:
        backend = baseline.candidate.backend
        raise CnnkitError(f"the baseline, {backend} with its defaults, {what}: {baseline.why_not}")


def baseline_of(candidates: Sequence[Candidate]) -> Candidate:
    """Return what everyone is held against: the default backend's file in fp32, else the first there is."""
    order = sorted(
        candidates,
        key=lambda one: (one.backend != DEFAULT_BACKEND, one.artifact.passport.precision != "fp32"),
    )
    if not order:
        raise CnnkitError("nothing can be tried here; `cnnkit doctor` says what is missing")
    return order[0]
