"""`parquet:FILE`: pictures in columns, as Hugging Face keeps them; FILE may be a pattern or a folder.

The image column holds a file's bytes (`{bytes, path}` or bytes alone), the label column numbers, whose names
stand in the file's own description, or names. `train-…`, `validation-…` and `test-…` are parts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from toolkit.datasets import DatasetSpec
from toolkit.errors import CnnkitError, CorruptError, NotFoundError, needs_extra
from toolkit.listings import PLAIN, LeftOut, Listing, Reading
from toolkit.listings.parts import part_of_word
from toolkit.listings.tables import Roles, TableRow, find_roles, listing_of_rows


@lru_cache(maxsize=8)
def _group(path: Path, number: int, column: str) -> Any:
    """Return one row group's pictures; the last few are kept, for neighbours are asked for together."""
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        return file.read_row_group(number, columns=[column]).column(0)


@dataclass(frozen=True)
class TableCell:
    """One picture of a Parquet file: a row of a row group, in one column."""

    path: Path
    group: int
    row: int
    column: str

    @property
    def within(self) -> str:
        """Which row of which group; in the order of the file as text, too."""
        return f"{self.group:06}/{self.row:09}"

    def read(self) -> bytes:
        """Return the picture's file. Raises CorruptError where the row holds none."""
        value = _group(self.path, self.group, self.column)[self.row].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise CorruptError(
                f"row {self.row} of group {self.group} of {self.path} holds no bytes of a picture"
            )
        return data


def listing(name: str, reading: Reading = PLAIN) -> Listing:
    """List the rows. Raises NotFoundError, CorruptError for no Parquet file, MissingExtraError."""
    pattern = Path(name.removeprefix("parquet:")).expanduser().absolute()
    files = _files(pattern)
    left_out: list[LeftOut] = []
    rows: list[TableRow] = []
    classes: tuple[str, ...] | None = None
    for path in files:
        with needs_extra("data"):
            import pyarrow
            import pyarrow.parquet
        try:
            with pyarrow.parquet.ParquetFile(path) as file:
                roles = find_roles(path, file.schema_arrow.names, reading.columns)
                classes = _class_names(file.schema_arrow.metadata or {}, roles.label) or classes
                rows += _rows(path, file, roles, classes, several=len(files) > 1)
        except (OSError, pyarrow.ArrowException) as error:
            raise CorruptError(f"{path} is no Parquet file that can be read ({error})") from None
    return listing_of_rows(f"parquet:{pattern}", pattern, rows, left_out, classes=classes)


def _files(pattern: Path) -> list[Path]:
    if pattern.is_dir():
        found = sorted(pattern.rglob("*.parquet"))
    else:
        found = [pattern] if pattern.is_file() else sorted(Path("/").glob(str(pattern).lstrip("/")))
    if not found:
        raise NotFoundError(f"no file {pattern}; --dataset parquet:FILE takes one with pictures and labels")
    return found


def _class_names(metadata: dict[bytes, bytes], label: str) -> tuple[str, ...] | None:
    """Return the names of the classes from what Hugging Face notes of a file; None where it notes none."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return tuple(str(name) for name in features[label]["names"])
    except (KeyError, TypeError, ValueError):
        return None


def _rows(
    path: Path, file: Any, roles: Roles, classes: tuple[str, ...] | None, *, several: bool
) -> Iterator[TableRow]:
    part = part_of_word(re.sub(r"[-_]?\d+(-of-\d+)?", "", path.stem)) or ""
    columns = [name for name in (roles.label, roles.part, roles.group) if name]
    kind = file.schema_arrow.field(roles.image).type
    named = hasattr(kind, "names") and "path" in kind.names
    if named:
        columns.append(f"{roles.image}.path")
    for number in range(file.num_row_groups):
        for row, cells in enumerate(file.read_row_group(number, columns=columns).to_pylist()):
            given = cells.pop(roles.image, None) or {}
            own = given.get("path") or f"row {number}/{row}"
            yield TableRow(
                name=f"{path.name}/{own}" if several else own,
                place=TableCell(path, number, row, roles.image),
                label=_label(path, cells[roles.label], classes),
                part=str(cells[roles.part] or "") if roles.part else part,
                group=str(cells[roles.group] or "") if roles.group else "",
            )


def _label(path: Path, value: Any, classes: tuple[str, ...] | None) -> str:
    if value is None or (isinstance(value, int) and value < 0):  # -1 stands for none
        return ""
    if classes is None or not isinstance(value, int):
        return str(value)
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
