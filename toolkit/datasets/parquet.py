"""`parquet:FILE`: pictures in columns, as Hugging Face keeps them; FILE may be a pattern or a folder.

The image column holds a file's bytes (`{bytes, path}` or bytes alone) or its path from the table's folder on,
the label column numbers, whose names stand in the file's own description, or names. `train-…`, `validation-…`
and `test-…` are parts, as files or as folders of files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, Literal

from toolkit.datasets import DatasetSpec, typed_place
from toolkit.errors import CnnkitError, CorruptError, NotFoundError, needs_extra
from toolkit.listings import PLAIN, Listing, Place, Reading
from toolkit.listings.patterns import files_meant
from toolkit.listings.places import FileBytes
from toolkit.listings.tables import (
    Roles,
    TableRow,
    files_told,
    find_roles,
    insist_on_part,
    listing_of_rows,
    parts_of_files,
    present,
    told_apart,
)

_HELD = 4  # row groups in memory: neighbours are asked for together, by some threads


@dataclass(kw_only=True)
class _RowGroup:
    """One row group's pictures, read once however many threads ask for them."""

    path: Path
    number: int
    column: str
    lock: Lock = field(default_factory=Lock)
    cells: Any = None

    def cell(self, row: int) -> Any:
        import pyarrow.parquet

        with self.lock:
            if self.cells is None:
                with pyarrow.parquet.ParquetFile(self.path) as file:
                    self.cells = file.read_row_group(self.number, columns=[self.column]).column(0)
        return self.cells[row].as_py()


@lru_cache(maxsize=_HELD)
def _group(path: Path, changed_ns: int, number: int, column: str) -> _RowGroup:
    return _RowGroup(path=path, number=number, column=column)


# lru_cache itself lets two threads make what neither has found
_making = Lock()
# a process that is forked off would wait for ever for a lock that a thread of its parent held
os.register_at_fork(before=_making.acquire, after_in_parent=_making.release, after_in_child=_making.release)
os.register_at_fork(after_in_child=_group.cache_clear)


@dataclass(frozen=True)
class TableCell:
    """One picture of a Parquet file: a row of a row group, in one column."""

    path: Path
    group: int
    row: int
    column: str

    @property
    def within(self) -> str:
        """Which row of which group, and of which column; in the order of the file as text, too."""
        return f"{self.group:06}/{self.row:09}/{self.column}"

    def read(self) -> bytes:
        """Return the picture's file. Raises CorruptError where the row holds none."""
        changed_ns = self.path.stat().st_ctime_ns
        with _making:
            group = _group(self.path, changed_ns, self.group, self.column)
        value = group.cell(self.row)
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise CorruptError(
                f"row {self.row} of group {self.group} of {self.path} holds no bytes of a picture"
            )
        return data


def listing(name: str, reading: Reading = PLAIN) -> Listing:
    """List the rows. Raises NotFoundError, CorruptError for no Parquet file, MissingExtraError."""
    pattern = typed_place(name).absolute()
    files = _files(pattern)
    told, parts = files_told(files), parts_of_files(files)
    rows: list[TableRow] = []
    absolute: list[str] = []
    known: dict[str, None] = {}
    for path in files:
        with needs_extra("data"):
            import pyarrow
            import pyarrow.parquet
        try:
            with pyarrow.parquet.ParquetFile(path) as file:
                roles = find_roles(path, file.schema_arrow.names, reading.columns)
                if not roles.part:
                    insist_on_part(path, parts)
                classes = _class_names(file.schema_arrow.metadata or {}, roles.label)
                known |= dict.fromkeys(classes or ())
                before = f"{told[path]}/" if len(files) > 1 else ""
                rows += _rows(path, file, roles, classes, absolute=absolute, before=before, part=parts[path])
        except (OSError, pyarrow.ArrowException) as error:
            raise CorruptError(f"{path} is no Parquet file that can be read ({error})") from None
    if known:
        known |= dict.fromkeys(row.label for row in rows if row.label)
    return listing_of_rows(
        *(f"parquet:{pattern}", pattern, rows, []),
        classes=tuple(known) or None,
        files=files,
        absolute=absolute,
    )


def _files(pattern: Path) -> list[Path]:
    found = files_meant(pattern, ".parquet")
    if not found:
        raise NotFoundError(f"no file {pattern}; --dataset parquet:FILE takes one with pictures and labels")
    return found


