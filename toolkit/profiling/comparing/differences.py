"""Two profiles, row by row: which module became slower, with an interval that holds for all rows at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from toolkit.errors import CnnkitError
from toolkit.profiling.comparing.conditions import holds_times, refuse_unlike
from toolkit.profiling.comparing.pairing import Peaks, pairs
from toolkit.profiling.judging.noise import (
    Drift,
    Pair,
    change_of_work,
    drift_of_machine,
    drift_of_rows,
    interval_of,
    whole_of,
)
from toolkit.profiling.measuring.latency import LEAST_WINDOWS
from toolkit.profiling.result import Profile, Run

Verdict = Literal["slower", "faster", "no change", "too few windows", "only before", "only after"]
# differences below both are of no use to anyone and within a shared machine's drift
SMALLEST_SHARE, SMALLEST_MS = 0.10, 0.002
INTERLEAVED_SHARE = 0.05


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One row in one column: medians before and after, the relative change and its interval.

    `beyond` is the change beyond what the machine did to all rows alike, where that decided.
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

    @property
    def end_to_end(self) -> bool:
        """Whether this is the whole call rather than a row."""
        return self.row == END_TO_END


END_TO_END = "end to end"


def compare(
    before: Profile,
    after: Profile,
    *,
    smallest: float = SMALLEST_SHARE,
    seed: int = 0,
    columns: tuple[str, str] | None = None,
    apart: bool = True,
) -> tuple[Difference, ...]:
    """Compare what both profiles measured. `columns` names one column of each, else equal names pair.

    `apart`: they were taken by two processes, between which a shared machine drifts.

    What only one of them measured is left out (`context.context_of` tells it). Raises CnnkitError when
    they share nothing, or were taken on other devices or with other numbers of threads.
    """
    if apart:
        refuse_unlike(before, after)
    found: list[Difference] = []
    peaks: Peaks = before.machine.get("peaks") or {}
    afters = {run.batch: run for run in after.runs}
    for run in before.runs:
        other = afters.get(run.batch)
        if other is None:
            continue
        both = [columns] if columns else [(k, k) for k in holds_times(run)]
        for first, second in both:
            if first in holds_times(run) and second in holds_times(other):
                rows = pairs(run, other, first, second, peaks)
                drift = None
                if apart:
                    bandwidth = (peaks.get("gbytes_s") or {}).get("memory")
                    machine = change_of_work(run.yardstick, other.yardstick)
                    drift = drift_of_rows(list(rows.values()), gbytes_s=bandwidth, machine=machine)
                random = np.random.default_rng(seed)
                judge = _Judge(len(rows) + 1, smallest, random, drift)
                found += _column(run, other, (first, second), rows, judge)
    if not found:
        raise CnnkitError(
            "the two profiles share no batch size and backend that both measured: "
            f"{_what(before)} against {_what(after)}"
        )
    return tuple(found)


def compare_columns(profile: Profile) -> tuple[Difference, ...]:
    """Compare the two artifacts of each backend, or of each of its precisions, which were timed in turn."""
    found: list[Difference] = []
    for run in profile.runs:
        one = replace(profile, runs=(run,))
        for pair in _in_turn(run):
            found += compare(one, one, smallest=INTERLEAVED_SHARE, columns=pair, apart=False)
    return tuple(found)


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


def _column(
    run: Run, other: Run, column: tuple[str, str], rows: Mapping[str, Pair], judge: _Judge
) -> list[Difference]:
    found = []
    a, b = run.backends[column[0]].latency_ms, other.backends[column[1]].latency_ms
    if a and b:
        own = judge.drift or Drift(scatter=0.0)
        pair = whole_of(list(rows.values()), before=a.windows, after=b.windows, drift=own)
        drift = drift_of_machine(run.yardstick, other.yardstick, own) if judge.drift else None
        judged = replace(judge, drift=drift)(pair, END_TO_END)
        found.append(replace(judged, batch=run.batch, backend=column[1]))
    return found + [replace(judge(p, row), batch=run.batch, backend=column[1]) for row, p in rows.items()]


@dataclass(frozen=True)
class _Judge:
    """The verdict on two sets of window means; of too few windows nothing is claimed, nor an interval given.

    A row counts as changed when it differs by more than the smallest effect beside what the machine
    changed for every row alike, and its interval leaves no change out.
    """

    tests: int
    smallest: float
    random: np.random.Generator
    drift: Drift | None = None

    def __call__(self, pair: Pair, row: str) -> Difference:
        a = float(np.median(pair.before)) if pair.before else None
        b = float(np.median(pair.after)) if pair.after else None
        found = Difference(batch=0, backend="", row=row, verdict="no change", before_ms=a, after_ms=b)
        if a is None or b is None:
            return replace(found, verdict="only before" if pair.before else "only after")
        if min(len(pair.before), len(pair.after)) < LEAST_WINDOWS:
            return replace(found, verdict="too few windows", change=b / a - 1 if a > 0 else None)
        if a <= 0 or b <= 0:  # below the clock's resolution: there is no ratio, but there may be a difference
            return replace(found, verdict=_from_nothing(a, b))
        low, high = interval_of(pair, tests=self.tests, drift=self.drift, random=self.random)
        interval = (float(np.expm1(low)), float(np.expm1(high)))
        found = replace(found, change=b / a - 1, interval=interval)
        slowest, fastest = (self.drift.slowest, self.drift.fastest) if self.drift else (0.0, 0.0)
        more, less = float(np.log1p(self.smallest)), float(np.log1p(-min(self.smallest, 0.99)))
        middle = float(np.log(b / a))
        if low > slowest and middle > more + slowest and _counts(a, b, slowest):
            return replace(found, verdict="slower", beyond=float(np.expm1(middle - slowest)))
        if high < fastest and middle < less + fastest and _counts(a, b, fastest):
            return replace(found, verdict="faster", beyond=float(np.expm1(middle - fastest)))
        return found


def _from_nothing(before: float, after: float) -> Verdict:
    if abs(after - before) < SMALLEST_MS:
        return "no change"
    return "slower" if after > before else "faster"


def _counts(before: float, after: float, drift: float) -> bool:
    """Tell whether a difference in milliseconds is of use to anyone, beside what the machine did."""
    return abs(after * float(np.exp(-drift)) - before) >= SMALLEST_MS


def regressions(found: Sequence[Difference], *, over: float) -> list[Difference]:
    """Return the rows that became slower by more than `over`, the worst first: those that took no time."""
    shares = [(np.inf if d.beyond is None else d.beyond, d) for d in found if d.verdict == "slower"]
    slower = [(share, d) for share, d in shares if share > over]
    return [d for share, d in sorted(slower, key=lambda entry: (entry[1].end_to_end, -entry[0]))]


def refuse_unjudged(found: Sequence[Difference]) -> None:
    """Raise CnnkitError where rows have too few windows, so that a gate would pass whatever they did."""
    few = [d for d in found if d.verdict == "too few windows"]
    if not few:
        return
    wholes = [max(d.before_ms or 0.0, d.after_ms or 0.0) for d in found if d.end_to_end]
    # calls that fit the duration get windows enough; the first of them is slower than these
    seconds = max(1, math.ceil(1.5 * max(wholes, default=0.0) / 1e3))
    again = f"profile both again with `--duration {seconds}`" if wholes else "an import holds no more of them"
    raise CnnkitError(
        f"{len(few)} of {len(found)} rows have fewer than {LEAST_WINDOWS} windows, "
        f"too few to judge ({few[0].row} on {few[0].backend}, batch {few[0].batch}); {again}"
    )
