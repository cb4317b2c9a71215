"""Two profiles, row by row: which module became slower, with an interval that holds for all rows at once."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, Self

import numpy as np

from toolkit.errors import CnnkitError
from toolkit.figures import change_text
from toolkit.profiling.comparing.elsewhere import read_profile
from toolkit.profiling.comparing.mismatch import Mismatch, mismatch_of, refuse_unlike, timed_columns
from toolkit.profiling.comparing.pairs import pairs
from toolkit.profiling.judging.drift import (
    MachineDrift,
    Pair,
    change_of_work,
    drift_of_machine,
    drift_of_rows,
    interval_of,
    margin_of,
    whole_of,
)
from toolkit.profiling.machine import Peaks
from toolkit.profiling.measuring.latency import LEAST_WINDOWS
from toolkit.profiling.result import Profile, Run

Verdict = Literal[
    "slower", "faster", "no change", "too noisy to judge", "too few windows", "only before", "only after"
]
# differences below both are of no use to anyone and within a shared machine's drift
SMALLEST_SHARE, SMALLEST_MS = 0.10, 0.002
INTERLEAVED_SHARE = 0.05
END_TO_END = "end to end"
TOO_FEW: Verdict = "too few windows"
TOO_NOISY: Verdict = "too noisy to judge"
# a row that became slower by this much and cannot be told from the machine is not judged; nor is one in which
# that other change might stay unseen; rows of less than that share of the call are not asked for either
SEEN_CHANGE, UNSEEN_CHANGE, LEAST_SHARE = 0.15, 0.25, 0.01
# rows that became slower together by more than fixed work beside them: the machine's doing, or the network's
DRIFT_THAT_HIDES = math.log1p(SMALLEST_SHARE)
# deviations that waiting for memory may move a row by before the change counts as seen
USUAL_STRAYS = 2.0
# the whole call tells nothing where rows of this share of it cannot be told from the machine
NOISY_SHARE = 0.25


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One row in one column: medians before and after, the relative change and its interval.

    `beyond` is the change beyond what the machine did to all rows alike, where that decided. `plain` tells
    that each side is one number of an import, of which nothing but the difference is known.
    """

    batch: int
    backend: str
    row: str
    verdict: Verdict
    before_ms: float | None
    after_ms: float | None
    change: float | None = None
    interval: tuple[float, float] | None = None
    beyond: float | None = None
    plain: bool = False

    @property
    def end_to_end(self) -> bool:
        """Whether this is the whole call rather than a row."""
        return self.row == END_TO_END


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two profiles held against each other; both are one where two of its columns were timed in turn.

    `fail_over` is by which share a row may become slower before `require` raises; None asks for nothing.
    `allow_noise` lets `require` pass rows that are too noisy to judge.
    """

    before: Profile
    after: Profile
    differences: tuple[Difference, ...]
    fail_over: float | None = None
    allow_noise: bool = False

    @property
    def mismatch(self) -> Mismatch:
        """What the profiles do not share."""
        return mismatch_of(self.before, self.after)

    def regressions(self, *, over: float = 0.0) -> list[Difference]:
        """Return the rows that became slower by more than `over`: those that took no time first."""
        slower = [d for d in self.differences if d.verdict == "slower" and _beyond(d) > over]
        return sorted(slower, key=lambda entry: (entry.end_to_end, -_beyond(entry)))

    def require(self) -> Self:
        """Return the comparison where no row became slower by more than was allowed.

        Raises GateError, which names those that did; CnnkitError for what nobody can judge.
        """
        if self.fail_over is not None:
            from toolkit.profiling.reports.comparison import gate

            gate(self, self.fail_over)
        return self

    def _repr_html_(self) -> str:
        from toolkit.profiling.reports.notebook import comparison_table

        return comparison_table(self)

    def refuse_unjudged(self) -> None:
        """Raise CnnkitError for rows that nobody can judge, so that a gate would pass whatever they did."""
        self._refuse_noise()
        few = [d for d in self.differences if d.verdict == TOO_FEW]
        if not few:
            return
        wholes = [max(d.before_ms or 0.0, d.after_ms or 0.0) for d in self.differences if d.end_to_end]
        # calls that fit the duration get windows enough; the first of them is slower than these
        seconds = max(1, math.ceil(1.5 * max(wholes, default=0.0) / 1e3))
        again = (
            f"profile both again with `--duration {seconds}`" if wholes else "an import holds no more of them"
        )
        raise CnnkitError(
            f"{len(few)} of {len(self.differences)} rows have fewer than {LEAST_WINDOWS} windows, "
            f"too few to judge ({few[0].row} on {few[0].backend}, batch {few[0].batch}); {again}"
        )

    @property
    def noisy(self) -> tuple[Difference, ...]:
        """The rows whose change would not have been seen, or was seen and may be the machine's."""
        return tuple(entry for entry in self.differences if entry.verdict == TOO_NOISY)

    def _refuse_noise(self) -> None:
        if not self.noisy or self.allow_noise:
            return
        first = max(self.noisy, key=lambda entry: abs(entry.change or 0.0))
        low, high = first.interval or (0.0, 0.0)
        raise CnnkitError(
            f"{len(self.noisy)} of {len(self.differences)} rows are too noisy to judge ({first.row} on "
            f"{first.backend}, batch {first.batch}: {change_text(first.change)}, anything from "
            f"{change_text(low)} to {change_text(high)}); profile both again with fewer neighbours, "
            "`--threads 1` or a longer `--duration`; `--allow-noise` lets them pass"
        )


