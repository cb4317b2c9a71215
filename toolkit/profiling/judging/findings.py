"""What a profile says, in words, by rule and with the numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import isfinite

from toolkit.figures import bytes_text, ms_text, percent_text
from toolkit.profiling.result import Profile, Row, Run

# a finding is worth a line from these shares on
LAYOUT, WEIGHTS, COSTLY, OVERHEAD, DISAGREE = 0.05, 0.5, 0.3, 0.25, 1e-2
SLOWER = 1.1


def with_findings(profile: Profile) -> Profile:
    """Return the profile with each run's findings filled in."""
    runs = tuple(replace(run, findings=tuple(_of(run))) for run in profile.runs)
    return replace(profile, runs=runs)


def _of(run: Run) -> Iterable[str]:
    yield from _costliest(run)
    yield from _layout(run)
    yield from _conversions(run)
    yield from _slower(run)
    yield from _weights(run)
    yield from _peak(run)
    yield from _fused(run)
    yield from _answers(run)


def _costliest(run: Run) -> Iterable[str]:
    for key, column in run.backends.items():
        rows = [r for r in run.rows if r.modules and key in r.cells and r.cells[key].latency_ms]
        if not rows or not column.timed:
            continue
        top = max(rows, key=lambda row: row.cells[key].latency_ms or 0)
        cell = top.cells[key]
        if (cell.share or 0) >= COSTLY:
            where = f" ({top.source})" if top.source else ""
            bound = f"; it is {cell.bound}-bound" if cell.bound else ""
            reach = f" at {percent_text(cell.attainable)} of what is attainable" if cell.attainable else ""
            cost = f"{cell.share:.0%} of {key}'s profiled time ({ms_text(cell.latency_ms)} ms)"
            yield f"`{top.label}`{where} takes {cost}{bound}{reach}"


def _layout(run: Run) -> Iterable[str]:
    for key, column in run.backends.items():
        moved = [r for r in run.rows if r.type == "layout" and key in r.cells and r.cells[key].nodes]
        cost = sum(row.cells[key].share or 0 for row in moved)
        if not column.timed or cost < LAYOUT:
            continue
        top = max(moved, key=lambda row: row.cells[key].latency_ms or 0)
        count = sum(len(row.cells[key].nodes) for row in moved)
        nodes = "node" if count == 1 else "nodes"
        yield (
            f"{count} {nodes} that only move or convert data cost {cost:.0%} of {key}'s profiled time, "
            f"most of it for {_name(top.caused_by)} ({', '.join(dict.fromkeys(top.cells[key].ops))})"
        )


def _name(module: str | None) -> str:
    return f"`{module}`" if module else "the runtime"


def _conversions(run: Run) -> Iterable[str]:
    names = {"QuantizeLinear", "DequantizeLinear", "Cast"}
    for key, column in run.backends.items():
        if column.precision == "fp32" or not column.latency_ms:
            continue
        plain = next(
            (c for c in run.backends.values() if c.backend == column.backend and c.precision == "fp32"), None
        )
        cells = [r.cells[key] for r in run.rows if r.type == "layout" and key in r.cells]
        cost = sum(c.latency_ms or 0 for c in cells if names & set(c.ops))
        if plain is None or plain.latency_ms is None:
            continue
        ratio = column.latency_ms.median / plain.latency_ms.median
        if ratio > SLOWER:
            why = f": conversions cost {ms_text(cost)} ms" if cost else ""
            yield f"{column.precision} is {ratio:.1f} times slower than fp32 in {column.backend} here{why}"
        elif ratio < 1 / SLOWER:
            yield f"{column.precision} is {1 / ratio:.1f} times faster than fp32 in {column.backend} here"


def _slower(run: Run) -> Iterable[str]:
    timed = {key: c.latency_ms.median for key, c in run.backends.items() if c.latency_ms}
    if len(timed) < 2:
        return
    fast, slow = min(timed, key=timed.__getitem__), max(timed, key=timed.__getitem__)
    if timed[slow] > SLOWER * timed[fast]:
        ratio = timed[slow] / timed[fast]
        yield f"{fast} is {ratio:.1f} times as fast as {slow} ({ms_text(timed[fast])} ms a call)"
    for key, column in run.backends.items():
        overhead = next((r.cells.get(key) for r in run.rows if r.type == "overhead"), None)
        if column.timed and overhead and (overhead.share or 0) > OVERHEAD:
            yield f"{overhead.share:.0%} of {key}'s profiled time passes between its nodes, not in them"


def _weights(run: Run) -> Iterable[str]:
    whole = sum(row.parameters or 0 for row in run.rows)
    for row in run.rows:
        if whole and (row.parameters or 0) >= WEIGHTS * whole:
            share = (row.parameters or 0) / whole
            yield f"`{row.label}` holds {share:.0%} of the weights ({row.parameters:,} parameters)"


def _peak(run: Run) -> Iterable[str]:
    for key, column in run.backends.items():
        memory = column.memory
        if memory.peak_module and memory.predicted_peak_activation_bytes and column.measured:
            size = bytes_text(memory.predicted_peak_activation_bytes)
            measured = bytes_text(memory.peak_activation_bytes)
            said = f"{size} by shapes, {measured} measured"
            yield f"`{memory.peak_module}` sets {key}'s activation peak: {said}"


def _fused(run: Run) -> Iterable[str]:
    rows = [row for row in run.rows if row.saved_bytes]
    saved = sum(row.saved_bytes or 0 for row in rows)
    fusing = [k for k in run.backends if any(_is_one(r, k) for r in rows)]
    if saved and fusing:
        size = bytes_text(saved)
        yield f"fusing {_groups(len(rows))} saves {', '.join(fusing)} up to {size} of traffic a call"


def _groups(count: int) -> str:
    return "one group of modules" if count == 1 else f"{count} groups of modules"


def _is_one(row: Row, key: str) -> bool:
    return key in row.cells and len(row.cells[key].nodes) == 1


def _answers(run: Run) -> Iterable[str]:
    for key, difference in run.agreement.items():
        first = run.reference.get(key) or next(iter(run.backends))
        if difference is None:
            yield f"{key}'s answers are not {first}'s, which are all 0: check parity first"
        elif not isfinite(difference):
            yield f"{key}'s answers or {first}'s hold NaN or infinite numbers: check parity first"
        elif difference > DISAGREE:
            yield f"{key}'s answers are {difference:.1%} of the largest off {first}'s: check parity first"
