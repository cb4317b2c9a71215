"""Where candidates are measured: their processes, the turns that they take, and what each of them holds."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from toolkit.choices import Budget, CurvePoint
from toolkit.choosing import Candidate, ChooseSettings, LostError
from toolkit.choosing.bays import Bay, close_all, open_bays
from toolkit.choosing.forking import ForkServers
from toolkit.choosing.judging import ChoiceJudge, ChoicePictures
from toolkit.choosing.measuring import Timekeeper, Track
from toolkit.choosing.requests import OpenEngine, PeakTold, TellPeak
from toolkit.choosing.standing import Entrant, Standing
from toolkit.figures import bytes_text
from toolkit.machine.cpu import cpu
from toolkit.profiling.measuring.batches import fixed_batch

# windows in turn, and the seconds of each: to look, to thin out, to rank what is left, to confirm
LOOK, SCREEN, RANK, CONFIRM = (1, 0.04), (2, 0.04), (3, 0.06), (4, 0.08)
# the batches of the curve, and seconds of each of its windows
CURVE = (1, 2, 4, 8, 16, 32, 64)
CURVE_S = 0.05
# no batch is timed beyond one whose call takes so long: nobody waits for more company than that
CURVE_ENDS_MS = 300.0


def forks(budget: Budget) -> bool:
    """Tell whether candidates' processes are forked of one that has imported their runtime.

    Such a one shares pages with its server, so that its memory is not what it would be alone. Only Linux's
    libraries surely stand a fork.
    """
    return budget.memory_bytes is None and sys.platform == "linux"


class Arena:
    """The processes of one contest, and the time that it has."""

    def __init__(
        self,
        pictures: ChoicePictures,
        settings: ChooseSettings,
        standing: Standing,
        servers: ForkServers | None = None,
    ) -> None:
        """`servers` may have been started before, so that runtimes are imported meanwhile."""
        self.pictures, self.settings, self.standing = pictures, settings, standing
        self.times = Timekeeper()
        self.bays: dict[str, Bay] = {}
        self.servers = servers or ForkServers()
        self.ends = time.monotonic() + settings.time_s

    @property
    def late(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() > self.ends

    def enter(
        self, candidates: Sequence[Candidate], batches: Sequence[int], *, limit_s: float | None = None
    ) -> list[Entrant]:
        """Open candidates in processes of their own; what cannot be is out, with its reason.

        `limit_s` is how long each answer may take, None the settings' own.
        """
        if forks(self.standing.budget):
            self.servers.start(one.backend for one in candidates)
        lost = self._opened(candidates, limit_s, self.servers)
        found = []
        for one in candidates:
            entrant = Entrant(candidate=one, tracks={}, why_not=lost.get(one.key))
            if entrant.why_not is None:
                takes = self.bays[one.key].takes
                entrant.tracks = {
                    each: Track(key=one.key, batch=each) for each in batches if takes.fits(each)
                }
                if not entrant.tracks:
                    self.out(entrant, f"it takes batches of {takes.words()} only")
            found.append(entrant)
        self.standing.entrants += found
        return found

    def reopen(self, entrants: Sequence[Entrant]) -> None:
        """Open entrants in fresh processes in the place of those that they have; what cannot be is out."""
        for bay in [self.bays.pop(one.key) for one in entrants if one.key in self.bays]:
            bay.close()
        lost = self._opened([one.candidate for one in entrants])
        for one in entrants:
            one.why_not = lost.get(one.key)

    def _opened(
        self,
        candidates: Sequence[Candidate],
        limit_s: float | None = None,
        servers: ForkServers | None = None,
    ) -> dict[str, str]:
        lost: dict[str, str] = {}
        asked = [self._opening(one) for one in candidates]
        within_s = self.settings.limit_s if limit_s is None else limit_s
        self.bays |= open_bays(asked, lost, at_once=cpu().cores, limit_s=within_s, servers=servers)
        return lost

    def _opening(self, candidate: Candidate) -> OpenEngine:
        return OpenEngine(
            candidate=candidate,
            pictures=self.pictures.file,
            ready=self.pictures.ready,
            seed=self.settings.seed,
            model_file=self.settings.model_file,
        )

    def take_turns(
        self,
        entrants: Sequence[Entrant],
        tracks: Sequence[Track],
        *,
        rounds: int,
        window_s: float,
        bounded: bool,
    ) -> None:
        """Time tracks of entrants in turn, `bounded` only as long as there is time; who fails is out."""
        enough = (lambda: self.late) if bounded else (lambda: False)
        self.times.run(tracks, self.bays, rounds=rounds, window_s=window_s, enough=enough)
        self.standing.spoilt = self.times.disturbed
        self.ends += self.times.lost_s  # one that hangs takes no time of the others'
        self.times.lost_s = 0.0
        for one in entrants:
            if one.why_not is None:
                one.why_not = self.times.lost.get(one.key)

    def time(self, entrants: Sequence[Entrant], turns: tuple[int, float]) -> None:
        """Time those that are not out in turn, for so many windows of so many seconds."""
        alive = [one for one in entrants if one.why_not is None]
        if alive:
            tracks = [track for one in alive for track in one.tracks.values()]
            self.take_turns(alive, tracks, rounds=turns[0], window_s=turns[1], bounded=True)

    def judge(self, judge: ChoiceJudge, one: Entrant, *, briefly: bool = False) -> None:
        """Judge an entrant's answers, `briefly` on the first pictures alone; who may not be chosen is out."""
        start = time.monotonic()
        try:
            one.ruling = judge.judge(self.bays[one.key], briefly=briefly)
        except LostError as error:
            self.lose(one, error, start)
            return
        if one.ruling.why_not is not None:
            self.out(one, one.ruling.why_not)

    def weigh(self, entrants: Sequence[Entrant]) -> None:
        """Have each process tell its memory at its largest batch; who holds over the budget is out.

        A runtime that compiles for the first few sizes alone does it for that one, too, as it comes first.
        """
        for one in [each for each in entrants if each.why_not is None]:
            batch = one.confirmed.batch if one.confirmed else max(one.tracks)
            start = time.monotonic()
            try:
                told = self.bays[one.key].get(TellPeak(batch=batch))
            except LostError as error:
                self.lose(one, error, start)
                continue
            assert isinstance(told, PeakTold)
            one.memory_bytes = told.peak_bytes
            self._hold_memory(one)

    def _hold_memory(self, one: Entrant) -> None:
        most, held = self.standing.budget.memory_bytes, one.memory_bytes
        if most is not None and one is not self.standing.baseline and (held is None or held > most):
            told = "its memory is not known" if held is None else f"its process holds {bytes_text(held)}"
            self.out(one, f"{told}, over the {bytes_text(most)} allowed")

    def lose(self, one: Entrant, error: LostError, start: float) -> None:
        """Take out an entrant that was lost; what it took since `start` is no time of the others'."""
        self.ends += time.monotonic() - start
        self.out(one, str(error))

    def out(self, one: Entrant, why: str) -> None:
        """Take an entrant out, and end its process."""
        one.why_not = why
        bay = self.bays.pop(one.key, None)
        if bay is not None:
            bay.close()

    def curve(self, one: Entrant) -> tuple[CurvePoint, ...]:
        """Time the batches that callers may be put together in, in the process that confirmed it."""
        if one.key not in self.bays:
            self._opened([one.candidate])
        fixed = fixed_batch(one.candidate.artifact)
        points: list[CurvePoint] = []
        for batch in (fixed,) if fixed else CURVE:
            track = Track(key=one.key, batch=batch)
            self.times.run([track], self.bays, rounds=2, window_s=CURVE_S)
            ms = track.undisturbed(self.times.disturbed).median_ms
            if not 0 < ms < math.inf:
                break
            points.append(CurvePoint(batch=batch, latency_ms=ms))
            if ms > CURVE_ENDS_MS:
                break
        return tuple(points)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every process."""
        close_all(self.bays)
        self.servers.close()
