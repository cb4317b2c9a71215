"""What a profile says, in words, by rule and with the numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import isfinite

from toolkit.figures import bytes_text, ms_text, percent_text
from toolkit.profiling.result import Cell, Profile, Row, Run

# a finding is worth a line from these shares on
LAYOUT, WEIGHTS, COSTLY, OVERHEAD, DISAGREE = 0.05, 0.5, 0.3, 0.25, 1e-2
SLOWER = 1.1


def with_findings(profile: Profile) -> Profile:
    """Return the profile with each run's findings filled in."""
    runs = tuple(replace(run, findings=tuple(_of(run))) for run in profile.runs)
    return replace(profile, runs=runs)


Finding = tuple[Iterable[str], str]  # the columns whose times it quotes, and the sentence


def _of(run: Run) -> Iterable[str]:
    """Yield every finding; one that quotes times of a column that wandered says so."""
    for keys, text in _quoted(run):
        latencies = {key: run.backends[key].latency_ms for key in keys}
        red = {key: latency.spread for key, latency in latencies.items() if latency and latency.red}
        said = ", ".join(f"{key}'s windows spread over {percent_text(spread)}" for key, spread in red.items())
        yield f"{text} ({said}: not to be relied on)" if red else text


def _quoted(run: Run) -> Iterable[Finding]:
    yield from _costliest(run)
    yield from _layout(run)
    yield from _conversions(run)
    yield from _slower(run)
    yield from _weights(run)
    yield from _peak(run)
    yield from _fused(run)
    yield from _answers(run)


Placed = tuple[Row, Cell]


def _timed(run: Run) -> Iterable[tuple[str, list[Placed]]]:
    """Yield each timed column with its cells, each beside its row."""
    for key, column in run.backends.items():
        if column.timed:
            yield key, _cells(run, key)


def _cells(run: Run, key: str) -> list[Placed]:
    return [(row, row.cells[key]) for row in run.rows if key in row.cells]


def _slowest(placed: Iterable[Placed]) -> Placed:
    return max(placed, key=lambda entry: entry[1].latency_ms or 0, default=(Row(modules=(), type=""), Cell()))


def _costliest(run: Run) -> Iterable[Finding]:
    for key, cells in _timed(run):
        row, cell = _slowest(entry for entry in cells if entry[0].modules)
        if (cell.share or 0) >= COSTLY:
            where = f" ({row.source})" if row.source else ""
            bound = f"; it is {cell.bound}-bound" if cell.bound else ""
            reach = f" at {percent_text(cell.attainable)} of what is attainable" if cell.attainable else ""
            cost = f"{cell.share:.0%} of {key}'s profiled time ({ms_text(cell.latency_ms)} ms)"
            yield (key,), f"`{row.label}`{where} takes {cost}{bound}{reach}"


def _layout(run: Run) -> Iterable[Finding]:
    for key, cells in _timed(run):
        moved = [(row, cell) for row, cell in cells if row.type == "layout" and cell.nodes]
        cost = sum(cell.share or 0 for _, cell in moved)
        if cost >= LAYOUT:
            row, cell = _slowest(moved)
            count = sum(len(cell.nodes) for _, cell in moved)
            cause = f"`{row.caused_by}`" if row.caused_by else "the runtime"
            nodes = "1 node that only moves or converts data costs"
            if count > 1:
                nodes = f"{count} nodes that only move or convert data cost"
            ops = ", ".join(dict.fromkeys(cell.ops))
            most = "" if count == 1 else "most of it "
            yield (key,), f"{nodes} {cost:.0%} of {key}'s profiled time, {most}for {cause} ({ops})"


