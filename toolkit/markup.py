"""HTML by hand: escaped text, lists and tables of it."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence


class Html(str):
    """Text that is HTML already."""


def escaped(text: object) -> str:
    """Return text as it may stand in HTML, in an attribute too; what is HTML already stays as it is."""
    return text if isinstance(text, Html) else html.escape(str(text), quote=True)


def listed(items: Iterable[object]) -> str:
    """Return texts as a list; nothing where there are none."""
    entries = "".join(f"<li>{escaped(item)}</li>" for item in items)
    return f"<ul>{entries}</ul>" if entries else ""


def heading_row(names: Iterable[object]) -> str:
    """Return a table's head of escaped names."""
    cells = "".join(f"<th scope='col'>{escaped(name)}</th>" for name in names)
    return f"<thead><tr>{cells}</tr></thead>"


def html_table(head: Sequence[object], rows: Iterable[Sequence[object]], title: object = "") -> str:
    """Return a small table for a notebook: no style sheet, no script, every text escaped."""
    body = "".join(f"<tr>{''.join(f'<td>{escaped(cell)}</td>' for cell in row)}</tr>" for row in rows)
    above = f"<caption>{escaped(title)}</caption>" if title else ""
    return f"<table>{above}{heading_row(head) if head else ''}<tbody>{body}</tbody></table>"


def number_cell(value: float | None, text: str, *, title: str = "") -> str:
    """Return a table's cell that sorts by the number behind its text."""
    shown = f" title='{escaped(title)}'" if title else ""
    return f"<td class='n' data-v='{'' if value is None else value}'{shown}>{escaped(text)}</td>"