def _beyond(entry: Difference) -> float:
    return math.inf if entry.beyond is None else entry.beyond


def compare(
    before: Profile | Path | str,
    after: Profile | Path | str,
    *,
    fail_over: float | None = None,
    allow_noise: bool = False,
    seed: int = 0,
) -> Comparison:
    """Compare what both profiles, or files of profiles, measured: columns of one name with each other.

    `fail_over` is the share from which on a change is one, 0.1 where it is None; rows that are slower by more
    are raised by the comparison's `require`; so are rows that are too noisy to judge, unless `allow_noise`.
    The profiles were taken by two processes, between which a shared machine drifts. What only one of them
    measured is left out (`Comparison.mismatch` tells it).
    Raises CnnkitError when they share nothing, or were taken on other devices or with other numbers of
    threads; CorruptError for a file that is no profile.
    """
    first, second = (
        side if isinstance(side, Profile) else read_profile(Path(side)) for side in (before, after)
    )
    smallest = SMALLEST_SHARE if fail_over is None else fail_over
    refuse_unlike(first, second)
    others = {run.batch: run for run in second.runs}
    peaks = first.machine.peaks
    found: list[Difference] = []
    for run in first.runs:
        other = others.get(run.batch)
        for key in timed_columns(run) if other else ():
            if other and key in timed_columns(other):
                found += _differences(run, other, (key, key), peaks=peaks, smallest=smallest, seed=seed)
    if not found:
        raise CnnkitError(
            "the two profiles share no batch size and backend that both measured: "
            f"{_what(first)} against {_what(second)}"
        )
    return Comparison(
        before=first,
        after=second,
        differences=tuple(found),
        fail_over=fail_over,
        allow_noise=allow_noise,
    )


def compare_columns(profile: Profile) -> Comparison:
    """Compare the two artifacts of each backend, or of each of its precisions, which were timed in turn."""
    of_pair = partial(_differences, peaks=profile.machine.peaks, smallest=INTERLEAVED_SHARE, apart=False)
    found = [d for run in profile.runs for pair in _in_turn(run) for d in of_pair(run, run, pair)]
    return Comparison(before=profile, after=profile, differences=tuple(found))


def refuse_unpaired(profile: Profile) -> None:
    """Raise CnnkitError where no two columns pair, so that nothing was compared."""
    if not any(_in_turn(run) for run in profile.runs):
        raise CnnkitError(
            f"--against found no two timed columns of one backend: {_what(profile)}; name one model or file "
            "and one against it, and a `--backend` that runs both"
        )


def _in_turn(run: Run) -> list[tuple[str, str]]:
    """Return the pairs of timed columns: a backend's two, else the two of each of its precisions."""
    by_backend: dict[str, list[str]] = {}
    by_precision: dict[tuple[str, str], list[str]] = {}
    for key, column in run.backends.items():
        if column.measured:
            by_backend.setdefault(column.backend, []).append(key)
            by_precision.setdefault((column.backend, column.precision), []).append(key)
    # two files of one backend are held against each other whatever their precisions are
    pairs = [keys for keys in by_backend.values() if len(keys) == 2]
    pairs += [k for (name, _), k in by_precision.items() if len(k) == 2 and len(by_backend[name]) > 2]
    return [(first, second) for first, second in pairs]


def _what(profile: Profile) -> str:
    return ", ".join(f"batch {run.batch} on {'/'.join(run.backends)}" for run in profile.runs)


def _differences(
    run: Run,
    other: Run,
    columns: tuple[str, str],
    *,
    peaks: Peaks | None,
    smallest: float,
    seed: int = 0,
    apart: bool = True,
) -> list[Difference]:
    """Return the whole call's difference, where both timed it, then the rows'."""
    first, second = columns
    rows = pairs(run, other, first, second, peaks)
    drift = _drift(rows, run, other, peaks) if apart else None
    whole_ms = sum(min(pair.medians) for pair in rows.values() if pair.medians)
    plain = not run.backends[first].measured and not other.backends[second].measured
    judge = _Judge(run.batch, second, len(rows) + 1, smallest, np.random.default_rng(seed), whole_ms, plain)
    found = []
    a, b = run.backends[first].latency_ms, other.backends[second].latency_ms
    if a and b:
        own = drift or MachineDrift(scatter=0.0)
        whole = whole_of(list(rows.values()), before=a.windows, after=b.windows, drift=own)
        beside = drift_of_machine(run.yardstick, other.yardstick, own) if apart else None
        found.append(judge(END_TO_END, whole, beside))
    judged = [judge(row, pair, drift) for row, pair in rows.items()]
    noisy_ms = sum(min(d.before_ms or 0.0, d.after_ms or 0.0) for d in judged if d.verdict == TOO_NOISY)
    if noisy_ms > NOISY_SHARE * whole_ms:
        found = [dataclasses.replace(d, verdict=TOO_NOISY, beyond=None) for d in found]
    return found + judged


