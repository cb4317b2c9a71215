"""What a command prints: tables and progress for people, JSON for programs, errors in one line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from toolkit import schema
from toolkit.errors import CnnkitError
from toolkit.tables import TextTable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from toolkit.telling import Step


class _Aside(Console):
    """stderr: where nobody reads it any more, stdout stays as it is for those who read that."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        raise SystemExit(1)


stderr = _Aside(stderr=True, highlight=False)
stdout = Console(highlight=False)


def emit(payload: Any) -> None:
    """Print one JSON object on stdout, and nothing else there."""
    text = json.dumps(schema.plain(payload), ensure_ascii=False, allow_nan=False)
    # names of files may be bytes that are no text: written so, they are what JSON reads as those names again
    click.echo(text.encode("utf-8", "backslashreplace").decode())


def say(text: str) -> None:
    """Tell a person something on stderr, without markup."""
    stderr.print(text, markup=False, soft_wrap=True)


def progress() -> Progress:
    """Return a bar on stderr that vanishes when it is done; nothing where no person looks."""
    from rich.progress import Progress

    return Progress(console=stderr, transient=True, disable=not stderr.is_terminal)


def steps_on(progress: Progress) -> Step:
    """Return what shows each step of some work as a bar of its own."""
    tasks: dict[str, TaskID] = {}

    def show(what: str, done: int, of: int) -> None:
        if what not in tasks:
            tasks[what] = progress.add_task(what, total=of)
        progress.update(tasks[what], completed=done, total=of)

    return show


def print_table(table: Table) -> None:
    """Print a table on stdout; into a pipe or a file at its full width, since no screen bounds it."""
    if stdout.is_terminal:
        stdout.print(table)
        return
    wide = Console(highlight=False, width=10_000)
    wide.width = max(stdout.width, wide.measure(table).maximum)
    wide.print(table)


def as_rich(table: TextTable, **settings: Any) -> Table:
    """Return a table for the terminal, with rich.Table's settings; nothing in its texts is markup."""
    made = Table(
        title=escape(table.title) or None, title_justify="left", show_header=bool(table.head), **settings
    )
    names = len(table.head) - table.figures
    for index, heading in enumerate(table.head):
        figure = index >= names
        made.add_column(
            escape(heading), justify="right" if figure else "left", no_wrap=figure, overflow="fold"
        )
    for row in table.rows:
        made.add_row(*map(escape, row))
    if table.foot:
        made.add_section()
        made.add_row(*map(escape, table.foot))
    return made


def report_error(error: CnnkitError) -> int:
    """Print an expected failure in one line on stderr; return its exit status."""
    line = " ".join(str(error).split())
    stderr.print(f"error: {line}", markup=False, soft_wrap=True, style="bold red")
    return error.exit_status
