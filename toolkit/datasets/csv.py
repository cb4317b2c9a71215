"""`csv:FILE`: a table of picture files and labels, one row a picture.

The columns are found by their usual names, or named as `--columns image=FILE,label=KIND`, where `part` and
`group` may follow. Files are looked for from the table's folder on.
"""

from __future__ import annotations

import codecs
import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path

from toolkit.datasets import DatasetSpec
from toolkit.errors import CorruptError, NotFoundError
from toolkit.listings import PLAIN, LeftOut, Listing, Reading
from toolkit.listings.places import FileBytes
from toolkit.listings.tables import Roles, TableRow, find_roles, listing_of_rows

_TRIED = (".jpg", ".jpeg", ".png")  # endings that tables of names without one leave out
_SNIFFED = 1 << 16


def listing(name: str, reading: Reading = PLAIN) -> Listing:
    """List the pictures of a table. Raises NotFoundError, CorruptError for a table that cannot be read."""
    path = Path(name.removeprefix("csv:")).expanduser().resolve()
    if not path.is_file():
        raise NotFoundError(f"no file {path}; --dataset csv:FILE takes a table of file names and labels")
    table = _table(path)
    try:
        head = next(table)
    except (StopIteration, csv.Error):
        raise CorruptError(f"{path} holds no table; its first line names the columns") from None
    left_out: list[LeftOut] = []
    rows = _rows(path, table, head, find_roles(path, head, reading.columns), left_out)
    return listing_of_rows(f"csv:{path}", path, rows, left_out)


def _table(path: Path) -> Iterator[list[str]]:
    data = path.read_bytes()
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    try:
        dialect: type[csv.Dialect] = csv.Sniffer().sniff(text[:_SNIFFED].partition("\n")[0], ",;\t|")
    except csv.Error:
        dialect = csv.excel
    return csv.reader(io.StringIO(text, newline=""), dialect)


def _rows(
    path: Path, table: Iterator[list[str]], head: list[str], roles: Roles, left_out: list[LeftOut]
) -> Iterator[TableRow]:
    for number, cells in enumerate(table, 2):
        if not any(cells):
            continue
        if len(cells) != len(head):
            raise CorruptError(f"{path}, row {number}: {len(cells)} values for {len(head)} columns")
        given = dict(zip(head, cells, strict=True))
        typed = given[roles.image].strip()
        name, file = _file(path.parent, typed) or (typed, None)
        if file is None:
            left_out.append(LeftOut(name=typed or f"row {number}", why="no such file"))
            continue
        yield TableRow(
            name=name,
            place=FileBytes(file),
            label=given[roles.label].strip(),
            part=given[roles.part].strip() if roles.part else "",
            group=given[roles.group].strip() if roles.group else "",
        )


def _file(folder: Path, typed: str) -> tuple[str, Path] | None:
    """Return the file that a row names, with an ending that the table leaves out, and its one spelling."""
    if not typed or "\0" in typed:
        return None
    for spelled in dict.fromkeys((typed, typed.replace("\\", "/"))):  # Windows writes a\b
        name = os.path.normpath(spelled)
        for path in (folder / name, *(Path(f"{folder / name}{ending}") for ending in _TRIED)):
            if path.is_file():
                return name, path
    return None


DATASET = DatasetSpec(
    name="csv",
    shape=None,
    classes=None,
    summary="your own pictures, listed in a table",
    licence="yours",
    train_images=None,
    scheme="csv",
    example="csv:FILE",
    layout="a line for each file with its label",
    listing=listing,
    suits=lambda path: path.suffix.lower() in (".csv", ".tsv"),
)
