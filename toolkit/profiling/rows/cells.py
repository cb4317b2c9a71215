"""Traces and latencies laid onto the rows: what each row costs, and what a column sums to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from toolkit.profiling.network.modules import Module, total
from toolkit.profiling.network.traffic import Traffic
from toolkit.profiling.result import RED_SPREAD, UNREACHED, Cell, CellMemory, Column, Latency, Row
from toolkit.profiling.rows.align import Part, coverage
from toolkit.profiling.rows.memory import memory_of
from toolkit.profiling.rows.observed import ObservedColumn

RED_RESIDUAL = 0.10
# below this ONNX Runtime's own hooks cost more than the layers do
RESIDUAL_FROM_MS = 2.0
ORDER = ("name", "tensor", "metadata", "inferred")


def rows_of(parts: Sequence[Part], seen: Mapping[str, ObservedColumn]) -> tuple[Row, ...]:
    """Return the measured rows, and a last one for what runtimes spend between their nodes."""
    traffic = Traffic(module for part in parts for module in part.modules)
    own = {key: Traffic(column.modules) for key, column in seen.items()}
    rows = [_row(part, seen, traffic, own) for part in parts]
    overheads = {key: _overhead(column, _sums(key, column, rows)) for key, column in seen.items()}
    # nodes that overlap in time can sum to more than the run lasted: then nothing is known to lie between
    cells = {
        key: Cell(latency_ms=value) for key, value in overheads.items() if value is not None and value >= 0
    }
    if cells:
        rows.append(Row(modules=(), type="overhead", cells=cells))
    return tuple(_shared(row, rows) for row in rows)


def _row(part: Part, seen: Mapping[str, ObservedColumn], traffic: Traffic, own: Mapping[str, Traffic]) -> Row:
    modules = part.modules
    last = next((m for m in reversed(modules) if m.activation_bytes), modules[-1] if modules else None)
    # what only a runtime's kernels tell of has the kernel's type: one kernel of several says it once
    told = all(module.activation_bytes is None for module in modules)
    types = [module.type for module in modules]
    return Row(
        modules=tuple(module.name for module in modules),
        type=" + ".join(dict.fromkeys(types) if told else types) if modules else part.kind,
        output_shape=last.output_shape if last else None,
        parameters=total(m.parameters for m in modules) if modules else None,
        macs=total(m.macs for m in modules) if modules else None,
        uncounted=next((m.uncounted for m in modules if m.uncounted), None),
        ideal_bytes=traffic.ideal(modules),
        saved_bytes=traffic.saved(modules),
        caused_by=part.caused_by,
        source=next((m.source for m in modules if m.source), None),
        cells={key: _cell(part, key, column, own[key]) for key, column in seen.items() if column.trace},
    )


def _cell(part: Part, key: str, column: ObservedColumn, traffic: Traffic) -> Cell:
    trace, indices = column.trace, part.nodes.get(key, ())
    assert trace is not None
    if not indices:
        return Cell(match="removed" if part.modules and column.claims else None)
    nodes = [trace.nodes[index] for index in indices]
    windows: tuple[float, ...] = ()
    if trace.node_ms is not None:
        windows = tuple(float(value) for value in trace.node_ms[:, list(indices)].sum(axis=1))
    latency_ms = float(np.median(windows)) if windows else None
    below_ms = None
    if latency_ms == 0 and trace.resolution_ms is not None:  # nothing lasts no time at all
        latency_ms, windows, below_ms = None, (), trace.resolution_ms * len(nodes)
    matches = {column.claims[index].match for index in indices} - {None}
    own = _own(part, column, indices)
    return Cell(
        latency_ms=latency_ms,
        below_ms=below_ms,
        windows=windows,
        memory=CellMemory(
            weights_bytes=total(node.weights_bytes for node in nodes),
            activation_bytes=total(_activation(node.type, node.output_bytes) for node in nodes),
        ),
        nodes=tuple(node.name for node in nodes),
        ops=tuple(node.type for node in nodes),
        dtype=next((node.output_dtype for node in nodes if node.output_dtype), None),
        match=next((kind for kind in reversed(ORDER) if kind in matches), None),
        macs=total(module.macs for module in own) if own else None,
        ideal_bytes=traffic.ideal(own),
    )


def _own(part: Part, column: ObservedColumn, indices: Iterable[int]) -> list[Module]:
    """Return a row's modules as the column's own network has them; none where its nodes name another."""
    names = {module.name for module in part.modules}
    own = [module for module in column.modules if module.name in names]
    claimed = {name for index in indices for name in column.claims[index].modules}
    return own if claimed <= {module.name for module in own} else []


def _activation(kind: str, size: int | None) -> int | None:
    return 0 if kind == "CONSTANT" else size


@dataclass(frozen=True, kw_only=True)
class _Sums:
    """What the rows of one column add up to, in milliseconds."""

    layers: float
    layout: float
    unmatched: float

    @property
    def whole(self) -> float:
        return self.layers + self.layout + self.unmatched


def _sums(key: str, column: ObservedColumn, rows: Sequence[Row]) -> _Sums | None:
    """Return the sums of a column's rows; None where they were not timed."""
    if column.trace is None or column.trace.node_ms is None:
        return None
    own = [(row, row.cells[key].latency_ms) for row in rows if key in row.cells]
    return _Sums(
        layers=_sum(ms for row, ms in own if row.modules),
        layout=_sum(ms for row, ms in own if row.type == "layout" and not row.modules),
        unmatched=_sum(ms for row, ms in own if row.type == "unmatched" and not row.modules),
    )


