"""Two profiles, row by row: which module became slower, with an interval that holds for all rows at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from toolkit.errors import CnnkitError
from toolkit.profiling.noise import Drift, Pair, drift_of_machine, drift_of_rows, interval_of, steadied
from toolkit.profiling.result import Cell, Profile, Run

Verdict = Literal["slower", "faster", "no change", "only before", "only after"]
# differences below both are of no use to anyone and within a shared machine's drift
SMALLEST_SHARE, SMALLEST_MS = 0.10, 0.002
INTERLEAVED_SHARE = 0.05


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One row in one column: medians before and after, the relative change and its interval."""

    batch: int
    backend: str
    row: str
    verdict: Verdict
    before_ms: float | None
    after_ms: float | None
    change: float | None = None
    interval: tuple[float, float] | None = None

    @property
    def end_to_end(self) -> bool:
        """Whether this is the whole call rather than a row."""
        return self.row == END_TO_END


END_TO_END = "end to end"
JOIN = " + "  # between the modules of a row


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

    Raises CnnkitError when they share nothing.
    """
    found: list[Difference] = []
    gbytes_s = ((before.machine.get("peaks") or {}).get("gbytes_s") or {}).get("memory")
    afters = {run.batch: run for run in after.runs}
    for run in before.runs:
        other = afters.get(run.batch)
        if other is None:
            continue
        pairs = [columns] if columns else [(k, k) for k in run.backends if k in other.backends]
        for first, second in pairs:
            if first in run.backends and second in other.backends:
                found += _column(
                    run, other, first, second, smallest=smallest, seed=seed, apart=apart, gbytes_s=gbytes_s
                )
    if not found:
        raise CnnkitError(
            "the two profiles share no batch size and backend that both measured: "
            f"{_what(before)} against {_what(after)}"
        )
    return tuple(found)


def compare_columns(profile: Profile) -> tuple[Difference, ...]:
    """Compare the two artifacts of each backend in one profile, which timed them in turn."""
    found: list[Difference] = []
    for run in profile.runs:
        by_backend: dict[str, list[str]] = {}
        for key, column in run.backends.items():
            by_backend.setdefault(column.backend, []).append(key)
        one = replace(profile, runs=(run,))
        for keys in by_backend.values():
            if len(keys) == 2 and all(run.backends[key].measured for key in keys):
                pair = (keys[0], keys[1])
                found += compare(one, one, smallest=INTERLEAVED_SHARE, columns=pair, apart=False)
    return tuple(found)


def _what(profile: Profile) -> str:
    return ", ".join(f"batch {run.batch} on {'/'.join(run.backends)}" for run in profile.runs)


def _column(
    run: Run,
    other: Run,
    first: str,
    second: str,
    *,
    smallest: float,
    seed: int,
    apart: bool,
    gbytes_s: float | None,
) -> list[Difference]:
    rows = _pairs(run, other, first, second)
    a, b = run.backends[first].latency_ms, other.backends[second].latency_ms
    drift = drift_of_rows(list(rows.values()), gbytes_s=gbytes_s) if apart else None
    judge = _Judge(tests=len(rows) + 1, smallest=smallest, random=np.random.default_rng(seed))
    found = []
    if a and b:
        whole = drift_of_machine(run.yardstick, other.yardstick, drift) if drift else None
        judged = judge(Pair(before=a.windows, after=b.windows), whole)
        found.append(_difference(run.batch, second, END_TO_END, judged))
    for label, pair in rows.items():
        found.append(_difference(run.batch, second, label, judge(pair, drift)))
    return found


def _pairs(run: Run, other: Run, first: str, second: str) -> dict[str, Pair]:
    found = {}
    rows = matched(_timed(run, first), _timed(other, second))
    first_steady, second_steady = (
        steadied({label: sides[side] for label, sides in rows.items()}) for side in (0, 1)
    )
    for label, (before, after) in rows.items():
        modules = set(label.split(JOIN))
        moved = [
            (row.cells[first].memory.weights_bytes or 0) + (row.cells[first].memory.activation_bytes or 0)
            for row in run.rows
            if row.modules and set(row.modules) <= modules and first in row.cells
        ]
        steady = (first_steady.get(label, ()), second_steady.get(label, ()))
        found[label] = Pair(
            before=before, after=after, bytes=sum(moved), steady=steady if all(steady) else None
        )
    return found


def _timed(run: Run, key: str) -> dict[tuple[str, ...], tuple[float, ...]]:
    """Return each row's windows, by its modules; data movement by what caused it."""
    found: dict[tuple[str, ...], tuple[float, ...]] = {}
    for row in run.rows:
        cell = row.cells.get(key, Cell())
        if cell.latency_ms is not None and cell.windows and row.type not in ("overhead", "unmatched"):
            name = row.modules or (f"{row.type} for {row.caused_by}",)
            held = found.get(name)
            found[name] = cell.windows if held is None else _plus(held, cell.windows)
    return found