def _drift(rows: Mapping[str, Pair], run: Run, other: Run, peaks: Peaks | None) -> MachineDrift:
    gbytes_s = peaks.gbytes_s.get("memory") if peaks else None
    machine = change_of_work(run.yardstick, other.yardstick)
    return drift_of_rows(list(rows.values()), gbytes_s=gbytes_s, machine=machine)


@dataclass(frozen=True)
class _Judge:
    """The verdict on two sets of window means; of too few windows nothing is claimed, nor an interval given.

    A row counts as changed when it differs by more than the smallest effect beside what the machine
    changed for every row alike, and its interval leaves no change out.
    """

    batch: int
    backend: str
    tests: int
    smallest: float
    random: np.random.Generator
    whole_ms: float
    imported: bool

    def __call__(self, row: str, pair: Pair, drift: MachineDrift | None) -> Difference:
        a, b = (float(np.median(side)) if side else None for side in (pair.before, pair.after))
        told = partial(Difference, batch=self.batch, backend=self.backend, row=row, before_ms=a, after_ms=b)
        if a is None or b is None:
            return told(verdict="only before" if pair.before else "only after")
        if self.imported and len(pair.before) == len(pair.after) == 1:
            return self._plain(a, b, told)
        if min(len(pair.before), len(pair.after)) < LEAST_WINDOWS:
            return told(verdict=TOO_FEW, change=b / a - 1 if a > 0 else None)
        if a <= 0 or b <= 0:  # below the clock's resolution: there is no ratio, but there may be a difference
            return told(verdict=_from_nothing(a, b))
        low, high = interval_of(pair, tests=self.tests, drift=drift, random=self.random)
        told = partial(told, change=b / a - 1, interval=(float(np.expm1(low)), float(np.expm1(high))))
        slowest, fastest = (drift.slowest, drift.fastest) if drift else (0.0, 0.0)
        more, less = math.log1p(self.smallest), math.log1p(-min(self.smallest, 0.99))
        middle = float(np.log(b / a))
        if low > slowest and middle > more + slowest and _counts(a, b, slowest):
            return told(verdict="slower", beyond=float(np.expm1(middle - slowest)))
        if high < fastest and middle < less + fastest and _counts(a, b, fastest):
            return told(verdict="faster", beyond=float(np.expm1(middle - fastest)))
        # columns in turn shared whatever the machine did: what may stay unseen is half the interval
        margin = margin_of(drift.noise(pair), tests=self.tests) if drift else (high - low) / 2
        usual = USUAL_STRAYS * drift.usual(pair) if drift else 0.0
        together = bool(drift and drift.unexplained > DRIFT_THAT_HIDES and low > 0 and middle > more)
        noisy = together or self._noisy(pair, middle - slowest - usual, high - slowest, margin)
        return told(verdict=TOO_NOISY if noisy else "no change")

    def _plain(self, a: float, b: float, told: Callable[..., Difference]) -> Difference:
        """Return the verdict on one number each, by their difference alone."""
        if a <= 0 or b <= 0:
            return told(verdict=_from_nothing(a, b), plain=True)
        change = b / a - 1
        counts = abs(b - a) >= SMALLEST_MS
        slower, faster = change > self.smallest, change < -min(self.smallest, 0.99)
        verdict: Verdict = "slower" if counts and slower else "faster" if counts and faster else "no change"
        return told(verdict=verdict, change=change, beyond=change, plain=True)

    def _noisy(self, pair: Pair, beyond: float, high: float, margin: float) -> bool:
        """Tell whether a slower row may stay unseen, or was seen and cannot be told from the machine.

        `margin` is what these two measurements showed alone, `beyond` the change without what may be expected
        of any two: that a row waits for memory by more or less in every pair is no noise of theirs. A file
        beside itself is one measurement, of which nothing is noise.
        """
        ms = min(pair.medians or (0.0, 0.0))
        if pair.before == pair.after or ms < LEAST_SHARE * self.whole_ms or ms * UNSEEN_CHANGE < SMALLEST_MS:
            return False
        seen = beyond > math.log1p(max(self.smallest, SEEN_CHANGE)) and high > 0
        return seen or margin > math.log1p(max(self.smallest, UNSEEN_CHANGE))


def _from_nothing(before: float, after: float) -> Verdict:
    if abs(after - before) < SMALLEST_MS:
        return "no change"
    return "slower" if after > before else "faster"


def _counts(before: float, after: float, drift: float) -> bool:
    """Tell whether a difference in milliseconds is of use to anyone, beside what the machine did."""
    return abs(after * float(np.exp(-drift)) - before) >= SMALLEST_MS
