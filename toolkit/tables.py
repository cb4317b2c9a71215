"""A table as people read it: the same texts on the terminal and in a notebook."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.markup import html_table


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """Rows of plain texts under their headings, a title above; without headings the first column names rows.

    `foot` is a last row, of sums. The last `figures` columns hold numbers.
    """

    rows: tuple[tuple[str, ...], ...]
    head: tuple[str, ...] = ()
    foot: tuple[str, ...] = ()
    title: str = ""
    figures: int = 0

    def html(self) -> str:
        """Return the table for a notebook, every text escaped."""
        return html_table(self.head, (*self.rows, self.foot) if self.foot else self.rows, self.title)
