"""A profile as data: what the JSON holds and what every report is drawn from. Milliseconds and bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from toolkit import schema
from toolkit.allocation import Allocator
from toolkit.errors import CorruptError, GateError, NotFoundError
from toolkit.figures import one_line
from toolkit.profiling.machine import MachineFacts
from toolkit.schema import Amount, Count, Positive, Rate, Signed

SCHEMA = 1
AGAIN = "profile again"
# why a column that a run never came to has no times
UNREACHED = "it was not reached"

# of windows' medians, from which on a column's times are not to be relied on
RED_SPREAD = 0.05

# between the modules of a row
JOIN = " + "


@dataclass(frozen=True, kw_only=True)
class Latency:
    """End-to-end latency of a clean run; `windows` are the medians of its windows.

    `spread` is (largest − smallest window median) / median. `stable` tells whether the warm-up ended
    with three windows within 5 % of each other, or at its cap.
    """

    median: Amount
    mean: Amount
    p90: Amount
    p95: Amount
    p99: Amount
    spread: Amount | None
    runs: Count
    windows: tuple[Amount, ...]
    warmup_runs: Count = 0
    stable: bool = True
    first_call_ms: Amount | None = None

    @property
    def red(self) -> bool:
        """Whether its windows spread too far to rely on it."""
        return self.spread is not None and self.spread > RED_SPREAD


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Memory of one column; `why_null` says of a figure why it is unknown, `note` what is to know beside."""

    weights_bytes: Count | None = None
    peak_activation_bytes: Count | None = None
    workspace_bytes: Count | None = None
    process_peak_bytes: Count | None = None
    predicted_peak_activation_bytes: Count | None = None
    peak_module: str | None = None
    timeline: tuple[tuple[str, Count], ...] = ()
    why_null: Mapping[str, str] = field(default_factory=dict)
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class Column:
    """One artifact on one backend: end to end = layers + layout + unmatched + residual, never rescaled.

    `network` tells columns of one network from others; None for a file that does not say whose it is.
    `device` is where it ran, None where it did not run here. `allocator` is what the C library did with freed
    memory meanwhile. `unmatched_ms` is what kernels that nothing
    explains took. `overhead_ms` is what the profiled run spent outside its nodes (residual + distortion);
    it is below 0 where nodes overlap in time. `upload_ms` and `download_ms` are the copies between host and
    device, which are in none of the other figures.
    """

    backend: str
    artifact: str | None
    precision: str
    measured: bool
    network: str | None = None
    device: str | None = None
    allocator: Allocator | None = None
    why_not: str | None = None
    latency_ms: Latency | None = None
    layer_sum_ms: Amount | None = None
    layout_ms: Amount | None = None
    unmatched_ms: Amount | None = None
    residual_ms: Signed | None = None
    overhead_ms: Signed | None = None
    distortion_ms: Signed | None = None
    upload_ms: Amount | None = None
    download_ms: Amount | None = None
    memory: Memory = field(default_factory=Memory)
    coverage: Amount | None = None
    time_coverage: Amount | None = None
    profiled_runs: Count = 0
    version: str | None = None
    flags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """What it computes in, where that is not the CPU, and whether freed memory was kept."""
        device = None if self.device == "cpu" else self.device
        kept = "allocator keep" if self.allocator == "keep" else None
        return ", ".join(part for part in (self.precision, device, kept) if part)

    @property
    def static(self) -> bool:
        """Whether it was never to run here, so that only what is known without a run is told."""
        return self.why_not not in (None, UNREACHED)

    @property
    def timed(self) -> bool:
        """Whether the rows of this column have times."""
        return self.layer_sum_ms is not None


@dataclass(frozen=True, kw_only=True)
class CellMemory:
    """Weights and activations that one row's nodes hold; scratch memory where a runtime tells it."""

    weights_bytes: Count | None = None
    activation_bytes: Count | None = None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One row of one column. `match` is `removed` where the backend runs nothing for the modules.

    `below_ms` is what a row without a time took less than: its runtime counts in whole units.
    `macs` and `ideal_bytes` are those of the column's own network.
    """

    latency_ms: Amount | None = None
    below_ms: Amount | None = None
    share: Amount | None = None
    windows: tuple[Amount, ...] = ()
    memory: CellMemory = field(default_factory=CellMemory)
    nodes: tuple[str, ...] = ()
    ops: tuple[str, ...] = ()
    dtype: str | None = None
    match: Literal["name", "tensor", "metadata", "inferred", "removed"] | None = None
    macs: Count | None = None
    ideal_bytes: Count | None = None
    gflops: Amount | None = None
    gbytes_s: Amount | None = None
    attainable: Amount | None = None
    bound: Literal["compute", "memory"] | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the table, the same modules for every column; a figure is None where networks differ.

    `uncounted` says why the multiply-adds of a row are not known.
    """

    modules: tuple[str, ...]
    type: str
    output_shape: tuple[Count, ...] | None = None
    parameters: Count | None = None
    macs: Count | None = None
    uncounted: str | None = None
    ideal_bytes: Count | None = None
    saved_bytes: Count | None = None
    caused_by: str | None = None
    source: str | None = None
    cells: Mapping[str, Cell] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What the row is called in reports: its modules, or what moved data and for whom."""
        if self.modules:
            return one_line(JOIN.join(self.modules))
        ops = one_line(", ".join(dict.fromkeys(op for cell in self.cells.values() for op in cell.ops)))
        if self.type == "layout":
            return f"{ops or self.type} for {self.caused_by or 'the runtime'}"
        if self.type == "overhead":
            return "between the nodes"
        return f"{self.type} {ops}".strip()


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why one of a column's costliest rows costs what it does; `advice` is what to try, where anything is."""

    row: str
    latency_ms: Amount
    share: Amount | None = None
    why: str
    advice: str | None = None


