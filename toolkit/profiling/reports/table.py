"""A profile on the terminal: one table for each batch size, then what each column adds up to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import isfinite

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from toolkit.figures import bytes_text, count_text, ms_text, percent_text, shape_text
from toolkit.profiling.result import Cell, Column, Profile, Row, Run


def print_profile(profile: Profile, console: Console) -> None:
    """Print every run; figures that were not measured are a dash."""
    for run in profile.runs:
        for table in (*_tables(profile, run, console), *_fitting(_sums, tuple(run.backends), run, console)):
            console.print(table)
        for key, column in run.backends.items():
            _remarks(key, column, console)
        for key, difference in run.agreement.items():
            if difference is None or not isfinite(difference):
                continue  # a finding says so
            first = run.reference.get(key) or next(iter(run.backends))
            console.print(f"{key}: answers differ from {first}'s by {difference:.1e} of the largest one")
        if run.findings:
            console.print("\n[bold]What stands out[/bold]")
            for finding in run.findings:
                console.print(f"  • {escape(finding)}")
    for entry in profile.skipped:
        console.print(f"skipped {entry['backend']} ({entry['precision']}): {entry['reason']}", markup=False)
    for note in profile.notes:
        console.print(note, markup=False)
    if profile.partial:
        console.print("[bold]partial:[/bold] interrupted; what was complete is shown")


# what stands beside a column's times, from the most to the least; the first that fits the screen is taken
DETAILS = ("all", "memory", "times")
# names of modules may be folded to this width before anything is left out
FOLDED = 20


def _tables(profile: Profile, run: Run, console: Console) -> list[Table]:
    """Return the rows as one table with as much beside the times as fits; else times alone, in several."""
    keys = tuple(run.backends)
    for detail in DETAILS:
        table = _table(profile, run, keys, detail)
        if _needs(table, console) <= console.width:
            return [table]
    return _fitting(partial(_table, profile, detail=DETAILS[-1]), keys, run, console)


def _fitting(draw: Callable[..., Table], keys: tuple[str, ...], run: Run, console: Console) -> list[Table]:
    """Draw columns side by side, as many in each table as fit the screen."""
    tables: list[Table] = []
    while keys:
        count = len(keys)
        while count > 1 and _needs(draw(run=run, keys=keys[:count]), console) > console.width:
            count -= 1
        tables.append(draw(run=run, keys=keys[:count]))
        keys = keys[count:]
    return tables


def _needs(table: Table, console: Console) -> int:
    """Return the least width at which no figure of a table is cut; only its first column may fold."""
    unbounded = console.options.update(max_width=10_000)
    labels = table.columns[0].cells
    names = max((console.measure(cell, options=unbounded).maximum for cell in labels), default=0)
    return console.measure(table, options=unbounded).maximum - max(0, names - FOLDED)


def _table(profile: Profile, run: Run, keys: tuple[str, ...], detail: str) -> Table:
    threads = profile.threads or "default"
    title = f"{profile.model}, batch {run.batch}, {profile.device}, threads: {threads}"
    table = Table(title=title + (" (partial)" if run.partial else ""), title_justify="left", box=SIMPLE_HEAD)
    table.add_column("module", overflow="fold")
    if detail == "all":
        table.add_column("type", overflow="fold", min_width=8)
        table.add_column("output", justify="right", no_wrap=True)
        table.add_column("MACs", justify="right", no_wrap=True)
    for key in keys:
        figures = run.backends[key].timed or run.backends[key].measured
        table.add_column(f"{key}\n{'ms' if figures else 'dtype'}", justify="right", no_wrap=True)
        if detail == "all":
            table.add_column("\n%" if figures else "\nlayers", justify="right", no_wrap=True)
        if detail != "times":
            memory = "\nweights + activations" if detail == "all" else "\nmemory"
            table.add_column(memory, justify="right", no_wrap=True)
    for row in run.rows:
        table.add_row(*_cells(row, run, keys, detail), style=None if row.modules else "dim")
    return table


def _cells(row: Row, run: Run, keys: tuple[str, ...], detail: str) -> list[str]:
    cells = [escape(_name(row))]
    if detail == "all":
        kind = row.type if row.modules else ""
        cells += [
            escape(kind),
            shape_text(row.output_shape) if kind else "",
            count_text(row.macs) if kind else "",
        ]
    for key in keys:
        column, cell = run.backends[key], row.cells.get(key, Cell())
        if not (column.timed or column.measured):
            figures = [cell.dtype or "–", str(len(cell.nodes)) if cell.nodes else "–"]
        elif cell.match == "removed":
            figures = ["none", ""]
        else:
            figures = [ms_text(cell.latency_ms), percent_text(cell.share)]
        cells += figures if detail == "all" else figures[:1]
        if detail != "times":
            cells.append(_memory(cell, wide=detail == "all"))
    return cells


def _name(row: Row) -> str:
    if row.type == "layout":
        return f"  ↳ {row.label}"
    return row.label


def _memory(cell: Cell, *, wide: bool) -> str:
    weights, activations = cell.memory.weights_bytes, cell.memory.activation_bytes
    if not cell.nodes or (weights is None and activations is None):
        return "–"
    if not wide:
        return bytes_text(None if weights is None or activations is None else weights + activations)
    return f"{bytes_text(weights)} + {bytes_text(activations)}"


def _sums(run: Run, keys: tuple[str, ...]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    table.add_column("")
    for key in keys:
        table.add_column(f"{key} ({run.backends[key].kind})", justify="right", no_wrap=True)
    for label, values in _lines([run.backends[key] for key in keys]).items():
        table.add_row(label, *values)
    return table


def _lines(columns: Sequence[Column]) -> dict[str, list[str]]:
    copied = any(c.upload_ms is not None for c in columns)
    copies = {"copies to · from the device ms": [_copies(c) for c in columns]} if copied else {}
    strange = any(c.unmatched_ms for c in columns)
    unmatched = {"+ unmatched": [ms_text(c.unmatched_ms) for c in columns]} if strange else {}
    return {
        "end to end, median ms": [
            ms_text(c.latency_ms.median) if c.latency_ms else "not measured" for c in columns
        ],
        "p90 · p99 ms": [_tail(c) for c in columns],
        "first call ms": [ms_text(c.latency_ms.first_call_ms) if c.latency_ms else "–" for c in columns],
        "spread of windows": [percent_text(c.latency_ms.spread) if c.latency_ms else "–" for c in columns],
        "= layers": [ms_text(c.layer_sum_ms) for c in columns],
        "+ layout": [ms_text(c.layout_ms) for c in columns],
        **unmatched,
        "+ residual": [ms_text(c.residual_ms, signed=True) for c in columns],
        "distortion by profiling": [ms_text(c.distortion_ms, signed=True) for c in columns],
        **copies,
        "weights": [bytes_text(c.memory.weights_bytes) for c in columns],
        "peak activations": [bytes_text(c.memory.peak_activation_bytes) for c in columns],
        "  predicted from shapes": [bytes_text(c.memory.predicted_peak_activation_bytes) for c in columns],
        "  set by": [escape(c.memory.peak_module or "–") for c in columns],
        "workspace": [bytes_text(c.memory.workspace_bytes) for c in columns],
        "whole process, peak": [bytes_text(c.memory.process_peak_bytes) for c in columns],
        "coverage, nodes · time": [
            f"{percent_text(c.coverage)} · {percent_text(c.time_coverage)}" for c in columns
        ],
        "runs, clean · profiled": [
            f"{c.latency_ms.runs if c.latency_ms else 0} · {c.profiled_runs}" for c in columns
        ],
    }


def _tail(column: Column) -> str:
    latency = column.latency_ms
    return f"{ms_text(latency.p90)} · {ms_text(latency.p99)}" if latency else "–"


def _copies(column: Column) -> str:
    return f"{ms_text(column.upload_ms)} · {ms_text(column.download_ms)}"


def _remarks(key: str, column: Column, console: Console) -> None:
    if not column.measured:
        why = escape(column.why_not or "unknown")
        rest = "the layers' times are the file's" if column.timed else "layers, types and memory are static"
        console.print(f"[bold]{key}: latency was not measured:[/bold] {why}; {rest}")
    note = column.memory.why_null.get("note")
    if note:
        console.print(f"{key}: {escape(note)}")
    for flag in column.flags:
        console.print(f"[bold red]red:[/bold red] {key}: {escape(flag)}")
    for text in column.notes:
        console.print(f"{key}: {escape(text)}")
