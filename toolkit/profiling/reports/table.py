"""A profile on the terminal: one table for each batch size, then what each column adds up to."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import isfinite
from typing import get_args

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from toolkit.profiling.reports.texts import Detail, head_of, row_of, sums_of, title_of
from toolkit.profiling.result import Column, Profile, Run

# names of modules may be folded to this width before anything is left out
FOLDED = 20


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
            said = f"{key}: answers differ from {first}'s by {difference:.1e} of the largest one"
            console.print(said, markup=False)
        if run.findings:
            console.print("\n[bold]What stands out[/bold]")
            for finding in run.findings:
                console.print(f"  • {escape(finding)}")
    for entry in profile.skipped:
        console.print(f"skipped {entry.backend} ({entry.precision}): {entry.reason}", markup=False)
    for note in profile.notes:
        console.print(note, markup=False)
    if profile.partial:
        console.print("[bold]partial:[/bold] interrupted; what was complete is shown")


def _tables(profile: Profile, run: Run, console: Console) -> list[Table]:
    """Return the rows as one table with as much beside the times as fits; else times alone, in several."""
    keys = tuple(run.backends)
    for detail in get_args(Detail):
        table = _table(profile, run, keys, detail)
        if _needs(table, console) <= console.width:
            return [table]
    return _fitting(partial(_table, profile, detail="times"), keys, run, console)


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


def _table(profile: Profile, run: Run, keys: tuple[str, ...], detail: Detail) -> Table:
    table = Table(title=escape(title_of(profile, run)), title_justify="left", box=SIMPLE_HEAD)
    for name in head_of(run, keys, detail):
        words = name in ("module", "type")
        table.add_column(
            name,
            justify="left" if words else "right",
            overflow="fold" if words else "ellipsis",
            no_wrap=not words,
            min_width=8 if name == "type" else None,
        )
    for row in run.rows:
        texts = map(escape, row_of(row, run, keys, detail))
        table.add_row(*texts, style=None if row.modules else "dim")
    return table


def _sums(run: Run, keys: tuple[str, ...]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    table.add_column("")
    for key in keys:
        table.add_column(f"{key} ({run.backends[key].kind})", justify="right", no_wrap=True)
    for label, texts in sums_of([run.backends[key] for key in keys]).items():
        table.add_row(label, *map(escape, texts))
    return table


def _remarks(key: str, column: Column, console: Console) -> None:
    name = escape(key)
    if not column.measured:
        why = escape(column.why_not or "unknown")
        rest = "the layers' times are the file's" if column.timed else "layers, types and memory are static"
        console.print(f"[bold]{name}: latency was not measured:[/bold] {why}; {rest}")
    note = column.memory.why_null.get("note")
    if note:
        console.print(f"{name}: {escape(note)}")
    for flag in column.flags:
        console.print(f"[bold red]red:[/bold red] {name}: {escape(flag)}")
    for text in column.notes:
        console.print(f"{name}: {escape(text)}")