@dataclass(frozen=True, kw_only=True)
class SkippedColumn:
    """A column that was asked for, or is there by default, and why it was not measured."""

    backend: str
    precision: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Run:
    """The profile at one batch size.

    `agreement` is each column's largest difference from the answers of the column that `reference`
    names, the first of its network, as a share of the largest of those; None where they are all 0, and in
    the JSON also where either's are no finite numbers (`findings` says which).
    `explanations` tell of each timed column why its costliest rows cost what they do.
    `yardstick` is the median milliseconds of fixed work that was timed in between (yardstick.py).
    """

    batch: Positive
    backends: Mapping[str, Column]
    rows: tuple[Row, ...]
    skipped: tuple[SkippedColumn, ...] = ()
    findings: tuple[str, ...] = ()
    explanations: Mapping[str, tuple[Explanation, ...]] = field(default_factory=dict)
    agreement: Mapping[str, Amount | None] = field(default_factory=dict)
    reference: Mapping[str, str] = field(default_factory=dict)
    yardstick: Mapping[str, Rate] = field(default_factory=dict)
    partial: bool = False

    def beside(self, key: str) -> dict[str, Column]:
        """Return the columns of a column's network, itself among them: only these can be held against it."""
        own = self.backends[key].network
        return {
            k: c for k, c in self.backends.items() if k == key or None in (own, c.network) or own == c.network
        }

    def networks(self) -> tuple[dict[str, Column], ...]:
        """Return the columns of each network, each column once."""
        found: list[dict[str, Column]] = []
        for key in self.backends:
            if not any(key in known for known in found):
                taken = {name for known in found for name in known}
                found.append({k: c for k, c in self.beside(key).items() if k not in taken})
        return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Everything one `cnnkit profile` found."""

    model: str
    device: str
    threads: Positive | None
    runs: tuple[Run, ...]
    partial: bool = False
    machine: MachineFacts = field(default_factory=MachineFacts)
    skipped: tuple[SkippedColumn, ...] = ()
    notes: tuple[str, ...] = ()
    created: str = ""
    schema: int = SCHEMA

    def require(self) -> Self:
        """Return the profile where no figure is red. Raises GateError, which says which are, and why."""
        columns = [pair for run in self.runs for pair in run.backends.items()]
        flags = [f"{key}: {flag}" for key, column in columns for flag in column.flags]
        if flags:
            raise GateError(f"--strict: {'; '.join(flags)}")
        return self

    def to_json(self) -> dict[str, Any]:
        """Return plain values; a row's cells stand beside its other keys, under their column's name.

        Numbers that JSON does not have (an agreement with NaN) are null.
        """
        data: dict[str, Any] = schema.plain(self)
        for run in data["runs"]:
            for row in run["rows"]:
                row.update(row.pop("cells"))
        return data

    def html(self) -> str:
        """Return the whole report as one page that opens offline."""
        from toolkit.profiling.reports.html import html_report

        return html_report(self)

    def _repr_html_(self) -> str:
        from toolkit.profiling.reports.notebook import profile_tables

        return profile_tables(self)

    @classmethod
    def from_json(cls, data: Any, *, what: str = "the profile") -> Profile:
        """Read a profile's JSON. Raises CorruptError in one line, with the path of what is wrong."""
        if isinstance(data, Mapping):
            if "schema" not in data:
                raise CorruptError(f"{what} is no profile of cnnkit: it lacks `schema`; {AGAIN}")
            if data["schema"] != SCHEMA:
                raise CorruptError(
                    f"{what} has schema {data['schema']!r}; this release reads {SCHEMA}: {AGAIN}"
                )
        found = schema.convert(cls, _with_cells(data), what=what, again=AGAIN, beside="cells")
        if not found.runs:
            raise CorruptError(f"{what} holds no run; {AGAIN}")
        return found

    @classmethod
    def read(cls, path: Path) -> Profile:
        """Read a file that `to_json` filled. Raises NotFoundError or CorruptError."""
        try:
            return cls.from_json(schema.read_json(path, again=AGAIN), what=str(path))
        except FileNotFoundError:
            raise NotFoundError(
                f"no file {path}; `cnnkit profile MODEL --output {path}` writes one"
            ) from None


def threads_text(threads: int | None) -> str:
    """Return how many threads there were, in words."""
    return str(threads) if threads else "each runtime's default"


def _with_cells(data: Any) -> Any:
    """Gather each row's cells under one key, as Row holds them; what has no rows is left to the schema."""

    def row(entry: Any, columns: Mapping[str, Any]) -> Any:
        if not isinstance(entry, Mapping):
            return entry
        own = {key: value for key, value in entry.items() if key not in columns}
        return {**own, "cells": {key: entry[key] for key in columns if key in entry}}

    def run(entry: Any) -> Any:
        match entry:
            case {"backends": Mapping() as columns, "rows": list(rows)}:
                return {**entry, "rows": [row(one, columns) for one in rows]}
        return entry

    match data:
        case {"runs": list(runs)}:
            return {**data, "runs": [run(one) for one in runs]}
    return data
