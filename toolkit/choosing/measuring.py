"""Candidates timed in turn, window by window, beside the yardstick; and their ratios to the baseline."""

from __future__ import annotations

import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from toolkit.choices import ChoiceLatency
from toolkit.choosing import LostError
from toolkit.choosing.bays import Bay
from toolkit.choosing.requests import CallTimes, TimeCalls
from toolkit.machine.cpu import cpu
from toolkit.profiling.measuring.latency import IDLE_S
from toolkit.profiling.measuring.peaks import Others
from toolkit.profiling.measuring.yardstick import Yardstick

# of a window, untimed, before it: its workers were asleep, and the caches were others'
WAKE = 0.15
# the yardstick's own scatter on an idle machine is some per cent
DISTURBED, AROUND = 1.15, 12
# of this process's cores: what else a machine does while nobody uses it takes less
BUSY = 0.15
# Student's t by degrees of freedom, for intervals of 95 % with two ends and with one
T_TWO_SIDED = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365)
T_ONE_SIDED = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895)


# calls that must lie beyond a quantile before that is told: of fewer, one more or less decides
BEYOND = 3
# draws of fresh processes: the least that tell an interval, and the most that a quiet machine is asked for
LEAST_DRAWS, MOST_DRAWS = 3, 8


def fewest_calls(quantile: float) -> int:
    """Return how many calls a quantile is told of at least."""
    return math.ceil(round(BEYOND / max(1e-9, 1 - quantile), 6))


@dataclass(frozen=True, kw_only=True)
class Window:
    """The milliseconds of the calls of one window, and in which round of which set of processes.

    In one set a candidate may be opened more than once: `process` tells those processes apart.
    """

    generation: int
    round: int
    ms: tuple[float, ...]
    process: int = 0

    @property
    def median(self) -> float:
        """The window's median."""
        return statistics.median(self.ms)


@dataclass(kw_only=True, eq=False)
class Track:
    """One candidate at one batch size while it is measured."""

    key: str
    batch: int
    windows: list[Window] = field(default_factory=list)

    @property
    def median_ms(self) -> float:
        """The median of the windows' medians; infinite before the first."""
        return statistics.median(one.median for one in self.windows) if self.windows else math.inf

    def undisturbed(self, disturbed: set[tuple[int, int]]) -> Track:
        """Return it without the windows of disturbed rounds.

        A process whose rounds were all disturbed counts with them: what is left out must not be chosen by its
        result.
        """
        kept: list[Window] = []
        for windows in self.processes():
            kept += [one for one in windows if (one.generation, one.round) not in disturbed] or windows
        return Track(key=self.key, batch=self.batch, windows=kept)

    def processes(self) -> list[list[Window]]:
        """Return the windows of each of its processes, in the order that these were opened in."""
        found: dict[tuple[int, int], list[Window]] = {}
        for one in self.windows:
            found.setdefault((one.generation, one.process), []).append(one)
        return list(found.values())

    def scatter(self) -> float:
        """Return the standard deviation of its processes' times, as a share; 0 of fewer than two."""
        logs = [math.log(statistics.median(one.median for one in own)) for own in self.processes()]
        return statistics.stdev(logs) if len(logs) > 1 else 0.0

    def latency(self, quantile: float) -> ChoiceLatency | None:
        """Summarise all calls of the windows; None where there is none."""
        if not self.windows:
            return None
        every = np.concatenate([np.array(one.ms) for one in self.windows])
        p95, own = (float(value) for value in np.percentile(every, [95, 100 * quantile]))
        return ChoiceLatency(
            median=float(np.median(every)), p95=p95, quantile_ms=own, windows=len(self.windows)
        )

    def tells(self, quantile: float) -> bool:
        """Tell whether its calls are enough for a quantile to be told of them."""
        return sum(len(one.ms) for one in self.windows) >= fewest_calls(quantile)

    def worst(self, quantile: float) -> float:
        """Return what a quantile of the calls in a next process will hardly exceed, in milliseconds.

        It is the upper end of the one-sided 95 % prediction interval from the quantiles of each process.
        """
        every = [[ms for one in own for ms in one.ms] for own in self.processes()]
        logs = [math.log(float(np.quantile(ms, quantile))) for ms in every]
        if len(logs) < 2:
            return math.exp(logs[0]) * DISTURBED if logs else math.inf
        spread = statistics.stdev(logs) * math.sqrt(1 + 1 / len(logs))
        return math.exp(statistics.fmean(logs) + _quantile(T_ONE_SIDED, len(logs) - 1) * spread)


