"""The rows of two profiles, joined: each with its windows before and after, and what it is bound by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from toolkit.profiling.judging.drift import Pair, steadied
from toolkit.profiling.result import Cell, Peaks, Row, Run

JOIN = " + "  # between the modules of a row


def pairs(run: Run, other: Run, first: str, second: str, peaks: Peaks | None) -> dict[str, Pair]:
    """Return the rows of column `first` of one run against those of column `second` of another, by label."""
    found = {}
    rows = matched(_timed(run, first), _timed(other, second))
    first_steady, second_steady = (
        steadied({label: sides[side] for label, sides in rows.items()}) for side in (0, 1)
    )
    # what the roofline holds rows against
    kind = "int8" if run.backends[first].precision == "int8" else "fp32"
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
        return ideal // (4 if kind == "int8" else 1)  # it is counted in fp32
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


def _timed(run: Run, key: str) -> dict[tuple[str, ...], tuple[float, ...]]:
    """Return each row's windows, by its modules; data movement by what caused it."""
    found: dict[tuple[str, ...], tuple[float, ...]] = {}
    for row in run.rows:
        cell = row.cells.get(key, Cell())
        if cell.latency_ms is not None and cell.windows and row.type not in ("overhead", "unmatched"):
            name = _names(row)
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
