"""Where candidates are measured: their processes, the turns that they take, and what each of them holds."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence

from toolkit.choices import Budget, CurvePoint
from toolkit.choosing import Candidate, ChooseSettings, LostError
from toolkit.choosing.bays import OPENING_S, Bay, close_all, open_bays
from toolkit.choosing.forking import ForkServers
from toolkit.choosing.judging import ChoiceJudge
from toolkit.choosing.measuring import Timekeeper, Track
from toolkit.choosing.pictures import ChoicePictures
from toolkit.choosing.requests import OpenEngine, PeakTold, TellPeak
from toolkit.choosing.standing import Entrant, Standing
from toolkit.closing import Closable
from toolkit.figures import bytes_text
from toolkit.machine.cpu import cpu
from toolkit.profiling.measuring.batches import fixed_batch

# windows in turn, and the seconds of each: to look, to thin out, to rank what is left, to confirm
LOOK, SCREEN, RANK, CONFIRM = (1, 0.04), (2, 0.04), (3, 0.06), (4, 0.08)
# a look that others disturbed is taken anew, so many in all: by one window a candidate may be given up
LOOKS = 3
# the batches of the curve, and seconds of each of its windows
CURVE = (1, 2, 4, 8, 16, 32, 64)
CURVE_S = 0.05
# no batch is timed beyond one whose call takes so long: nobody waits for more company than that
CURVE_ENDS_MS = 300.0
# of the calls of one batch, where the quantile of a latency takes many
CURVE_LONGEST_S = 3.0


def forks(budget: Budget) -> bool:
    """Tell whether candidates' processes are forked of one that has imported their runtime.

    Such a one shares pages with its server, so that its memory is not what it would be alone. Only Linux's
    libraries surely stand a fork.
    """
    return budget.memory_bytes is None and sys.platform == "linux"


class Arena(Closable):
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

        `limit_s` is how long opening may take, and each answer; None the settings' own, and a minute to open.
        """
        if forks(self.standing.budget):
            self.servers.start(one.backend for one in candidates)
        lost = self._opened(candidates, limit_s, self.servers)
        found = []
        for one in candidates:
            entrant = Entrant(candidate=one, tracks={}, why_not=lost.get(one.key), lost=one.key in lost)
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
            one.why_not, one.lost = lost.get(one.key), one.key in lost

    def _opened(
        self,
        candidates: Sequence[Candidate],
        limit_s: float | None = None,
        servers: ForkServers | None = None,
    ) -> dict[str, str]:
        lost: dict[str, str] = {}
        asked = [self._opening(one) for one in candidates]
        usual_s = self.settings.limit_s
        self.bays |= open_bays(
            asked,
            lost,
            at_once=cpu().cores,
            limit_s=usual_s if limit_s is None else limit_s,
            opening_s=max(OPENING_S, usual_s) if limit_s is None else limit_s,
            servers=servers,
        )
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
            if one.why_not is None and one.key in self.times.lost:
                one.why_not, one.lost = self.times.lost[one.key], True

    def time(self, entrants: Sequence[Entrant], turns: tuple[int, float]) -> None:
        """Time those that are not out in turn, for so many windows of so many seconds."""
        alive = [one for one in entrants if one.why_not is None]
        if alive:
            tracks = [track for one in alive for track in one.tracks.values()]
            self.take_turns(alive, tracks, rounds=turns[0], window_s=turns[1], bounded=True)

    def look(self, entrants: Sequence[Entrant]) -> None:
        """Time those that are not out once in turn, anew where others disturbed that, while there is time.

        What was disturbed is forgotten once it was timed undisturbed; else all of it counts.
        """
        places = set[tuple[int, int]]()
        for _ in range(LOOKS):
            self.time(entrants, LOOK)
            tracks = [track for one in entrants if one.why_not is None for track in one.tracks.values()]
            latest = {(one.generation, one.round) for track in tracks for one in track.windows[-1:]}
            if not latest & self.standing.spoilt:
                break
            places |= latest
            if self.late:
                return
        else:
            return
        gone = places & self.standing.spoilt
        for track in tracks if gone else ():
            track.windows = [one for one in track.windows if (one.generation, one.round) not in gone]

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

    def weigh(self, entrants: Sequence[Entrant], at: Mapping[str, int] | None = None) -> None:
        """Have each process tell its memory at its largest batch, or at that which `at` gives by key.

        A runtime that compiles for the first few sizes alone does it for the largest, too, as it comes first.
        Where that is over the budget, a fresh process tells of the smaller ones, as one's peak never falls
        again. It is not timed at those that are over; who is over at all of them is out.
        """
        weighed = [one for one in entrants if one.why_not is None]
        for one in weighed:
            self._weigh(one, [at[one.key] if at else max(one.tracks)])
        told = [one for one in weighed if one.why_not is None and one.memory_bytes is not None and not at]
        again = [one for one in told if one.over and len(one.tracks) > 1]
        self.reopen(again)
        for one in [each for each in again if each.why_not is None]:
            self._weigh(one, sorted(set(one.tracks) - one.over))
        for one in [each for each in weighed if each.why_not is None and each is not self.standing.baseline]:
            self._fit(one, [at[one.key]] if at else list(one.tracks))

    def _weigh(self, one: Entrant, batches: Sequence[int]) -> None:
        """Have a process tell its memory at some batches in turn, until one is over the budget."""
        most, start = self.standing.budget.memory_bytes, time.monotonic()
        for place, batch in enumerate(batches):
            try:
                held = self._held(one, batch)
            except LostError as error:
                self.lose(one, error, start)
                return
            over = most is not None and (held is None or held > most)
            if not over or place == 0:
                one.memory_bytes = held
            if over:
                one.over |= set(batches[place:])
                return

    def _fit(self, one: Entrant, batches: Sequence[int]) -> None:
        """Leave an entrant the batches that fit the budget; it is out where none of these does."""
        if one.over.issuperset(batches):
            held, most = one.memory_bytes, self.standing.budget.memory_bytes
            told = "its memory is not known" if held is None else f"its process holds {bytes_text(held)}"
            self.out(one, f"{told}, over the {bytes_text(most)} allowed")
        else:
            one.tracks = {batch: track for batch, track in one.tracks.items() if batch not in one.over}

    def _held(self, one: Entrant, batch: int) -> int | None:
        """Return the most bytes that a process held so far, after a call of a batch. Raises LostError."""
        told = self.bays[one.key].get(TellPeak(batch=batch))
        assert isinstance(told, PeakTold)
        return told.peak_bytes

    def lose(self, one: Entrant, error: LostError, start: float) -> None:
        """Take out an entrant that was lost; what it took since `start` is no time of the others'."""
        self.ends += time.monotonic() - start
        one.lost = True
        self.out(one, str(error))

    def out(self, one: Entrant, why: str) -> None:
        """Take an entrant out, and end its process."""
        one.why_not = why
        bay = self.bays.pop(one.key, None)
        if bay is not None:
            bay.close()

    def curve(self, one: Entrant) -> tuple[CurvePoint, ...]:
        """Time the batches that callers may be put together in, in the process that confirmed it.

        The last is the first beyond its own that the budget does not allow: larger ones are not served.
        """
        if one.key not in self.bays:
            self._opened([one.candidate])
        fixed = fixed_batch(one.candidate.artifact)
        own = one.confirmed.batch if one.confirmed else 1
        points: list[CurvePoint] = []
        for batch in (fixed,) if fixed else sorted({*CURVE, own}):
            point = self._point(one, batch)
            if point is None:
                break
            points.append(point)
            allowed = batch <= own or self.standing.budget.allows(point)
            if not allowed or (batch >= own and point.latency_ms > CURVE_ENDS_MS):
                break
        return tuple(points)

    def _point(self, one: Entrant, batch: int) -> CurvePoint | None:
        """Time a batch, and have its process tell its memory where that counts; None where it is lost.

        Where a latency counts, for as many calls as its quantile takes, unless those take too long: then the
        quantile is not known.
        """
        budget, track = self.standing.budget, Track(key=one.key, batch=batch)
        ends, most_ms = time.monotonic() + CURVE_LONGEST_S, budget.within_ms
        while True:
            self.times.run([track], self.bays, rounds=2, window_s=CURVE_S)
            kept = track.undisturbed(self.times.disturbed)
            told = most_ms is None or kept.median_ms > most_ms or kept.tells(budget.quantile)
            if told or one.key not in self.bays or time.monotonic() > ends:
                break
        if one.key not in self.bays or not 0 < kept.median_ms < math.inf:
            return None
        try:
            held = self._held(one, batch) if budget.memory_bytes is not None else None
        except LostError:
            return None
        # the upper end of what a further process's quantile is expected to be, as in the confirming
        quantile_ms = kept.worst(budget.quantile) if most_ms and kept.tells(budget.quantile) else None
        return CurvePoint(batch=batch, latency_ms=kept.median_ms, quantile_ms=quantile_ms, memory_bytes=held)

    def close(self) -> None:
        """End every process."""
        close_all(self.bays)
        self.servers.close()