@dataclass(kw_only=True)
class Timekeeper:
    """Times tracks in turn, round after round, and notes in which rounds the machine was disturbed.

    `busy` is the share of the cores that others may take in an undisturbed round: a neighbour that never
    pauses slows the yardstick of every round alike. `lost_s` are the seconds that lost ones took.
    """

    yardstick: Yardstick = field(default_factory=lambda: Yardstick(None))
    busy: float = BUSY
    disturbed: set[tuple[int, int]] = field(default_factory=set)
    lost: dict[str, str] = field(default_factory=dict)
    lost_s: float = 0.0
    _taken: dict[tuple[int, int], float] = field(default_factory=dict)
    _others: dict[tuple[int, int], float] = field(default_factory=dict)
    _rounds: int = 0
    generation: int = 0

    def run(
        self,
        tracks: Sequence[Track],
        bays: dict[str, Bay],
        *,
        rounds: int,
        window_s: float,
        enough: Callable[[], bool] = lambda: False,
    ) -> None:
        """Time each track for `rounds` windows in turn. A candidate that is lost is noted and left out.

        Each round begins with another track: none always follows the yardstick, or the same neighbour.
        """
        for _ in range(rounds):
            self._rounds += 1
            place, others, before, own_s = (self.generation, self._rounds), Others(), self._yard(), 0.0
            first = self._rounds % max(1, len(tracks))
            for track in (*tracks[first:], *tracks[:first]):
                if track.key in bays:
                    own_s += self._window(track, bays, window_s)
            self._taken[place] = max(before, self._yard())
            self._others[place] = others.cores(own_s) or 0.0
            if enough():
                break
        self._judge_rounds()

    def _yard(self) -> float:
        """Return the yardstick's time now, both of its pieces, in milliseconds."""
        self.yardstick()
        return math.prod(self.yardstick.latest.values()) ** (1 / len(self.yardstick.latest))

    def _judge_rounds(self) -> None:
        places, times = list(self._taken), np.array(list(self._taken.values()))
        self.disturbed = set()
        for at, place in enumerate(places):
            # the fastest tenth of those around it is the machine undisturbed: by one lucky time all others
            # would look disturbed, and a laptop that throttles is slower for good, not disturbed
            usual = float(np.quantile(times[max(0, at - AROUND) : at + AROUND + 1], 0.1))
            if times[at] > DISTURBED * usual or self._others[place] > self.busy * cpu().cores:
                self.disturbed.add(place)

    def _window(self, track: Track, bays: dict[str, Bay], window_s: float) -> float:
        """Time one window; return the processor seconds that its process spent."""
        wake_s, start = WAKE * window_s, time.monotonic()
        try:
            found = bays[track.key].get(
                TimeCalls(batch=track.batch, seconds=window_s, wake_s=wake_s), window_s
            )
        except LostError as error:
            self.lost[track.key], self.lost_s = str(error), self.lost_s + time.monotonic() - start
            bays.pop(track.key).close()
            return 0.0
        assert isinstance(found, CallTimes)
        process = bays[track.key].process
        track.windows.append(
            Window(generation=self.generation, round=self._rounds, ms=found.ms, process=process)
        )
        time.sleep(IDLE_S)
        return found.cpu_s

    def others_cores(self, *, since: int = 0) -> float:
        """Return how many cores others kept busy, over the rounds of the sets from `since` on."""
        found = [cores for place, cores in self._others.items() if place[0] >= since]
        return statistics.fmean(found) if found else 0.0

    def noisy(self, *, since: int = 0) -> float:
        """Return the share of the rounds, of the sets of processes from `since` on, that were disturbed."""
        asked = [place for place in self._taken if place[0] >= since]
        return len(self.disturbed & set(asked)) / len(asked) if asked else 0.0


