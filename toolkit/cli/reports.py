"""Files that a command is asked to write: refused before any work, or written whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import click

from toolkit.cli.parameters import Function
from toolkit.cli.printing import say
from toolkit.errors import CnnkitError
from toolkit.named_files import refuse_unwritable, write_named
from toolkit.presence import is_file


def _report(ending: str | None) -> Callable[[click.Context, click.Parameter, Path | None], Path | None]:
    def ask(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
        if path is None:
            return None
        if ending is not None and path.suffix.lower() != ending:
            kind = ending.removeprefix(".").upper()
            raise CnnkitError(f"{path} would be a {kind}; name it {path.with_suffix(ending).name}")
        refuse_unwritable(path)
        return path

    return ask


def report_option(word: str, text: str, *, ending: str | None = None) -> Callable[[Function], Function]:
    """Make the option of a file to write; what cannot be written is refused before any work (CnnkitError)."""
    kind = click.Path(path_type=Path, dir_okay=False)
    return click.option(word, type=kind, callback=_report(ending), help=text)


def refuse_overwriting(*reports: Path | None, read: Iterable[Path | str | None]) -> None:
    """Raise CnnkitError for a report in the place of what is read, or of another report.

    `read` may hold data sets as they are typed, such as csv:FILE.
    """
    if not any(reports):
        return
    named = [str(source) for source in read if source is not None]
    places = [Path(text) for name in named for text in (name, name.partition(":")[2]) if text]
    sources = {place.resolve() for place in places if is_file(place)}
    for path in (path for path in reports if path is not None):
        if path.resolve() in sources:
            raise CnnkitError(f"{path} is read here and would be overwritten: name another file")
        if sum(path.resolve() == other.resolve() for other in reports if other is not None) > 1:
            raise CnnkitError(f"{path} was named for two reports: name another file")


def write_report(path: Path, text: str, more: str = "") -> None:
    """Write a text that was asked for, whole or not at all, and say so; `more` is said behind its name."""
    # names of files may be bytes that are no text
    write_named(path, text.encode("utf-8", "backslashreplace"))
    say(f"wrote {path}{more}")