def _plus(first: Sequence[float], second: Sequence[float]) -> tuple[float, ...]:
    return tuple(a + b for a, b in zip(first, second, strict=False))


def matched(
    before: Mapping[tuple[str, ...], tuple[float, ...]], after: Mapping[tuple[str, ...], tuple[float, ...]]
) -> dict[str, tuple[tuple[float, ...], tuple[float, ...]]]:
    """Join rows until both sides have the same modules: another fusion is no missing row.

    A row that the other side lacks altogether is held against nothing: an empty tuple.
    """
    groups: list[set[str]] = []
    for modules in (*before, *after):
        joined = set(modules)
        apart = [group for group in groups if not group & joined]
        for group in groups:
            if group & joined:
                joined |= group
        groups = [*apart, joined]
    order = list(dict.fromkeys(name for modules in (*before, *after) for name in modules))
    found = {}
    for group in sorted(groups, key=lambda names: min(order.index(name) for name in names)):
        label = JOIN.join(name for name in order if name in group)
        found[label] = (_sum(before, group), _sum(after, group))
    return found


def _sum(rows: Mapping[tuple[str, ...], tuple[float, ...]], group: set[str]) -> tuple[float, ...]:
    parts = [windows for modules, windows in rows.items() if set(modules) <= group]
    total: tuple[float, ...] = ()
    for windows in parts:
        total = _plus(total, windows) if total else windows
    return total


_Judged = tuple[Verdict, float | None, float | None, float | None, tuple[float, float] | None]


@dataclass(frozen=True)
class _Judge:
    """The verdict on two sets of window means; with too few windows no change is claimed.

    A row counts as changed when it differs by more than the smallest effect, as measured and
    beside what changed for every row alike, and its interval leaves no change out.
    """

    tests: int
    smallest: float
    random: np.random.Generator

    def __call__(self, pair: Pair, drift: Drift | None) -> _Judged:
        a = float(np.median(pair.before)) if pair.before else None
        b = float(np.median(pair.after)) if pair.after else None
        if a is None or b is None:
            return ("only before" if pair.before else "only after"), a, b, None, None
        if a <= 0 or b <= 0:
            return "no change", a, b, None, None
        low, high = interval_of(pair, tests=self.tests, drift=drift, random=self.random)
        slowest, fastest = (drift.slowest, drift.fastest) if drift else (0.0, 0.0)
        verdict: Verdict = "no change"
        if abs(b - a) >= SMALLEST_MS and min(len(pair.before), len(pair.after)) >= 5:
            more, less = float(np.log1p(self.smallest)), float(np.log1p(-min(self.smallest, 0.99)))
            middle = float(np.log(b / a))
            if low > max(0.0, slowest) and middle > more + max(0.0, slowest):
                verdict = "slower"
            elif high < min(0.0, fastest) and middle < less + min(0.0, fastest):
                verdict = "faster"
        return verdict, a, b, b / a - 1, (float(np.expm1(low)), float(np.expm1(high)))


def _difference(batch: int, backend: str, row: str, judged: _Judged) -> Difference:
    verdict, before, after, change, interval = judged
    return Difference(
        batch=batch,
        backend=backend,
        row=row,
        verdict=verdict,
        before_ms=before,
        after_ms=after,
        change=change,
        interval=interval,
    )


def regressions(found: Sequence[Difference], *, over: float) -> list[Difference]:
    """Return the rows that became slower by more than `over`, the worst first."""
    slower = [d for d in found if d.verdict == "slower" and (d.change or 0) > over]
    return sorted(slower, key=lambda d: (d.end_to_end, -(d.change or 0)))