def _class_names(metadata: dict[bytes, bytes], label: str) -> tuple[str, ...] | None:
    """Return the names of the classes from what Hugging Face notes of a file; None where it notes none."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return told_apart(str(name) for name in features[label]["names"])
    except (KeyError, TypeError, ValueError):
        return None


def _rows(
    path: Path,
    file: Any,
    roles: Roles,
    classes: tuple[str, ...] | None,
    *,
    absolute: list[str],
    before: str,
    part: str,
) -> Iterator[TableRow]:
    columns = [name for name in (roles.label, roles.part, roles.group) if name]
    holds = _holds(file, roles.image)
    if holds != "bytes":
        columns.append(roles.image if holds == "paths" else f"{roles.image}.path")
    met: set[str] = set()
    for number in range(file.num_row_groups):
        outside = holds == "paths" or (holds == "both" and _has_no_bytes(file, number, roles.image))
        for row, cells in enumerate(_cells(path, file.read_row_group(number, columns=columns), number)):
            given = cells.pop(roles.image, None)
            own = given.get("path") if isinstance(given, dict) else given
            place: Place = TableCell(path, number, row, roles.image)
            if outside and own:
                place = FileBytes(path.parent / own)
                if Path(own).is_absolute():
                    absolute.append(own)
            # rows of one path are pictures of their own, but where the path is all there is of them
            name = own if own and (outside or own not in met) else f"row {number}/{row}"
            met.add(name)
            yield TableRow(
                name=f"{before}{name}",
                place=place,
                label=_label(path, cells[roles.label], classes),
                part=roles.part_word(_text(cells[roles.part])) if roles.part else part,
                group=_text(cells[roles.group]) if roles.group else "",
            )


def _cells(path: Path, group: Any, number: int) -> Iterator[dict[str, Any]]:
    """Yield each row's cells by their columns, bytes as text. Raises CorruptError for what is no text."""
    names = group.column_names
    columns = [_values(path, column, name, number) for name, column in zip(names, group.columns, strict=True)]
    for row in zip(*columns, strict=True):
        yield dict(zip(names, row, strict=True))


def _values(path: Path, column: Any, name: str, number: int) -> list[Any]:
    try:
        return [_decoded(value) for value in column.to_pylist()]
    except UnicodeDecodeError:
        row = next(at for at, cell in enumerate(column) if not _is_text(cell))
    raise CorruptError(
        f"{path}: row {row} of group {number} holds bytes in the column {name!r} that are no text in UTF-8; "
        "save it so, or name another column with --columns"
    )


def _decoded(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _is_text(cell: Any) -> bool:
    try:
        _decoded(cell.as_py())
    except UnicodeDecodeError:
        return False
    return True


def _holds(file: Any, image: str) -> Literal["bytes", "paths", "both"]:
    """Tell what the column of pictures holds. Raises CorruptError for what is neither bytes nor paths."""
    from pyarrow import types

    kind = file.schema_arrow.field(image).type
    if types.is_struct(kind) and "bytes" in kind.names:
        return "both" if "path" in kind.names else "bytes"
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "paths"
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind):
        return "bytes"
    raise CorruptError(
        f"the column {image!r} holds {kind}; pictures are bytes, paths, or both as {{bytes, path}}: "
        "--columns image=NAME names another"
    )


def _has_no_bytes(file: Any, number: int, image: str) -> bool:
    """Tell whether all pictures of a row group lie in files beside the table, by its own statistics."""
    group = file.metadata.row_group(number)
    columns = (group.column(at) for at in range(group.num_columns))
    facts = next((one.statistics for one in columns if one.path_in_schema == f"{image}.bytes"), None)
    none = file.schema_arrow.field(image).type.field("bytes").type == "null"
    return none or bool(facts and facts.has_null_count and facts.null_count == group.num_rows)


def _text(value: Any) -> str:
    return "" if value is None else present(str(value))


def _label(path: Path, value: Any, classes: tuple[str, ...] | None) -> str:
    if isinstance(value, float) and value.is_integer():  # a column of whole numbers with gaps
        value = int(value)
    if isinstance(value, (list, dict)):
        raise CorruptError(f"{path} has labels such as {value!r:.60}; wanted is one class a picture")
    if classes is None or not isinstance(value, int):
        return _text(value)
    if value < 0:  # Hugging Face's -1 names no class
        return ""
    if value >= len(classes):
        raise CnnkitError(f"{path} names {len(classes)} classes, and a label is {value}")
    return classes[value]


DATASET = DatasetSpec(
    name="parquet",
    shape=None,
    classes=None,
    summary="your own pictures, in Parquet files as Hugging Face has them",
    licence="yours",
    train_images=None,
    scheme="parquet",
    example="parquet:FILE",
    layout="a column of pictures and one of labels",
    listing=listing,
    suits=lambda path: path.suffix.lower() == ".parquet",
)