def _profiled(column: ObservedColumn) -> float | None:
    """Return the end-to-end milliseconds of the profiled run."""
    totals = column.trace.total_ms if column.trace is not None else ()
    return float(np.median(totals)) if totals else None


def _overhead(column: ObservedColumn, sums: _Sums | None) -> float | None:
    """Return what the profiled run spent outside its nodes: residual + distortion, signed as they are."""
    profiled = _profiled(column)
    return profiled - sums.whole if profiled is not None and sums is not None else None


def _shared(row: Row, rows: Sequence[Row]) -> Row:
    """Fill in each cell's share of its column."""
    cells = {}
    for key, cell in row.cells.items():
        whole = _sum(r.cells[key].latency_ms for r in rows if key in r.cells)
        share = cell.latency_ms / whole if cell.latency_ms is not None and whole else None
        cells[key] = replace(cell, share=share)
    return replace(row, cells=cells)


def _sum(values: Iterable[float | None]) -> float:
    return sum(value for value in values if value is not None)


def columns_of(seen: Mapping[str, ObservedColumn], rows: Sequence[Row]) -> dict[str, Column]:
    """Return every column with its sums, its residual and its red flags."""
    return {key: _column(key, column, rows) for key, column in seen.items()}


def _column(key: str, column: ObservedColumn, rows: Sequence[Row]) -> Column:
    target, trace, latency = column.target, column.trace, column.latency
    known = target.artifact.passport
    sums, profiled = _sums(key, column, rows), _profiled(column)
    residual = latency.median - sums.whole if latency and sums else None
    version = None
    if trace is not None and target.static_why is None:
        from toolkit.backends import BACKENDS

        version = BACKENDS.load(target.backend).availability().version
    flags, notes = _judged(latency, residual)
    return Column(
        backend=target.backend,
        artifact=str(target.artifact.path.absolute()),
        precision=known.precision,
        measured=latency is not None,
        network=f"{known.model}, {known.columns} columns" if known.sha256 else None,
        device=column.device,
        allocator=column.allocator,
        why_not=target.static_why or (None if latency else UNREACHED),
        latency_ms=latency,
        layer_sum_ms=sums.layers if sums else None,
        layout_ms=sums.layout if sums else None,
        unmatched_ms=sums.unmatched if sums else None,
        residual_ms=residual,
        overhead_ms=_overhead(column, sums),
        distortion_ms=profiled - latency.median if profiled is not None and latency else None,
        memory=memory_of(column),
        coverage=coverage(column.claims) if trace and trace.nodes else None,
        time_coverage=_time_coverage(column),
        upload_ms=column.copies.upload_ms if column.copies else None,
        download_ms=column.copies.download_ms if column.copies else None,
        profiled_runs=trace.runs if trace else 0,
        version=version,
        flags=flags,
        notes=(*column.notes, *notes),
    )


def _time_coverage(column: ObservedColumn) -> float | None:
    """Return the share of the nodes' time that stands for modules or for layout."""
    trace = column.trace
    if trace is None or trace.node_ms is None:
        return None
    times = np.median(trace.node_ms, axis=0)
    known = np.array([entry.explained or entry.layout for entry in column.claims])
    return float(times[known].sum() / times.sum()) if times.sum() > 0 else None


def _judged(latency: Latency | None, residual: float | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    flags: list[str] = []
    notes: list[str] = []
    if latency is None:
        return (), ()
    if latency.red:
        flags.append(f"window medians spread over {latency.spread:.0%} (red above {RED_SPREAD:.0%})")
    if not latency.stable:
        ended = f"ended at its cap after {latency.warmup_runs} runs, not stable"
        notes.append(f"warm-up {ended if latency.warmup_runs else 'left out: a call outlasts the duration'}")
    if residual is not None and abs(residual) > RED_RESIDUAL * latency.median:
        share = f"the residual is {residual / latency.median:+.0%} of the clean latency"
        if latency.median >= RESIDUAL_FROM_MS:
            flags.append(f"{share} (red above {RED_RESIDUAL:.0%})")
        else:
            notes.append(f"{share}; below {RESIDUAL_FROM_MS:g} ms the profiler costs more than the layers")
    return tuple(flags), tuple(notes)
