"""A profile as data: what the JSON holds and what every report is drawn from. Milliseconds and bytes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from toolkit.errors import CorruptError

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Latency:
    """End-to-end latency of a clean run; `windows` are the medians of its windows.

    `spread` is (largest − smallest window median) / median. `stable` tells whether the warm-up ended
    with three windows within 5 % of each other, or at its cap.
    """

    median: float
    mean: float
    p90: float
    p95: float
    p99: float
    spread: float | None
    runs: int
    windows: tuple[float, ...]
    warmup_runs: int = 0
    stable: bool = True
    first_call_ms: float | None = None


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Memory of one column; `why_null` says for each unknown figure why it is unknown."""

    weights_bytes: int | None = None
    peak_activation_bytes: int | None = None
    workspace_bytes: int | None = None
    process_peak_bytes: int | None = None
    predicted_peak_activation_bytes: int | None = None
    peak_module: str | None = None
    timeline: tuple[tuple[str, int], ...] = ()
    why_null: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Column:
    """One artifact on one backend: end to end = layers + layout + unmatched + residual, never rescaled.

    `device` is where it ran, None where it did not run here. `unmatched_ms` is what kernels that nothing
    explains took. `overhead_ms` is what the profiled run spent outside its nodes (residual + distortion);
    it is below 0 where nodes overlap in time. `upload_ms` and `download_ms` are the copies between host and
    device, which are in none of the other figures.
    """

    backend: str
    artifact: str | None
    precision: str
    measured: bool
    device: str | None = None
    why_not: str | None = None
    latency_ms: Latency | None = None
    layer_sum_ms: float | None = None
    layout_ms: float | None = None
    unmatched_ms: float | None = None
    residual_ms: float | None = None
    overhead_ms: float | None = None
    distortion_ms: float | None = None
    upload_ms: float | None = None
    download_ms: float | None = None
    memory: Memory = field(default_factory=Memory)
    coverage: float | None = None
    time_coverage: float | None = None
    profiled_runs: int = 0
    version: str | None = None
    flags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """What it computes in, and where that is not the CPU."""
        return self.precision if self.device in (None, "cpu") else f"{self.precision}, {self.device}"

    @property
    def timed(self) -> bool:
        """Whether the rows of this column have times."""
        return self.layer_sum_ms is not None


@dataclass(frozen=True, kw_only=True)
class CellMemory:
    """Weights and activations that one row's nodes hold; scratch memory where a runtime tells it."""

    weights_bytes: int | None = None
    activation_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One row of one column. `match` is `removed` where the backend runs nothing for the modules.

    `macs` and `ideal_bytes` are those of the column's own network.
    """

    latency_ms: float | None = None
    share: float | None = None
    windows: tuple[float, ...] = ()
    memory: CellMemory = field(default_factory=CellMemory)
    nodes: tuple[str, ...] = ()
    ops: tuple[str, ...] = ()
    dtype: str | None = None
    match: str | None = None
    macs: int | None = None
    ideal_bytes: int | None = None
    gflops: float | None = None
    gbytes_s: float | None = None
    attainable: float | None = None
    bound: str | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the table, the same modules for every column; a figure is None where networks differ."""

    modules: tuple[str, ...]
    type: str
    output_shape: tuple[int, ...] | None = None
    parameters: int | None = None
    macs: int | None = None
    ideal_bytes: int | None = None
    saved_bytes: int | None = None
    caused_by: str | None = None
    source: str | None = None
    cells: Mapping[str, Cell] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What the row is called in reports: its modules, or what moved data and for whom."""
        if self.modules:
            return " + ".join(self.modules)
        ops = ", ".join(dict.fromkeys(op for cell in self.cells.values() for op in cell.ops))
        if self.type == "layout":
            return f"{ops or self.type} for {self.caused_by or 'the runtime'}"
        if self.type == "overhead":
            return "between the nodes"
        return f"{self.type} {ops}".strip()


@dataclass(frozen=True, kw_only=True)
class Run:
    """The profile at one batch size.

    `agreement` is each column's largest difference from the answers of the column that `reference`
    names, the first of its network, as a share of the largest of those; None where they are all 0, and in
    the JSON also where either's are no finite numbers (`findings` says which).
    `yardstick` is the median milliseconds of fixed work that was timed in between (yardstick.py).
    """

    batch: int
    backends: Mapping[str, Column]
    rows: tuple[Row, ...]
    skipped: tuple[Mapping[str, str], ...] = ()
    findings: tuple[str, ...] = ()
    agreement: Mapping[str, float | None] = field(default_factory=dict)
    reference: Mapping[str, str] = field(default_factory=dict)
    yardstick: Mapping[str, float] = field(default_factory=dict)
    partial: bool = False


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Everything one `cnnkit profile` found."""

    model: str
    device: str
    threads: int | None
    runs: tuple[Run, ...]
    partial: bool = False
    machine: Mapping[str, Any] = field(default_factory=dict)
    skipped: tuple[Mapping[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    created: str = ""
    schema: int = SCHEMA

    def to_json(self) -> dict[str, Any]:
        """Return plain values; a row's cells stand beside its other keys, under their column's name."""
        data = dataclasses.asdict(self)
        for run in data["runs"]:
            for row in run["rows"]:
                row.update(row.pop("cells"))
        return data

    @classmethod
    def from_json(cls, data: Any, *, what: str = "the profile") -> Profile:
        """Read a profile's JSON. Raises CorruptError in words."""
        try:
            if data["schema"] != SCHEMA:
                raise CorruptError(
                    f"{what} has schema {data['schema']!r}; this release reads {SCHEMA}: profile again"
                )
            runs = tuple(_run(run) for run in data["runs"])
            if not runs:
                raise CorruptError(f"{what} holds no run; profile again")
            found: Profile = _build(cls, {**data, "runs": runs})
        except KeyError as error:
            raise CorruptError(f"{what} is no profile of cnnkit: it lacks {error}") from None
        except (TypeError, AttributeError, ValueError) as error:
            raise CorruptError(f"{what} is damaged: {error}") from None
        return found


def _build(kind: Any, data: Mapping[str, Any]) -> Any:
    known = {f.name for f in dataclasses.fields(kind)}
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k in known})


def _run(data: Mapping[str, Any]) -> Run:
    columns = {name: _column(column) for name, column in data["backends"].items()}
    rows = tuple(_row(row, tuple(columns)) for row in data["rows"])
    run: Run = _build(Run, {**data, "backends": columns, "rows": rows})
    return run


def _column(data: Mapping[str, Any]) -> Column:
    latency = data.get("latency_ms")
    memory = dict(data.get("memory") or {})
    memory["timeline"] = [(str(name), int(size)) for name, size in memory.get("timeline", ())]
    parts = {"latency_ms": _build(Latency, latency) if latency else None, "memory": _build(Memory, memory)}
    column: Column = _build(Column, {**data, **parts})
    return column


def _row(data: Mapping[str, Any], columns: tuple[str, ...]) -> Row:
    cells = {name: _cell(data[name]) for name in columns if name in data}
    row: Row = _build(Row, {**{k: v for k, v in data.items() if k not in columns}, "cells": cells})
    if not all(isinstance(name, str) for name in row.modules):
        raise ValueError("a row's modules are no names")
    return row


def _cell(data: Mapping[str, Any]) -> Cell:
    for value in (data.get("latency_ms"), *data.get("windows", ())):
        if value is not None and not (isinstance(value, (int, float)) and value >= 0):
            raise ValueError(f"a latency is {value!r}")
    cell: Cell = _build(Cell, {**data, "memory": _build(CellMemory, data.get("memory") or {})})
    return cell
