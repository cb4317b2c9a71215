"""The rows of two profiles, joined: each with its windows before and after, and what it is bound by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from toolkit.profiling.judging.drift import Pair, steadied
from toolkit.profiling.machine import NUMBER_BYTES, Peaks, computed_in
from toolkit.profiling.result import JOIN, Cell, Row, Run

Windows = tuple[float, ...]
Timed = Mapping[tuple[str, ...], Windows]  # by the modules of a row


def pairs(run: Run, other: Run, first: str, second: str, peaks: Peaks | None) -> dict[str, Pair]:
    """Return the rows of column `first` of one run against those of column `second` of another, by label."""
    found = {}
    rows = matched(_timed(run, first), _timed(other, second))
    first_steady, second_steady = (
        steadied({label: sides[side] for label, sides in rows.items()}) for side in (0, 1)
    )
    # what the roofline holds rows against
    kind = computed_in(run.backends[first].precision)
    gflops = peaks.gflops.get(kind) if peaks else None
    opening = next((label for label, (before, _) in rows.items() if before), None)
    for label, (before, after) in rows.items():
        names = set(label.split(JOIN))
        own = [row for row in run.rows if set(_names(row)) <= names and first in row.cells]
        steady = (first_steady.get(label, ()), second_steady.get(label, ()))
        found[label] = Pair(
            before=before,
            after=after,
            bytes=sum(_bytes(row, first, kind) for row in own),
            arithmetic=_arithmetic(own, first, gflops),
            first=label == opening,
            steady=steady if all(steady) else None,
        )
    return found


def _names(row: Row) -> tuple[str, ...]:
    """Return what a row is matched by: its modules, or what moves data and for whom."""
    return row.modules or (f"{row.type} for {row.caused_by}",)


def _bytes(row: Row, key: str, kind: str) -> int:
    """Return what a row moves; a copy reads what it writes. Where that is unknown, what it holds."""
    cell = row.cells[key]
    if not row.modules:
        return 2 * (cell.memory.activation_bytes or 0)
    ideal = row.ideal_bytes if cell.ideal_bytes is None else cell.ideal_bytes
    if ideal is not None:
        return ideal * NUMBER_BYTES[kind] // NUMBER_BYTES["fp32"]  # it is counted in fp32
    return (cell.memory.weights_bytes or 0) + (cell.memory.activation_bytes or 0)


def _arithmetic(rows: Sequence[Row], key: str, gflops: float | None) -> float | None:
    """Return the share of the rows' time that their multiply-adds take at the peak; None without any.

    Without a measured peak nothing is known to be arithmetic.
    """
    macs = sum(row.cells[key].macs or row.macs or 0 for row in rows)
    ms = sum(row.cells[key].latency_ms or 0.0 for row in rows)
    if not macs or not ms:
        return None
    return min(1.0, 2 * macs / (gflops * 1e6) / ms) if gflops else 0.0


def _timed(run: Run, key: str) -> Timed:
    """Return each row's windows, by its modules; data movement by what caused it."""
    found: dict[tuple[str, ...], list[Windows]] = {}
    for row in run.rows:
        cell = row.cells.get(key, Cell())
        if cell.latency_ms is not None and cell.windows and row.type not in ("overhead", "unmatched"):
            found.setdefault(_names(row), []).append(cell.windows)
    return {names: _sum(windows) for names, windows in found.items()}


def _sum(parts: Iterable[Windows]) -> Windows:
    """Return rows' windows added up, as many as all of them have."""
    return tuple(map(sum, zip(*parts, strict=False)))


def matched(before: Timed, after: Timed) -> dict[str, tuple[Windows, Windows]]:
    """Join rows until both sides have the same modules: another fusion is no missing row.

    A row that the other side lacks altogether is held against nothing: an empty tuple.
    """
    groups: list[set[str]] = []
    for modules in (*before, *after):
        touched = [group for group in groups if not group.isdisjoint(modules)]
        groups = [*(group for group in groups if group.isdisjoint(modules)), set(modules).union(*touched)]
    names = dict.fromkeys(name for modules in (*before, *after) for name in modules)
    places = {name: place for place, name in enumerate(names)}
    found = {}
    for group in sorted(groups, key=lambda own: min(places[name] for name in own)):
        label = JOIN.join(sorted(group, key=places.__getitem__))
        found[label] = (_within(before, group), _within(after, group))
    return found


def _within(rows: Timed, group: set[str]) -> Windows:
    return _sum(windows for modules, windows in rows.items() if group.issuperset(modules))
