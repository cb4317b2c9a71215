"""`csv:FILE`: a table of picture files and labels, one row a picture.

The columns are found by their usual names, or named as `--columns image=FILE,label=KIND`, where `part` and
`group` may follow. Files are looked for from the table's folder on.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import itertools
import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from toolkit.datasets import DatasetSpec, typed_place
from toolkit.errors import CorruptError, NotFoundError
from toolkit.listings import PLAIN, LeftOut, Listing, Reading
from toolkit.listings.places import FileBytes
from toolkit.listings.tables import Roles, TableRow, find_roles, listing_of_rows, present

_TRIED = (".jpg", ".jpeg", ".png")  # endings that tables of names without one leave out
_SNIFFED, _LOOKED_AT = 1 << 16, 20
_MARKS = (
    *((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32")),
    *((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")),
)
_NO_TEXT = re.compile(r"[\0-\x08\x0e-\x1f]|^PK\x03")


def listing(name: str, reading: Reading = PLAIN) -> Listing:
    """List the pictures of a table. Raises NotFoundError, CorruptError for a table that cannot be read."""
    path = typed_place(name).resolve()
    if not path.is_file():
        raise NotFoundError(f"no file {path}; --dataset csv:FILE takes a table of file names and labels")
    table = _table(path)
    try:
        head = next(row for row in table if any(row) and not row[0].startswith("#"))
    except (StopIteration, csv.Error):
        raise CorruptError(f"{path} holds no table; its first line names the columns") from None
    if reading.columns is None and any(_file(path.parent, cell.strip()) for cell in head):
        raise CorruptError(
            f"{path}: the first line, {', '.join(head)}, is a picture's; it has to name the columns, as "
            "`file,label`"
        )
    left_out: list[LeftOut] = []
    absolute: list[str] = []
    roles = find_roles(path, head, reading.columns)
    rows = _rows(path, table, head, roles, left_out=left_out, absolute=absolute)
    return listing_of_rows(f"csv:{path}", path, rows, left_out, files=(path,), absolute=absolute)


def _table(path: Path) -> Iterator[list[str]]:
    text = _text(path)
    lines = text.splitlines(keepends=True)
    if lines and (told := re.fullmatch(r"sep=(.)\s*", lines[0])):  # a line that Excel writes and reads
        return csv.reader(io.StringIO("".join(lines[1:]), newline=""), delimiter=told[1])
    return csv.reader(io.StringIO(text, newline=""), _dialect(text[:_SNIFFED]))


def _text(path: Path) -> str:
    """Return a table's text in any usual encoding. Raises CorruptError for what is no text."""
    data = path.read_bytes()
    wide = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    if wide is None and b"\0" in data[:2]:  # of Latin letters one byte of two is none
        wide = "utf-16-be" if data[0] == 0 else "utf-16-le"
    text = _decoded(data, wide or "utf-8-sig")
    if _NO_TEXT.search(text[:_SNIFFED]):
        raise CorruptError(f"{path} is no text; save the table as CSV in UTF-8, with names of columns first")
    return text


def _decoded(data: bytes, likely: str) -> str:
    for encoding in (likely, "cp1252"):  # the second is what Windows calls ANSI
        with contextlib.suppress(UnicodeDecodeError):
            return data.decode(encoding)
    return data.decode("latin-1")  # reads any bytes


def _dialect(start: str) -> type[csv.Dialect]:
    """Return how a table's cells are parted: so that its first rows have most cells, and equally many."""
    quote = "'" if start.lstrip().startswith("'") else '"'
    best: tuple[int, type[csv.Dialect]] = (1, csv.excel)
    for mark in ",;\t|":
        chosen = type("chosen", (csv.excel,), {"delimiter": mark, "quotechar": quote})
        rows = list(itertools.islice(csv.reader(io.StringIO(start, newline=""), chosen), _LOOKED_AT))
        counts = {
            len(row) for row in rows[: max(1, len(rows) - 1)] if any(row) and not row[0].startswith("#")
        }
        if len(counts) == 1 and (count := counts.pop()) > best[0]:
            best = (count, chosen)
    return best[1]


def _rows(
    path: Path,
    table: Iterator[list[str]],
    head: list[str],
    roles: Roles,
    *,
    left_out: list[LeftOut],
    absolute: list[str],
) -> Iterator[TableRow]:
    for number, cells in enumerate(_read(path, table), 2):
        if not any(cells):
            continue
        if len(cells) != len(head):
            raise CorruptError(f"{path}, row {number}: {len(cells)} values for {len(head)} columns")
        given = dict(zip(head, cells, strict=True))
        typed = given[roles.image].strip()
        if Path(typed).is_absolute():  # also one that is not there: elsewhere it may be
            absolute.append(typed)
        name, file = _file(path.parent, typed) or (typed, None)
        if file is None:
            left_out.append(LeftOut(name=typed or f"row {number}", why="no such file"))
            continue
        yield TableRow(
            name=name,
            place=FileBytes(file),
            label=present(given[roles.label]),
            part=roles.part_word(present(given[roles.part])) if roles.part else "",
            group=present(given[roles.group]) if roles.group else "",
        )


def _read(path: Path, table: Iterator[list[str]]) -> Iterator[list[str]]:
    try:
        yield from table
    except csv.Error as error:
        raise CorruptError(f"{path} cannot be read as a table: {error}") from None


def _file(folder: Path, typed: str) -> tuple[str, Path] | None:
    """Return the file that a row names, with an ending that the table leaves out, and its one spelling."""
    if not typed or "\0" in typed:
        return None
    for spelled in dict.fromkeys(_spellings(typed)):
        name = os.path.normpath(spelled)
        for path in (folder / name, *(Path(f"{folder / name}{ending}") for ending in _TRIED)):
            with contextlib.suppress(OSError):  # raised for names that are too long
                if path.is_file():
                    return name, path
    return None


def _spellings(typed: str) -> Iterator[str]:
    """Yield how a file may be spelled: Windows writes a\\b, and macOS parts an accent from its letter."""
    for spelled in (typed, typed.replace("\\", "/")):
        yield spelled
        yield unicodedata.normalize("NFC", spelled)
        yield unicodedata.normalize("NFD", spelled)


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
