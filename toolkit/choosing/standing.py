"""Who takes part in a contest, what was found of each so far, and how they compare."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from toolkit.choices import Budget, ChoiceLatency, Contender
from toolkit.choosing import Candidate, Rejection
from toolkit.choosing.judging import Ruling
from toolkit.choosing.measuring import Gain, Track, ratio


@dataclass(kw_only=True, eq=False)
class Entrant:
    """A candidate with all that was found of it; `why_not` says why it is out.

    `tracks` are by batch, from the process that it was screened in, `confirmed` is from fresh ones.
    `memory_bytes` is what its process held at the largest of its batches that fits the budget, or at the
    smallest where none does. At the batches of `over` it is too much; of all only the baseline is timed at
    them, as what others are held against. `lost` tells that it failed, hung or crashed.
    """

    candidate: Candidate
    tracks: dict[int, Track]
    confirmed: Track | None = None
    ruling: Ruling | None = None
    memory_bytes: int | None = None
    over: set[int] = field(default_factory=set)
    why_not: str | None = None
    lost: bool = False
    gain: Gain | None = None

    @property
    def key(self) -> str:
        """Its candidate's key."""
        return self.candidate.key


@dataclass(kw_only=True)
class Standing:
    """What a contest came to so far: everyone that entered, the baseline and the finalists.

    `unmade` are files that were not made, and why. `spoilt` are the rounds that others disturbed, `disturbed`
    their share of the confirming ones and `others_cores` how many cores they kept busy meanwhile. `stages`
    are the seconds that each stage took.
    """

    budget: Budget
    entrants: list[Entrant] = field(default_factory=list)
    baseline: Entrant | None = None
    finalists: list[Entrant] = field(default_factory=list)
    unmade: list[Rejection] = field(default_factory=list)
    spoilt: set[tuple[int, int]] = field(default_factory=set)
    disturbed: float = 0.0
    others_cores: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the seconds that the block takes to a stage."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.stages[name] = self.stages.get(name, 0.0) + time.monotonic() - start

    @property
    def alive(self) -> list[Entrant]:
        """Those that are not out."""
        return [one for one in self.entrants if one.why_not is None]

    def within(self, entrants: Sequence[Entrant], times: float) -> list[Entrant]:
        """Return the baseline and those alive that are slower than the best of them by so much at most."""
        orders = [(one, self.order(one)) for one in entrants if one.why_not is None]
        known = [order for _, order in orders]
        most = {misses: times * least(known, misses=misses) for misses in (False, True)}
        return [one for one, (misses, ms) in orders if one is self.baseline or ms <= most[misses]]

    def order(self, one: Entrant) -> tuple[bool, float]:
        """Sort first what keeps to latency and memory, as far as the calls so far tell, then by time."""
        return self.misses(one) or self._too_large(one), self.score(one)

    def _too_large(self, one: Entrant) -> bool:
        """Tell whether its process holds too much at every batch: of all only a baseline goes on so."""
        return bool(one.over) and one.over.issuperset(one.tracks)

    def score(self, one: Entrant) -> float:
        """Return its milliseconds a picture at its best batch; a call's where throughput does not count."""
        return min(self._per(one).values(), default=math.inf)

    def call_ms(self, one: Entrant) -> float:
        """Return the milliseconds of a call at its best batch."""
        return self.score(one) * (self.best_batch(one) if self.budget.throughput else 1)

    def misses(self, one: Entrant, times: float = 1.0) -> bool:
        """Tell whether the calls seen so far take longer than the budget allows, by a factor."""
        if self.budget.within_ms is None:
            return False
        track = one.confirmed or one.tracks.get(self.best_batch(one))
        found = self.latency(track) if track else None
        return found is None or (found.quantile_ms or math.inf) > times * self.budget.within_ms

    def latency(self, track: Track) -> ChoiceLatency | None:
        """Summarise a track's calls in undisturbed rounds; None where nothing was timed."""
        return track.undisturbed(self.spoilt).latency(self.budget.quantile)

    def worst(self, one: Entrant) -> float:
        """Return what the budget's quantile of a confirmed one will hardly exceed, in milliseconds."""
        track = one.confirmed
        return track.undisturbed(self.spoilt).worst(self.budget.quantile) if track else math.inf

    def tells(self, one: Entrant) -> bool:
        """Tell whether the calls of a confirmed one are enough for the budget's quantile."""
        track = one.confirmed
        return track is not None and track.undisturbed(self.spoilt).tells(self.budget.quantile)

    def best_batch(self, one: Entrant) -> int:
        """Return the batch at which an entrant scores best; 1 where nothing was timed."""
        per = self._per(one)
        return min(per, key=per.__getitem__) if per else 1

    def told_batch(self, one: Entrant) -> int:
        """Return the batch that an entrant was confirmed at, or else its best one."""
        return one.confirmed.batch if one.confirmed else self.best_batch(one)

    def batch_of(self, key: str) -> int | None:
        """Return the best batch of the entrant that runs a candidate of that key; None for no entrant's."""
        return next((self.best_batch(one) for one in self.entrants if one.key == key), None)

    def _per(self, one: Entrant) -> dict[int, float]:
        """Return its milliseconds by batch, of those that keep to memory and latency, if any does."""
        fits = {batch: track for batch, track in one.tracks.items() if batch not in one.over} or one.tracks
        per = {
            batch: self._ms(track, batch) / (batch if self.budget.throughput else 1)
            for batch, track in fits.items()
        }
        most = self.budget.within_ms
        if most is None or len(per) < 2:
            return per
        found = {batch: self.latency(track) for batch, track in fits.items()}
        kept = {batch for batch, known in found.items() if known and (known.quantile_ms or 0) <= most}
        return {batch: ms for batch, ms in per.items() if batch in kept} or per

    def _ms(self, track: Track, batch: int) -> float:
        """Return a track's milliseconds as they would be beside all of the baseline's windows.

        Tracks were timed at different times, each in turn with the baseline: what the machine did meanwhile
        is taken off.
        """
        beside = self.baseline.tracks.get(batch) if self.baseline else None
        if beside is None or beside is track:
            return track.median_ms
        times = ratio(beside, track, self.spoilt)
        return track.median_ms if times is None else beside.median_ms / times

    def contender(self, one: Entrant) -> Contender:
        """Return an entrant with all that is known of it, at the batch of the confirming or at its best."""
        batch = self.told_batch(one)
        found = one.candidate.contender(batch)
        screened, known = one.tracks.get(batch), one.gain
        track = one.confirmed or screened
        latency = self.latency(track) if track else None
        # as in the confirming: each at its own best batch, by the picture
        beside = self.baseline.tracks.get(self.told_batch(self.baseline)) if self.baseline else None
        times = known.times if known else None
        if times is None and screened and beside:
            times = ratio(beside, screened, self.spoilt)
        found = replace(
            found,
            latency_ms=latency,
            images_per_second=1e3 * batch / latency.median if latency and latency.median > 0 else None,
            memory_bytes=one.memory_bytes,
            gain=1.0 if one is self.baseline else times,
            gain_ci95=(known.low, known.high) if known else None,
        )
        return one.ruling.onto(found) if one.ruling else found

    def rejections(self) -> list[Rejection]:
        """Return everyone that is out, and why."""
        out = [one for one in self.entrants if one.why_not is not None]
        found = [Rejection(contender=self.contender(one), why=str(one.why_not)) for one in out]
        return [*found, *self.unmade]


def least(orders: Sequence[tuple[bool, float]], *, misses: bool) -> float:
    """Return the least score of some for one that misses the latency asked for or not; infinite of none.

    What keeps to it is held against such alone: it must not be given up for what is faster in the median.
    """
    return min((ms for missing, ms in orders if misses or not missing), default=math.inf)
