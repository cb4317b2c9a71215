"""What the HTML report's script draws from: a run's rows as lists, one for each figure, and a comparison."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from toolkit import schema
from toolkit.figures import shape_text
from toolkit.profiling.comparing.differences import Comparison
from toolkit.profiling.machine import Peaks
from toolkit.profiling.reports.comparison import verdict_text
from toolkit.profiling.reports.selection import homes_of, owner_of, short_name, stages_of
from toolkit.profiling.result import Cell, Profile, Row, Run

DIGITS = 5  # significant ones of a figure: what a page shows, and no noise of floats


@dataclass(frozen=True, kw_only=True)
class DrawnColumn:
    """One column: each list has an entry a row, None where nothing is known; `live` an entry a node."""

    key: str
    kind: str
    timed: bool
    ms: tuple[float | None, ...]
    below: tuple[float | None, ...]
    share: tuple[float | None, ...]
    weights: tuple[int | None, ...]
    activations: tuple[int | None, ...]
    gflops: tuple[float | None, ...]
    gbytes: tuple[float | None, ...]
    intensity: tuple[float | None, ...]
    attainable: tuple[float | None, ...]
    bound: tuple[str | None, ...]
    match: tuple[str | None, ...]
    dtype: tuple[str | None, ...]
    nodes: tuple[tuple[str, ...], ...]
    live: tuple[int, ...]
    owners: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class DrawnRun:
    """One batch size; `home` is the module that a row is named after or moves data for."""

    batch: int
    label: tuple[str, ...]
    short: tuple[str, ...]
    kind: tuple[str, ...]
    type: tuple[str, ...]
    stage: tuple[str, ...]
    home: tuple[str, ...]
    shape: tuple[str, ...]
    macs: tuple[int | None, ...]
    parameters: tuple[int | None, ...]
    source: tuple[str | None, ...]
    columns: tuple[DrawnColumn, ...]


@dataclass(frozen=True, kw_only=True)
class DrawnDifferences:
    """The rows of a comparison, each list with an entry a row; `low` and `high` bound the relative change."""

    batch: tuple[int, ...]
    backend: tuple[str, ...]
    row: tuple[str, ...]
    whole: tuple[bool, ...]
    verdict: tuple[str, ...]
    said: tuple[str, ...]
    before: tuple[float | None, ...]
    after: tuple[float | None, ...]
    change: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """All that the page draws; the roofs are the machine's peaks at the profile's number of threads."""

    runs: tuple[DrawnRun, ...]
    roofs: Mapping[str, float]
    peak: float | None
    differences: DrawnDifferences | None = None


def drawn_json(profile: Profile, comparison: Comparison | None = None) -> str:
    """Return the data as JSON that may stand inside a script element."""
    peaks = profile.machine.peaks or Peaks(threads=1)
    found = Drawn(
        runs=tuple(map(_run, profile.runs)),
        roofs=peaks.gbytes_s,
        peak=peaks.gflops.get("fp32"),
        differences=_differences(comparison) if comparison else None,
    )
    text = json.dumps(_short(schema.plain(found)), ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _run(run: Run) -> DrawnRun:
    homes = homes_of(run)
    stages = stages_of(run)
    home = tuple(owner_of(row, homes) for row in run.rows)
    return DrawnRun(
        batch=run.batch,
        label=tuple(row.label for row in run.rows),
        short=tuple(map(short_name, run.rows)),
        kind=tuple("module" if row.modules else row.type for row in run.rows),
        type=tuple(_type(row) for row in run.rows),
        stage=tuple(stages.get(name) or _type(row) for name, row in zip(home, run.rows, strict=True)),
        home=home,
        shape=tuple(shape_text(row.output_shape) if row.output_shape else "" for row in run.rows),
        macs=tuple(row.macs for row in run.rows),
        parameters=tuple(row.parameters for row in run.rows),
        source=tuple(row.source for row in run.rows),
        columns=tuple(_column(run, key) for key in run.backends),
    )


def _type(row: Row) -> str:
    kinds = {"layout": "data moved or converted", "overhead": "between the nodes"}
    return row.type if row.modules else kinds.get(row.type, row.type)


def _column(run: Run, key: str) -> DrawnColumn:
    column = run.backends[key]
    cells = [row.cells.get(key, Cell()) for row in run.rows]
    return DrawnColumn(
        key=key,
        kind=column.kind,
        timed=column.timed,
        ms=tuple(cell.latency_ms for cell in cells),
        below=tuple(cell.below_ms for cell in cells),
        share=tuple(cell.share for cell in cells),
        weights=tuple(cell.memory.weights_bytes for cell in cells),
        activations=tuple(cell.memory.activation_bytes for cell in cells),
        gflops=tuple(cell.gflops for cell in cells),
        gbytes=tuple(cell.gbytes_s for cell in cells),
        intensity=tuple(map(_intensity, cells)),
        attainable=tuple(cell.attainable for cell in cells),
        bound=tuple(cell.bound for cell in cells),
        match=tuple(cell.match for cell in cells),
        dtype=tuple(cell.dtype for cell in cells),
        nodes=tuple(cell.nodes for cell in cells),
        live=tuple(size for _, size in column.memory.timeline),
        owners=tuple(name for name, _ in column.memory.timeline),
    )


def _intensity(cell: Cell) -> float | None:
    """Return a row's floating-point operations for each byte; None where it has no place on a roofline."""
    if not (cell.gflops and cell.gbytes_s):
        return None
    return cell.gflops / cell.gbytes_s


def _differences(found: Comparison) -> DrawnDifferences:
    entries = found.differences
    return DrawnDifferences(
        batch=tuple(entry.batch for entry in entries),
        backend=tuple(entry.backend for entry in entries),
        row=tuple(entry.row for entry in entries),
        whole=tuple(entry.end_to_end for entry in entries),
        verdict=tuple(entry.verdict for entry in entries),
        said=tuple(map(verdict_text, entries)),
        before=tuple(entry.before_ms for entry in entries),
        after=tuple(entry.after_ms for entry in entries),
        change=tuple(entry.change for entry in entries),
        low=tuple(entry.interval[0] if entry.interval else None for entry in entries),
        high=tuple(entry.interval[1] if entry.interval else None for entry in entries),
    )


def _short(value: object) -> object:
    """Return JSON values with numbers of few digits; those that JSON has not are null."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _short(entry) for key, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_short(entry) for entry in value]
    return value
