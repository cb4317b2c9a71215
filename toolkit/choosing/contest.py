"""The contest: candidates are opened, timed, judged and thinned out, the best confirmed in fresh ones."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from toolkit.backends import DEFAULT_BACKEND
from toolkit.choices import Budget
from toolkit.choosing import Candidate, ChooseSettings, LostError, Rejection
from toolkit.choosing.arena import CONFIRM, RANK, SCREEN, Arena
from toolkit.choosing.candidates import LaterFile
from toolkit.choosing.deciding import TOO_NOISY, decided, staying
from toolkit.choosing.forking import ForkServers
from toolkit.choosing.judging import ChoiceJudge
from toolkit.choosing.measuring import LEAST_DRAWS, MOST_DRAWS, Track, fewest_calls, gain
from toolkit.choosing.pictures import ChoicePictures
from toolkit.choosing.standing import Entrant, Standing, least
from toolkit.choosing.tuning import EXPANDED, SHORT_MS, Tuner
from toolkit.errors import CnnkitError
from toolkit.machine.cpu import cpu
from toolkit.machine.survey import system_name
from toolkit.telling import Tell

# slower than the best that may be chosen by so much, a file is not judged; of short calls, which one process
# times twice as long as the next, by more
HOPELESS, HOPELESS_SHORT = 2.0, 4.0
# slower than the best that may be chosen by so much, a file gets no more pictures than the first
SETTLED = 1.3
# so near to the best of all that is ranked, one is confirmed
NEAR = 1.15
RANKED, FINALISTS = 6, 3
# where the baseline's processes scatter by so much more than the best finalist's, it alone is drawn again
LOPSIDED = 2.0


class Contest:
    """One run over a network's candidates. `standing` is what it came to, whenever it ends."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        pictures: ChoicePictures,
        budget: Budget,
        settings: ChooseSettings,
        tell: Tell,
        *,
        later: Sequence[LaterFile] = (),
        servers: ForkServers | None = None,
        only_at: Mapping[str, int] | None = None,
    ) -> None:
        """`later` are files that are made only where what lies beside them is fast, `servers` the arena's.

        `only_at` is the one batch that a candidate is timed at, by its key.
        """
        self.only_at = only_at or {}
        self.candidates, self.later, self.pictures, self.budget = candidates, later, pictures, budget
        self.settings, self.tell = settings, tell
        self.batches = settings.batches or ((1, 8, 32) if budget.throughput else (1,))
        self.standing = Standing(budget=budget)
        self.arena = Arena(pictures, settings, self.standing, servers)

    def run(self) -> Standing:
        """Hold the contest; the last processes are left open, and end with the arena.

        Raises CnnkitError where the baseline itself does not run.
        """
        stage, arena = self.standing.stage, self.arena
        with stage("opening"):
            baseline = self._enter()
        with stage("timing"):
            self._look(baseline)
        judge = ChoiceJudge(
            baseline=arena.bays[baseline.key],
            pictures=self.pictures,
            budget=self.budget,
            unjudged=self.settings.unjudged,
            late=lambda: arena.late,
            batch_of=self.standing.batch_of,
        )
        with stage("judging"):
            self._judge(judge, baseline)
        with stage("later files"):
            self._make_later(judge, baseline)
        with stage("timing"):
            arena.time(self.standing.within(self.standing.alive, EXPANDED), SCREEN)
            _require(baseline, "does not run")
        with stage("judging"):
            self._settle(judge)
        if self.settings.expand:
            with stage("settings"):
                self._tuner(judge, baseline).run()
        with stage("ranking"):
            self.rank(baseline)
        with stage("judging"):
            self._rejudge(judge)
        with stage("confirming"):
            self._confirm(baseline)
        return self.standing

    def _enter(self) -> Entrant:
        """Open every file with its defaults; return the baseline."""
        first = baseline_of(self.candidates)
        self.tell(f"opening {len(self.candidates)} files on their backends …")
        entrants = self.arena.enter(self.candidates, self.batches)
        for one in entrants:
            if (batch := self.only_at.get(one.key)) in one.tracks:
                one.tracks = {batch: one.tracks[batch]}
        baseline = next(one for one in entrants if one.candidate is first)
        self.standing.baseline = baseline
        _require(baseline, "does not run")
        return baseline

    def _look(self, baseline: Entrant) -> None:
        """See what each file's process holds, and time every file once in turn.

        Raises CnnkitError where memory is asked for on a system that does not tell it.
        """
        self.tell(f"timing {len(self.standing.alive)} of them in turn …")
        self.arena.weigh(self.standing.alive)
        _require(baseline, "does not run")
        if self.budget.memory_bytes is not None and baseline.memory_bytes is None:
            raise CnnkitError(
                f"no budget of memory can be held here: {system_name()} does not tell what a process held at "
                "most, Linux does; leave out `--memory`"
            )
        self.arena.look(self.standing.alive)
        _require(baseline, "does not run")

    def _judge(self, judge: ChoiceJudge, baseline: Entrant) -> None:
        """Judge the fast ones first, on the first pictures alone.

        What is hopelessly slower than one that may be chosen is not judged; of short calls only where one
        thread is as hopeless.
        """
        self.tell(f"judging answers on {self.pictures.source} …")
        # the baseline's own accuracy is told beside the others'
        self._judge_baseline(judge, baseline)
        able = [self.standing.order(baseline)]
        slow = self._judge_able(judge, [one for one in self.standing.alive if one is not baseline], able)
        alone = self._on_one_thread(slow, able)
        if alone:
            self.arena.look([baseline, *alone])
            _require(baseline, "does not run")
            self._judge_able(judge, [one for one in alone if one.why_not is None], able)

    def _judge_able(
        self, judge: ChoiceJudge, entrants: Sequence[Entrant], able: list[tuple[bool, float]]
    ) -> list[Entrant]:
        """Judge entrants, the fastest first, and add who may be chosen to `able`; return the hopeless."""
        slow, order = list[Entrant](), self.standing.order
        for one in sorted(entrants, key=order):
            misses, own = order(one)
            best = least(able, misses=misses)
            if own > self._hopeless(one, best) * best:
                self.arena.out(one, f"{own / best:.1f} times slower than one that may be chosen; not judged")
                slow.append(one)
                continue
            self.arena.judge(judge, one, briefly=True)
            if _may_be_chosen(one):
                able.append((misses, own))
        return slow

    def _on_one_thread(self, slow: Sequence[Entrant], able: Sequence[tuple[bool, float]]) -> list[Entrant]:
        """Enter hopeless files on one thread, where calls are short: threads that meet badly take many times.

        None where other settings are not tried, or numbers of threads were named.
        """
        short = min(ms for _, ms in able) < SHORT_MS
        if not short or not self.settings.expand or self.settings.threads is not None or cpu().cores < 2:
            return []
        found = self.arena.enter(
            [replace(one.candidate, threads=1) for one in slow if one.candidate.threads is None], self.batches
        )
        self.arena.weigh(found)
        return found

    def _hopeless(self, one: Entrant, best: float) -> float:
        """Return how much slower than the best score one may be and is still judged."""
        rows = self.standing.call_ms(one) / self.standing.score(one)
        return HOPELESS if best * rows > SHORT_MS else HOPELESS_SHORT

    def _settle(self, judge: ChoiceJudge) -> None:
        """Judge on more pictures what the first ones left undecided, the fastest first.

        Of calls that take long, what is no rival of one that may be chosen by now is not worth the pictures.
        """
        order, alive = self.standing.order, self.standing.alive
        able = [order(one) for one in alive if _may_be_chosen(one)]
        for one in sorted((one for one in alive if not _may_be_chosen(one)), key=order):
            misses, own = order(one)
            best = least(able, misses=misses)
            if own > SETTLED * best and self.standing.call_ms(one) > SHORT_MS:
                times = f"{own / best:.1f} times slower than one that may be chosen"
                self.arena.out(one, f"undecided on the first pictures, and {times}")
                continue
            self.arena.judge(judge, one)
            if one.why_not is None:
                able.append((misses, own))

    def _judge_baseline(self, judge: ChoiceJudge, baseline: Entrant) -> None:
        baseline.ruling = judge.own()
        baseline.why_not = baseline.ruling.why_not
        _require(baseline, "is no reference")

    def _make_later(self, judge: ChoiceJudge, baseline: Entrant) -> None:
        """Make and judge what was put off, where the file that it is another dialect of is near the best."""
        order = self.standing.order
        for late in self.later:
            file = late.beside.file_key
            beside = min((one for one in self.standing.entrants if one.candidate.file_key == file), key=order)
            misses, own = order(beside)
            best = least([order(one) for one in self.standing.alive], misses=misses)
            times, start = own / best, time.monotonic()
            most = self._hopeless(beside, best)
            made = late.make() if times <= most else late.not_made(times)
            self.arena.ends += time.monotonic() - start  # making files is no measuring
            if isinstance(made, Rejection):
                self.standing.unmade.append(made)
                continue
            (one,) = self.arena.enter([made], self.batches)
            self.arena.weigh([one])
            self.arena.look([baseline, one])
            if one.why_not is None:
                self.arena.judge(judge, one, briefly=True)

    def _tuner(self, judge: ChoiceJudge, baseline: Entrant) -> Tuner:
        return Tuner(
            arena=self.arena,
            judge=judge,
            baseline=baseline,
            batches=self.batches,
            settings=self.settings,
            tell=self.tell,
        )

    def rank(self, baseline: Entrant) -> None:
        """Time those near the best for longer; a few are left for the confirming."""
        alive = sorted(self.standing.alive, key=self.standing.order)[:RANKED]
        self.arena.time([*{one.key: one for one in (baseline, *alive)}.values()], RANK)
        alive = sorted((one for one in alive if one.why_not is None), key=self.standing.order)
        self.standing.finalists = [one for one in self._last(alive) if one is not baseline]

    def _rejudge(self, judge: ChoiceJudge) -> None:
        """Judge those again that answer otherwise at the batch that they are confirmed at."""
        for one in self.standing.finalists:
            start = time.monotonic()
            try:
                if judge.moved(self.arena.bays[one.key]):
                    self.arena.judge(judge, one)
            except LostError as error:
                self.arena.lose(one, error, start)
        self.standing.finalists = [one for one in self.standing.finalists if one.why_not is None]

    def _last(self, ranked: Sequence[Entrant]) -> list[Entrant]:
        """Return who is confirmed: those near the best; where a latency is asked for, all that are left.

        Of short calls the best on each number of threads is, too, and on those each file of them: by the luck
        of one process others may look much faster than they are, or they themselves much slower.
        """
        if self.budget.within_ms is not None:
            return list(ranked[:FINALISTS])
        standing = self.standing
        last = [one for one in standing.within(ranked, NEAR) if one in ranked[:FINALISTS]]
        files = {one.candidate.file_key for one in last}
        for one in standing.within(ranked, EXPANDED):
            own = one.candidate
            rivals = [other.candidate for other in last if other is not standing.baseline]
            beside = [other for other in rivals if other.threads == own.threads]
            if own.file_key in files:
                beside = [other for other in beside if other.file_key == own.file_key]
            if standing.call_ms(one) < SHORT_MS and not beside:
                last.append(one)
        return last

    def _confirm(self, baseline: Entrant) -> None:
        """Measure the finalists and the baseline in fresh processes until the gain is decided."""
        standing = self.standing
        everyone = [baseline, *standing.finalists]
        own = {one.key: Track(key=one.key, batch=standing.best_batch(one)) for one in everyone}
        names = ", ".join(one.candidate.contender(own[one.key].batch).label for one in everyone)
        self.tell(f"confirming {names} in fresh processes …")
        for number in itertools.count(1):
            anew = [baseline] if number > LEAST_DRAWS and self._lopsided(baseline, everyone) else everyone
            self._draw(everyone, own, anew=anew)
            for one in everyone:  # what was complete counts, after Ctrl-C, too
                one.confirmed = own[one.key]
                one.gain = gain(own[baseline.key], own[one.key], standing.spoilt)
            baseline.gain = None
            standing.disturbed = self.arena.times.noisy(since=1)
            standing.others_cores = self.arena.times.others_cores(since=1)
            _require(baseline, "does not run in a fresh process")
            everyone = [one for one in (baseline, *standing.finalists) if one.why_not is None]
            # a baseline without rivals is only told, and no latency of it
            least = LEAST_DRAWS if len(everyone) > 1 or self.budget.within_ms is not None else 1
            if number >= least and (decided(standing) or self._over(number)):
                break
            if number >= LEAST_DRAWS:
                everyone = staying(everyone, standing)

    def _lopsided(self, baseline: Entrant, everyone: Sequence[Entrant]) -> bool:
        """Tell whether the baseline is what scatters: drawn again alone, it tells more in less time.

        A latency asked for is one of the finalists' own, so those are drawn, too.
        """
        if self.budget.within_ms is not None or len(everyone) < 2:
            return False
        best = max(everyone[1:], key=lambda one: one.gain.times if one.gain else 0.0)
        first, second = (
            one.confirmed.undisturbed(self.standing.spoilt).scatter() if one.confirmed else 0.0
            for one in (baseline, best)
        )
        return first > LOPSIDED * second

    def _draw(self, everyone: Sequence[Entrant], own: dict[str, Track], *, anew: Sequence[Entrant]) -> None:
        """Measure everyone in turn, some in fresh processes; the windows are taken whatever the time is."""
        if len(anew) == len(everyone):
            self.arena.close()
            self.arena.times.generation += 1
        self.arena.reopen(anew)
        tracks = [own[one.key] for one in everyone]
        rounds, window_s = CONFIRM[0], self.confirming_s(everyone)
        self.arena.take_turns(everyone, tracks, rounds=rounds, window_s=window_s, bounded=False)
        self.arena.weigh(anew, {one.key: own[one.key].batch for one in anew})

    def confirming_s(self, everyone: Sequence[Entrant]) -> float:
        """Return the seconds of a confirming window, more for a far quantile, as far as there is time."""
        rounds, usual_s = CONFIRM
        if self.budget.within_ms is None:
            return usual_s
        slowest_ms = max(one.tracks[self.standing.best_batch(one)].median_ms for one in everyone)
        wanted_s = fewest_calls(self.budget.quantile) * slowest_ms / 1e3 / (LEAST_DRAWS * rounds)
        left_s = (self.arena.ends - time.monotonic()) / (LEAST_DRAWS * rounds * len(everyone))
        return max(usual_s, min(wanted_s, left_s))

    def _over(self, draws: int) -> bool:
        """Tell whether no more draws are taken.

        On a disturbed machine they go on until the time is up and half as long again, however many they are.
        """
        disturbed = self.standing.disturbed > TOO_NOISY
        ends = self.arena.ends + (0.5 * self.settings.time_s if disturbed else 0.0)
        return time.monotonic() > ends or (draws >= MOST_DRAWS and not disturbed)


def _may_be_chosen(one: Entrant) -> bool:
    return one.why_not is None and one.ruling is not None and not one.ruling.undecided


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
