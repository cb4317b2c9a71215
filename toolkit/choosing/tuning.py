"""Settings and threads of the files that come near the best, tried together; what opens slowly last."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from toolkit.backends import BACKENDS
from toolkit.choosing import Candidate, ChooseSettings, LostError
from toolkit.choosing.arena import SCREEN, Arena
from toolkit.choosing.bays import OPENING_S
from toolkit.choosing.candidates import variants
from toolkit.choosing.judging import ChoiceJudge
from toolkit.choosing.standing import Entrant
from toolkit.telling import Tell

# slower than the best that may be chosen by so much, only threads are tried of a file, and of short calls
# alone: by the number of threads, and by luck in one process, the time of a very small network doubles
EXPANDED, SHORT_MS = 1.6, 0.5
# so near to the best of a file's settings, one is timed again
NEAR_FILE = 1.3
# halves count as computed faster than fp32 from here on
GAINS = 1.05
# settings that are open at once, and how many of a file stay so
AT_ONCE, KEPT = 8, 2
# of the time: what confirming takes at least
RESERVE = 0.4
# seconds that a setting which opens slowly needs at least: a compiler that has less would end for nothing
COSTLY_S = 15.0


@dataclass(frozen=True, kw_only=True)
class TriedSettings:
    """Other settings of a file, and the entrant that runs it as it is."""

    candidate: Candidate
    beside: Entrant


@dataclass(frozen=True, kw_only=True)
class Tuner:
    """Tries settings in an arena, each beside the baseline, and judges what is left of them."""

    arena: Arena
    judge: ChoiceJudge
    baseline: Entrant
    batches: Sequence[int]
    settings: ChooseSettings
    tell: Tell

    def run(self) -> None:
        """Try the settings of the fastest files first, some at once; what opens slowly comes last."""
        quick = [one for one in self._all() if not costly(one.candidate)]
        for first in range(0, len(quick), AT_ONCE):
            self._try(quick[first : first + AT_ONCE])
        slow = list(self._costly())
        self._try(slow, min(OPENING_S, self._left_s), least_s=COSTLY_S)

    @property
    def _left_s(self) -> float:
        """The seconds that are left beside those that confirming takes."""
        return self.arena.ends - RESERVE * self.settings.time_s - time.monotonic()

    def _all(self) -> Iterator[TriedSettings]:
        """Yield other settings of every file near the best; of others threads, where calls are short."""
        standing = self.arena.standing
        near = standing.within(standing.alive, EXPANDED)
        for one in sorted(filter(self._worth_settings, standing.alive), key=standing.order):
            for other in variants(one.candidate, self.settings, max(self.batches)):
                if one in near or (not other.settings and standing.call_ms(one) < SHORT_MS):
                    yield TriedSettings(candidate=other, beside=one)

    def _worth_settings(self, one: Entrant) -> bool:
        """Tell whether a file is another one than its backend's fp32: halves may be computed as that is."""
        if one.candidate.artifact.passport.precision != "fp16":
            return True
        score = self.arena.standing.score
        plain = [
            score(other)
            for other in self.arena.standing.alive
            if other.candidate.backend == one.candidate.backend
            and other.candidate.artifact.passport.precision == "fp32"
        ]
        return score(one) < min(plain, default=math.inf) / GAINS

    def _costly(self) -> Iterator[TriedSettings]:
        """Yield what opens slowly, only beside the fastest settings of a file that is near the best."""
        standing, seen = self.arena.standing, set[str]()
        for one in sorted(standing.within(standing.alive, EXPANDED), key=standing.order):
            if one.candidate.file_key in seen:
                continue
            seen.add(one.candidate.file_key)
            for other in variants(one.candidate, self.settings, max(self.batches)):
                if costly(other) and without_costly(other) == one.candidate:
                    yield TriedSettings(candidate=other, beside=one)

    def _try(
        self, tried: Sequence[TriedSettings], limit_s: float | None = None, *, least_s: float = 0.0
    ) -> None:
        """Time settings beside the baseline; keep the best of each file open, and judge those.

        `limit_s` is how long opening may take, and each answer, None for as long as of any other file.
        """
        arena, standing = self.arena, self.arena.standing
        if not tried:
            return
        if self._left_s <= least_s:
            why = f"not tried: the time was up (--time {self.settings.time_s:g})"
            standing.entrants += [Entrant(candidate=one.candidate, tracks={}, why_not=why) for one in tried]
            return
        files = dict.fromkeys(one.beside.candidate.contender(1).label for one in tried)
        self.tell(f"trying {len(tried)} settings of {', '.join(files)} …")
        entrants = arena.enter([one.candidate for one in tried], self.batches, limit_s=limit_s)
        paired = [(one.beside, other) for one, other in zip(tried, entrants, strict=True)]
        arena.weigh(entrants)
        arena.look([self.baseline, *entrants])
        self._thin(paired, lambda one, own: standing.within([one, *own], NEAR_FILE))
        arena.time([self.baseline, *entrants], SCREEN)
        self._thin(paired, lambda one, own: sorted(own, key=standing.order)[:KEPT])
        for one, other in paired:
            if other.why_not is None:
                self._judge_beside(one, other)

    def _thin(
        self,
        paired: Sequence[tuple[Entrant, Entrant]],
        best: Callable[[Entrant, Sequence[Entrant]], Sequence[Entrant]],
    ) -> None:
        """Take those out that are not among the best settings of their file."""
        for one in {beside.key: beside for beside, _ in paired}.values():
            own = [other for beside, other in paired if beside is one and other.why_not is None]
            kept = best(one, own)
            for other in [each for each in own if each not in kept]:
                known = other.candidate
                precision = known.artifact.passport.precision
                self.arena.out(other, f"slower than other settings of {known.backend} {precision}")

    def _judge_beside(self, one: Entrant, other: Entrant) -> None:
        """Give other settings of a file its ruling where they answer alike; else judge them by themselves."""
        try:
            same = self.judge.alike(one.key, self.arena.bays[other.key])
        except LostError as error:
            self.arena.out(other, str(error))
            return
        if same:
            other.ruling = one.ruling
        else:
            self.arena.judge(self.judge, other)


def _costly_names(candidate: Candidate) -> set[str]:
    known = BACKENDS.load(candidate.backend).settings
    return {name for name in candidate.settings if known[name].costly}


def costly(candidate: Candidate) -> bool:
    """Tell whether opening a candidate takes long, as a compiler runs."""
    return bool(_costly_names(candidate))


def without_costly(candidate: Candidate) -> Candidate:
    """Return a candidate without the settings that take long to open."""
    names = _costly_names(candidate)
    kept = {name: value for name, value in candidate.settings.items() if name not in names}
    return replace(candidate, settings=kept)
