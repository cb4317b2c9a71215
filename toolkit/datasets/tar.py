"""`tar:PATTERN`: shards as WebDataset has them, `train-{000..012}.tar` or `*.tar`, not compressed.

A picture and its label lie beside each other under one name, `0001.jpg` and `0001.cls`; without labels the
folders inside are the classes. `classes.txt` beside the shards names the classes that numbers stand for.
"""

from __future__ import annotations

import itertools
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from msgspec import Struct, field

from toolkit.datasets import DatasetSpec
from toolkit.errors import CnnkitError, CorruptError, NotFoundError
from toolkit.listings import PLAIN, LeftOut, Listing, Reading
from toolkit.listings.kept import of_file
from toolkit.listings.looking import is_leftover, is_picture_name
from toolkit.listings.parts import part_of_word
from toolkit.listings.places import FileBytes
from toolkit.listings.tables import TableRow, listing_of_rows

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_LABELS = (".cls", ".label", ".txt", ".json")
_MOST_LABEL_BYTES = 1 << 20
_KEYS = ("label", "cls", "class", "class_name", "category")


class _Sample(Struct, kw_only=True):
    """What lies in a shard under one name: `offset` and `length` are the picture's, None without one."""

    name: str
    offset: int | None = None
    length: int = 0
    labels: dict[str, str] = field(default_factory=dict)
    folder: str = ""

    @property
    def label(self) -> str:
        return next((self.labels[ending] for ending in _LABELS if ending in self.labels), self.folder)


class _Shard(Struct, kw_only=True):
    """What a shard holds, and what of it was left out: name and reason."""

    samples: list[_Sample]
    left_out: list[tuple[str, str]]


def listing(name: str, reading: Reading = PLAIN) -> Listing:
    """List the pictures of shards. Raises NotFoundError, CorruptError for a shard that is damaged."""
    pattern = Path(name.removeprefix("tar:")).expanduser().absolute()
    shards = _shards(pattern)
    left_out: list[LeftOut] = []
    several = len(shards) > 1
    rows = [row for shard in shards for row in _rows(shard, left_out, several=several)]
    classes = _names(shards[0].parent, rows)
    if classes is not None:
        rows = [TableRow(**{**vars(row), "label": classes[int(row.label)]}) for row in rows]
    return listing_of_rows(f"tar:{pattern}", pattern, rows, left_out, classes=classes)


def _shards(pattern: Path) -> list[Path]:
    """Return the files that a pattern means, in its order. Raises NotFoundError for one that is not there."""
    ranges = [
        [f"{number:0{len(first)}}" for number in range(int(first), int(last) + 1)]
        for first, last in _RANGE.findall(str(pattern))
    ]
    parts = _RANGE.split(str(pattern))[::3]
    found: list[Path] = []
    for numbers in itertools.product(*ranges):
        text = parts[0] + "".join(n + part for n, part in zip(numbers, parts[1:], strict=True))
        matching = [Path(text)] if Path(text).is_file() else sorted(Path("/").glob(text.lstrip("/")))
        found += matching
        if not matching:
            raise NotFoundError(
                f"no file {text}; --dataset tar:PATTERN takes shards, as train-{{000..012}}.tar"
            )
    return found


def _rows(shard: Path, left_out: list[LeftOut], *, several: bool) -> Iterator[TableRow]:
    part = part_of_word(re.sub(r"\d+", "", shard.stem)) or ""
    found = of_file(shard, "tar 1", _Shard, lambda: _look_into(shard))
    left_out += [LeftOut(name=f"{shard.name}/{name}", why=why) for name, why in found.left_out]
    for sample in found.samples:
        if sample.offset is None:
            continue
        name = f"{shard.name}/{sample.name}" if several else sample.name
        place = FileBytes(shard, sample.offset, sample.length)
        yield TableRow(name=name, place=place, label=sample.label, part=part)


def _look_into(shard: Path) -> _Shard:
    """Read the headers of a shard, and its labels. Raises CorruptError."""
    found: dict[str, _Sample] = {}
    left_out: list[tuple[str, str]] = []
    try:
        with tarfile.open(shard, "r:") as file:
            for member in file:
                why = _take(file, member, found)
                if why:
                    left_out.append((member.name, why))
    except (tarfile.TarError, EOFError, OSError) as error:
        raise CorruptError(
            f"{shard} is no tar file whose pictures can be reached ({error}); unpack compressed ones first"
        ) from None
    return _Shard(samples=list(found.values()), left_out=left_out)


def _take(file: tarfile.TarFile, member: tarfile.TarInfo, found: dict[str, _Sample]) -> str | None:
    """Add what a member is to its sample; say why, where it is left out."""
    path = PurePosixPath(member.name)
    if not member.isfile() or any(is_leftover(one) for one in path.parts if one != "."):
        return None
    stem, dot, ending = path.name.partition(".")
    key = str(path.parent / stem)
    sample = found.setdefault(key, _Sample(name=member.name, folder=path.parent.name))
    last = f"{dot}{ending.rpartition('.')[2]}".lower()
    if is_picture_name(path.name):
        if sample.offset is not None:
            return "a second picture of one name"
        sample.name, sample.offset, sample.length = member.name, member.offset_data, member.size
    elif last in _LABELS and member.size <= _MOST_LABEL_BYTES:
        inside = file.extractfile(member)
        assert inside is not None  # it is a file
        label = _label(last, inside.read())
        if label:
            sample.labels[last] = label
    else:
        return "no picture and no label"
    return None


def _label(ending: str, data: bytes) -> str:
    text = data.decode("utf-8", "replace").strip()
    if ending != ".json":
        return text
    try:
        told = json.loads(text)
    except ValueError:
        return ""
    value = next((told[key] for key in _KEYS if key in told), "") if isinstance(told, dict) else told
    return str(value)


def _names(folder: Path, rows: list[TableRow]) -> tuple[str, ...] | None:
    """Return the classes that numbers stand for; None where labels are names, or no file names them.

    Raises CnnkitError for a number without a name.
    """
    file = next((one for one in (folder / "classes.txt", folder / "labels.txt") if one.is_file()), None)
    numbers = {row.label for row in rows}
    if file is None or not all(number.isdecimal() for number in numbers):
        numeric = bool(numbers) and all(number.isdecimal() for number in numbers)
        return tuple(str(n) for n in range(max(map(int, numbers)) + 1)) if numeric else None
    names = tuple(line.strip() for line in file.read_text("utf-8").splitlines() if line.strip())
    if max(map(int, numbers)) >= len(names):
        raise CnnkitError(f"{file} names {len(names)} classes, and a label is {max(map(int, numbers))}")
    return names


DATASET = DatasetSpec(
    name="tar",
    shape=None,
    classes=None,
    summary="your own pictures, in WebDataset's shards",
    licence="yours",
    train_images=None,
    scheme="tar",
    example="tar:PATTERN",
    layout="0001.jpg with 0001.cls, or <class>/*.jpg",
    listing=listing,
    suits=lambda path: path.suffix.lower() == ".tar",
)
