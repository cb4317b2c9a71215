"""What a command prints: tables and progress for people, JSON for programs, errors in one line."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

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


# in a command's context: stdout itself, while all but `emit` prints elsewhere
_STDOUT = "cnnkit.stdout"

stderr = _Aside(stderr=True, highlight=False)
stdout = Console(highlight=False)


def emit(payload: Any) -> None:
    """Print one JSON object on stdout, and nothing else there."""
    text = json.dumps(schema.plain(payload), ensure_ascii=False, allow_nan=False)
    context = click.get_current_context(silent=True)
    # names of files may be bytes that are no text: written so, they are what JSON reads as those names again
    printed = text.encode("utf-8", "backslashreplace").decode()
    click.echo(printed, file=context.meta.get(_STDOUT) if context else None)


@contextlib.contextmanager
def json_alone(context: click.Context) -> Iterator[None]:
    """Keep stdout for `emit`: what else prints there goes to stderr, as a file of one's own networks may."""
    with _parted() if _writes_to(sys.stdout, 1) and _writes_to(sys.stderr, 2) else _swapped() as own:
        context.meta[_STDOUT] = own
        try:
            yield
        finally:
            del context.meta[_STDOUT]


def _writes_to(stream: IO[str] | None, descriptor: int) -> bool:
    with contextlib.suppress(OSError, AttributeError):  # none, or one that is in memory
        return stream is not None and stream.fileno() == descriptor
    return False


@contextlib.contextmanager
def _parted() -> Iterator[IO[str]]:
    """Yield stdout, while its descriptor is stderr's for all others: native code and children, too."""
    before = sys.stdout
    before.flush()
    own = os.fdopen(os.dup(1), "w", encoding=before.encoding, errors=before.errors)
    os.dup2(2, 1)
    try:
        yield own
    finally:
        with contextlib.suppress(OSError):  # nobody reads stderr any more
            before.flush()
        os.dup2(own.fileno(), 1)
        with contextlib.suppress(OSError):  # emit has raised that
            own.close()


@contextlib.contextmanager
def _swapped() -> Iterator[IO[str] | None]:
    """Yield a stdout that is no descriptor of this process's own, while Python prints on stderr."""
    before = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        yield before


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
