"""A profile on the terminal: one table for each batch size, then what each column adds up to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import zip_longest
from math import isfinite
from typing import get_args

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from toolkit.profiling.judging.explaining import marked, sentence
from toolkit.profiling.reports.selection import (
    Selected,
    Total,
    by_stage,
    by_type,
    fitted_name,
    selected,
    timed_keys,
)
from toolkit.profiling.reports.texts import (
    Detail,
    head_of,
    others_of,
    row_of,
    sums_of,
    title_of,
    total_of,
    totals_head,
)
from toolkit.profiling.result import Column, Profile, Run

# names of modules may be cut to this width before anything is left out
SHORTEST_NAME = 26
# totals are worth a table where they are much fewer than the rows; of more types the smallest are one line
FEWER, MOST_TOTALS = 2 / 3, 12


def print_profile(profile: Profile, console: Console, *, top: int | None = None) -> None:
    """Print every run, the costliest rows first: `top` of them, 20 of more than 30 where it is None.

    0 shows all of them in the network's order. Figures that were not measured are a dash.
    """
    for run in profile.runs:
        drawn = (
            *_tables(profile, run, selected(run, top), console),
            *_totals("by layer type", by_type(run, MOST_TOTALS), run, console),
            *_totals("by stage", by_stage(run), run, console),
            *_fitting(_sums, tuple(run.backends), run, console),
        )
        for table in drawn:
            console.print(table)
        for key, column in run.backends.items():
            _remarks(key, column, console)
        for key, difference in run.agreement.items():
            if difference is None or not isfinite(difference):
                continue  # a finding says so
            first = run.reference.get(key) or next(iter(run.backends))
            said = f"{key}: answers differ from {first}'s by {difference:.1e} of the largest one"
            console.print(said, markup=False)
        _explanations(run, console)
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


def _tables(profile: Profile, run: Run, shown: Selected, console: Console) -> list[Table]:
    """Return the rows as one table with as much beside the times as fits; else times alone, in several."""
    keys = tuple(run.backends)
    for detail in get_args(Detail):
        table = _table(profile, run, keys, console, shown=shown, detail=detail)
        if _needs(table, console) <= console.width:
            return [table]
    draw = partial(_table, profile, console=console, shown=shown, detail="times")
    return _fitting(draw, keys, run, console)


def _explanations(run: Run, console: Console) -> None:
    for key, told in run.explanations.items():
        if told:
            console.print(f"\n[bold]Why {escape(key)}'s costliest rows cost what they do[/bold]", end="")
            console.print(marked(run.backends[key]), markup=False)
            for entry in told:
                console.print(f"  • {sentence(entry)}", markup=False)


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
    """Return the least width at which no figure of a table is cut; only its first column may be."""
    unbounded = console.options.update(max_width=10_000)
    names = _names(table, console)
    return console.measure(table, options=unbounded).maximum - max(0, names - SHORTEST_NAME)


def _names(table: Table, console: Console) -> int:
    unbounded = console.options.update(max_width=10_000)
    cells = table.columns[0].cells
    return max((console.measure(cell, options=unbounded).maximum for cell in cells), default=0)


def _named(
    rows: Sequence[Sequence[str]], draw: Callable[[Sequence[Sequence[str]]], Table], console: Console
) -> Table:
    """Return a table whose names are cut in the middle where it is wider than the screen."""
    table = draw(rows)
    unbounded = console.options.update(max_width=10_000)
    over = console.measure(table, options=unbounded).maximum - console.width
    if over <= 0:
        return table
    width = max(SHORTEST_NAME, _names(table, console) - over)
    return draw([[fitted_name(texts[0], width), *texts[1:]] for texts in rows])


def _drawn(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "", styles: Sequence[str | None] = ()
) -> Table:
    table = Table(
        title=escape(title) or None,
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=0,
    )
    for place, name in enumerate(head):
        words = place == 0 or name == "type"
        table.add_column(
            name,
            justify="left" if words else "right",
            overflow="fold" if words else "ellipsis",
            no_wrap=not words,
            min_width=8 if name == "type" else None,
        )
    for texts, style in zip_longest(rows, styles):
        table.add_row(*map(escape, texts), style=style)
    return table


def _table(
    profile: Profile, run: Run, keys: tuple[str, ...], console: Console, *, shown: Selected, detail: Detail
) -> Table:
    rows = [row_of(row, run, keys, detail) for row in shown.rows]
    styles = [None if row.modules else "dim" for row in shown.rows]
    if shown.others is not None:
        rows, styles = [*rows, others_of(shown, run, keys, detail)], [*styles, "italic"]
    draw = partial(
        _drawn, head_of(run, keys, detail), title=title_of(profile, run, shown.order), styles=styles
    )
    return _named(rows, draw, console)


def _totals(title: str, found: Sequence[Total], run: Run, console: Console) -> list[Table]:
    """Return what types or stages sum to; nothing where they are nearly as many as the rows."""
    if len(found) > FEWER * len(run.rows) or not timed_keys(run):
        return []

    def draw(run: Run, keys: tuple[str, ...]) -> Table:
        rows = [total_of(total, keys) for total in found]
        return _named(rows, partial(_drawn, totals_head(title, keys)), console)

    return _fitting(draw, tuple(timed_keys(run)), run, console)


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
    if column.memory.note:
        console.print(f"{name}: {escape(column.memory.note)}")
    for flag in column.flags:
        console.print(f"[bold red]red:[/bold red] {name}: {escape(flag)}")
    for text in column.notes:
        console.print(f"{name}: {escape(text)}")