def _conversions(run: Run) -> Iterable[Finding]:
    names = {"QuantizeLinear", "DequantizeLinear", "Cast"}
    for key, column in run.backends.items():
        plain = (
            (other, c.latency_ms)
            for other, c in run.beside(key).items()
            if c.backend == column.backend and c.precision == "fp32"
        )
        clean, (first, fp32) = column.latency_ms, next(plain, ("", None))
        if column.precision == "fp32" or clean is None or fp32 is None:
            continue
        both = (key, first)
        converting = (c for row, c in _cells(run, key) if row.type == "layout" and names & set(c.ops))
        cost = sum(cell.latency_ms or 0 for cell in converting)
        ratio = clean.median / fp32.median
        if ratio > SLOWER:
            why = f": conversions cost {ms_text(cost)} ms" if cost else ""
            yield (
                both,
                f"{column.precision} is {ratio:.1f} times slower than fp32 in {column.backend} here{why}",
            )
        elif ratio < 1 / SLOWER:
            yield (
                both,
                f"{column.precision} is {1 / ratio:.1f} times faster than fp32 in {column.backend} here",
            )


def _slower(run: Run) -> Iterable[Finding]:
    networks = [{k: c.latency_ms.median for k, c in own.items() if c.latency_ms} for own in run.networks()]
    for timed in networks:
        yield from _fastest(timed)
    if sum(map(len, networks)) < 2:
        return
    for key, cells in _timed(run):
        share = next((cell.share for row, cell in cells if row.type == "overhead"), None)
        if share and share > OVERHEAD:
            yield (key,), f"{share:.0%} of {key}'s profiled time passes between its nodes, not in them"


def _fastest(timed: Mapping[str, float]) -> Iterable[Finding]:
    if len(timed) < 2:
        return
    fast, slow = min(timed, key=timed.__getitem__), max(timed, key=timed.__getitem__)
    if timed[slow] > SLOWER * timed[fast]:
        ratio = timed[slow] / timed[fast]
        yield (
            (fast, slow),
            f"{fast} is {ratio:.1f} times as fast as {slow} ({ms_text(timed[fast])} ms a call)",
        )


def _weights(run: Run) -> Iterable[Finding]:
    if len(run.networks()) > 1:  # a row's parameters are those of any network that has it
        return
    whole = sum(row.parameters or 0 for row in run.rows)
    for row in run.rows:
        if whole and (row.parameters or 0) >= WEIGHTS * whole:
            share = (row.parameters or 0) / whole
            yield (), f"`{row.label}` holds {share:.0%} of the weights ({row.parameters:,} parameters)"


def _peak(run: Run) -> Iterable[Finding]:
    for key, column in run.backends.items():
        memory = column.memory
        predicted, measured = memory.predicted_peak_activation_bytes, memory.peak_activation_bytes
        sizes = ((predicted, "by shapes"), (measured, "measured"))
        said = ", ".join(f"{bytes_text(size)} {how}" for size, how in sizes if size is not None)
        if memory.peak_module and said and column.measured:
            yield (), f"`{memory.peak_module}` sets {key}'s activation peak: {said}"


def _fused(run: Run) -> Iterable[Finding]:
    for columns in run.networks():
        rows = [row for row in run.rows if row.saved_bytes and _runs_in(row, columns)]
        fusing = [key for key in columns if any(len(r.cells.get(key, Cell()).nodes) == 1 for r in rows)]
        if not fusing:
            continue
        groups = "one group" if len(rows) == 1 else f"{len(rows)} groups"
        size = bytes_text(sum(row.saved_bytes or 0 for row in rows))
        yield (), f"fusing {groups} of modules saves {', '.join(fusing)} up to {size} of traffic a call"


def _runs_in(row: Row, columns: Iterable[str]) -> bool:
    return any(row.cells.get(key, Cell()).nodes for key in columns)


def _answers(run: Run) -> Iterable[Finding]:
    for key, difference in run.agreement.items():
        first = run.reference.get(key) or next(iter(run.backends))
        if difference is None:
            yield (), f"{key}'s answers are not {first}'s, which are all 0: check parity first"
        elif not isfinite(difference):
            yield (), f"{key}'s answers or {first}'s hold NaN or infinite numbers: check parity first"
        elif difference > DISAGREE:
            yield (), f"{key}'s answers are {difference:.1%} of the largest off {first}'s: check parity first"