@dataclass(frozen=True, kw_only=True)
class Gain:
    """How many times faster than the baseline, with the 95 % interval; from sets of fresh processes.

    `hope` is where the interval would begin after the most draws that are taken, were the mean one standard
    error better and the scatter as it is now.
    """

    times: float
    low: float
    high: float
    hope: float = math.inf


def ratio(baseline: Track, track: Track, disturbed: set[tuple[int, int]]) -> float | None:
    """Return how many times faster a track is: the median over the rounds that both have.

    Of one undisturbed round alone nothing tells whether it is an odd one: all rounds count then.
    """
    found = _ratios(baseline, track, disturbed)
    if len(found) < 2:
        found = _ratios(baseline, track, set())
    return math.exp(statistics.median(found)) if found else None


@dataclass(frozen=True, kw_only=True)
class _Draw:
    """The logarithms of baseline / track in the rounds of one process of the baseline, in one set."""

    generation: int
    logs: list[float]

    @property
    def middle(self) -> float:
        return statistics.median(self.logs)


def gain(baseline: Track, track: Track, disturbed: set[tuple[int, int]]) -> Gain | None:
    """Return the gain over fresh processes, one draw for each of the baseline's; None of fewer than two.

    Draws of one set share the track's process: what that one's luck adds to the error of their mean is told
    by how the track's processes scatter, with the degrees of freedom of Welch and Satterthwaite. A draw whose
    rounds were all disturbed counts with them: what is left out must not be chosen by its result.
    """
    draws = _draws(baseline, track, disturbed)
    count, sets = len(draws), len({one.generation for one in draws})
    if count < 2:
        return None
    middle, spread = statistics.fmean(one.middle for one in draws), _spread(draws)
    drawn, shared = spread**2 / count, _shared(draws, track.undisturbed(disturbed))
    error, freedom = math.sqrt(drawn + shared), float(count - 1)
    if shared > 0:
        freedom = (drawn + shared) ** 2 / (drawn**2 / (count - 1) + shared**2 / (sets - 1))
    half = _quantile(T_TWO_SIDED, max(1, int(freedom))) * error
    last = _quantile(T_TWO_SIDED, MOST_DRAWS - 1) * spread / math.sqrt(MOST_DRAWS)
    return Gain(
        times=math.exp(middle),
        low=math.exp(middle - half),
        high=math.exp(middle + half),
        hope=math.exp(middle + error - last),
    )


def _spread(draws: Sequence[_Draw]) -> float:
    """Return the draws' standard deviation; those that agree by luck are no surer than their own rounds."""
    within = [value - one.middle for one in draws for value in one.logs]
    least = statistics.pstdev(within) / math.sqrt(max(1, len(within) // len(draws)))
    return max(statistics.stdev(one.middle for one in draws), least)


def _shared(draws: Sequence[_Draw], track: Track) -> float:
    """Return the variance that is added to the draws' mean where several share a process of the track."""
    shares = [count / len(draws) for count in Counter(one.generation for one in draws).values()]
    if len(shares) < 2:
        return 0.0  # of one process nothing tells how it differs from others
    return max(0.0, track.scatter() ** 2 * (sum(one**2 for one in shares) - 1 / len(draws)))


def _draws(baseline: Track, track: Track, disturbed: set[tuple[int, int]]) -> list[_Draw]:
    found = []
    for windows in baseline.processes():
        own = Track(key=baseline.key, batch=baseline.batch, windows=windows)
        logs = _ratios(own, track, disturbed) or _ratios(own, track, set())
        if logs:
            found.append(_Draw(generation=windows[0].generation, logs=logs))
    return found


def _ratios(baseline: Track, track: Track, disturbed: set[tuple[int, int]]) -> list[float]:
    """Return the logarithms of baseline / track of each round, by the picture."""
    share = track.batch / baseline.batch
    known = {(one.generation, one.round): share * one.median for one in baseline.windows}
    return [
        math.log(known[place] / one.median)
        for one in track.windows
        if (place := (one.generation, one.round)) in known and place not in disturbed and one.median > 0
    ]


def _quantile(table: Sequence[float], freedom: int) -> float:
    return table[min(freedom, len(table)) - 1]
