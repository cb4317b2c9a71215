"""`tar:PATTERN`: shards as WebDataset has them, `train-{000..012}.tar`, `*.tar` or a folder, not compressed.

A picture and its label lie beside each other under one name, `0001.jpg` and `0001.cls`; without labels the
folders inside are the classes, and folders above them may be parts. `classes.txt` beside the shards names the
classes that numbers stand for.
"""

from __future__ import annotations

import itertools
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from msgspec import Struct, field

from toolkit.datasets import DatasetSpec
from toolkit.errors import CnnkitError, CorruptError, NotFoundError
from toolkit.listings import PLAIN, LeftOut, Listing, Reading
from toolkit.listings.kept import of_file
from toolkit.listings.looking import is_leftover, is_picture_name
from toolkit.listings.parts import part_of_word
from toolkit.listings.places import FileBytes
from toolkit.listings.tables import TableRow, files_told, listing_of_rows, parts_of_files

_BRACES = re.compile(r"\{([^{}]+)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_ZEROS = bytes(512)  # a block of a tar file behind its last member
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
    told, parts = files_told(shards), parts_of_files(shards)
    left_out: list[LeftOut] = []
    rows: list[TableRow] = []
    for shard in shards:
        before = f"{told[shard]}/" if len(shards) > 1 else ""
        rows += _rows(shard, left_out, before, parts[shard])
    if not all(row.part for row in rows):
        rows = _inside(rows)
    classes = _names(shards[0].parent, rows)
    if classes is not None:
        rows = [replace(row, label=classes[int(row.label)]) for row in rows]
    return listing_of_rows(f"tar:{pattern}", pattern, rows, left_out, classes=classes)


def _shards(pattern: Path) -> list[Path]:
    """Return the files that a pattern means, in its order. Raises NotFoundError for one that is not there."""
    found: list[Path] = []
    for chosen in itertools.product(*map(_choices, _BRACES.findall(str(pattern)))):
        pieces = itertools.zip_longest(_BRACES.split(str(pattern))[::2], chosen, fillvalue="")
        text = "".join(itertools.chain.from_iterable(pieces))
        path = Path(text)
        if path.is_dir():
            matching = sorted(path.rglob("*.tar"))
        else:
            matching = [path] if path.is_file() else sorted(Path("/").glob(text.lstrip("/")))
        found += matching
        if not matching:
            raise NotFoundError(
                f"no file {text}; --dataset tar:PATTERN takes shards, as train-{{000..012}}.tar"
            )
    return found


def _choices(braces: str) -> list[str]:
    """Return what stands for braces: numbers of a range (`000..012`), or what commas part."""
    ends = _RANGE.fullmatch(braces)
    if ends is None:
        return braces.split(",")
    first, last = map(int, ends.groups())
    step = 1 if first <= last else -1
    return [f"{number:0{len(ends[1])}}" for number in range(first, last + step, step)]


def _rows(shard: Path, left_out: list[LeftOut], before: str, part: str) -> Iterator[TableRow]:
    found = of_file(shard, "tar 2", _Shard, lambda: _look_into(shard))
    left_out += [LeftOut(name=f"{shard.name}/{name}", why=why) for name, why in found.left_out]
    for sample in found.samples:
        if sample.offset is None:
            continue
        place = FileBytes(shard, sample.offset, sample.length)
        yield TableRow(name=f"{before}{sample.name}", place=place, label=sample.label, part=part)


def _inside(rows: list[TableRow]) -> list[TableRow]:
    """Return rows in the parts that folders inside the shards name, if every picture lies in such a one."""
    words = [next(filter(part_of_word, PurePosixPath(row.name).parts[:-1]), "") for row in rows]
    return [replace(row, part=word) for row, word in zip(rows, words, strict=True)] if all(words) else rows


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
            _insist_on_end(shard, file.offset)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise CorruptError(
            f"{shard} is no tar file whose pictures can be reached ({error}); unpack compressed ones first"
        ) from None
    return _Shard(samples=list(found.values()), left_out=left_out)


def _insist_on_end(shard: Path, offset: int) -> None:
    """Raise TarError where a shard's members end before the shard does: `tarfile` stops at a bad header."""
    with shard.open("rb") as file:
        file.seek(offset)
        if file.read(len(_ZEROS)).strip(b"\0"):
            raise tarfile.ReadError(f"what lies {offset:,} bytes from its start is no member")


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
        return None
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
