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
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from pathlib import Path, PurePosixPath

from msgspec import Struct, field

from toolkit.datasets import DatasetSpec
from toolkit.datasets._levels import typed_levels
from toolkit.errors import CnnkitError, CorruptError, NotFoundError
from toolkit.listings import PLAIN, LeftOut, Listing, Reading
from toolkit.listings.kept import of_file
from toolkit.listings.looking import is_leftover, is_picture_name
from toolkit.listings.parts import part_of_word
from toolkit.listings.places import FileBytes
from toolkit.listings.tables import (
    TableRow,
    files_told,
    insist_on_part,
    listing_of_rows,
    parts_of_files,
    present,
)

_BRACES = re.compile(r"\{([^{}]+)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_ZEROS = bytes(512)  # a block of a tar file behind its last member
_LABELS = (".cls", ".label", ".txt", ".json")
_MOST_LABEL_BYTES = 1 << 20
_KEYS = ("label", "cls", "class", "class_name", "category")


class _Sample(Struct, kw_only=True):
    """A picture of a shard with the labels that lie beside it; `offset` and `length` say where it is."""

    name: str
    offset: int
    length: int
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
    levels = typed_levels(reading.columns) if reading.columns else None
    left_out: list[LeftOut] = []
    rows: list[TableRow] = []
    for shard in shards:
        if not levels or "part" not in levels:
            insist_on_part(shard, parts)
        before = f"{told[shard]}/" if len(shards) > 1 else ""
        rows += _rows(shard, left_out, before, parts[shard], levels)
    if not levels:
        _insist_on_one_level(pattern, rows)
    if not all(row.part for row in rows):
        rows = _inside(rows)
    classes = _names(shards[0].parent, rows)
    if classes is not None:
        rows = [replace(row, label=classes[int(row.label)] if row.label.isdecimal() else "") for row in rows]
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


def _rows(
    shard: Path, left_out: list[LeftOut], before: str, part: str, levels: dict[str, int] | None
) -> Iterator[TableRow]:
    found = of_file(shard, "tar 3", _Shard, lambda: _look_into(shard))
    left_out += [LeftOut(name=f"{shard.name}/{name}", why=why) for name, why in found.left_out]
    for sample in found.samples:
        row = TableRow(
            name=f"{before}{sample.name}",
            place=FileBytes(shard, sample.offset, sample.length),
            label=sample.label,
            part=part,
        )
        folders = _folders(sample.name)
        if levels is None:
            yield row
        elif len(folders) < max(levels.values()):
            left_out.append(LeftOut(name=row.name, why=f"not {max(levels.values())} folders deep"))
        else:
            given = {role: folders[level - 1] for role, level in levels.items()}
            yield replace(
                row, label=given["label"], part=given.get("part", part), group=given.get("group", "")
            )


def _folders(name: str) -> list[str]:
    """Return the folders of a member of a shard, the outermost first."""
    return [one for one in PurePosixPath(name).parts[:-1] if one != "."]


def _insist_on_one_level(pattern: Path, rows: list[TableRow]) -> None:
    """Raise CnnkitError where pictures are labelled by folders that lie in several which name no part."""
    outer: dict[str, str] = {}
    for row in rows:
        folders = [one for one in _folders(re.sub(r"^.*?\.tar/", "", row.name)) if not part_of_word(one)]
        if len(folders) > 1 and folders[-1] == row.label:
            outer.setdefault(folders[-2], row.label)
    if len(outer) > 1:
        (one, inner), (other, _), *_ = outer.items()
        raise CnnkitError(
            f"{pattern}: pictures lie in {one}/{inner}/ and in {other}/, and which folders are classes is "
            "not known: `--columns label=1` takes the outer ones, label=2 those inside; part=1 or group=1 "
            "behind label=2 says that the outer ones are parts (train, val, test), or are never torn apart"
        )


def _inside(rows: list[TableRow]) -> list[TableRow]:
    """Return rows in the parts that folders inside the shards name, if every picture lies in such a one."""
    words = [next(filter(part_of_word, PurePosixPath(row.name).parts[:-1]), "") for row in rows]
    return [replace(row, part=word) for row, word in zip(rows, words, strict=True)] if all(words) else rows


def _look_into(shard: Path) -> _Shard:
    """Read the headers of a shard, and its labels. Raises CorruptError."""
    found = _Found()
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
    return found.shard(left_out)


def _insist_on_end(shard: Path, offset: int) -> None:
    """Raise TarError where a shard's members end before the shard does: `tarfile` stops at a bad header."""
    with shard.open("rb") as file:
        file.seek(offset)
        if file.read(len(_ZEROS)).strip(b"\0"):
            raise tarfile.ReadError(f"what lies {offset:,} bytes from its start is no member")


def _take(file: tarfile.TarFile, member: tarfile.TarInfo, found: _Found) -> str | None:
    """Add what a member is to its sample; say why, where it is left out."""
    path = PurePosixPath(member.name)
    if not member.isfile() or any(is_leftover(one) for one in path.parts if one != "."):
        return None
    stem, dot, ending = path.name.partition(".")
    last = f"{dot}{ending.rpartition('.')[2]}".lower()
    keys = (str(path.parent / stem), str(path.parent / path.stem))
    if is_picture_name(path.name):
        found.pictures.append((keys, member.name, member.offset_data, member.size))
    elif last in _LABELS and member.size <= _MOST_LABEL_BYTES:
        inside = file.extractfile(member)
        assert inside is not None  # it is a file
        label = _label(last, inside.read())
        if label:
            found.labels.append((keys, last, label))
    else:
        return "no picture and no label"
    return None


@dataclass(kw_only=True)
class _Found:
    """What was met in a shard, each under two keys: its name up to the first dot, and up to the last."""

    pictures: list[tuple[tuple[str, str], str, int, int]] = dataclass_field(default_factory=list)
    labels: list[tuple[tuple[str, str], str, str]] = dataclass_field(default_factory=list)

    def shard(self, left_out: list[tuple[str, str]]) -> _Shard:
        """Lay pictures and labels of one key together.

        WebDataset's keys end at the first dot. They end at the last (`a.b.1.png`) where else a name had
        several pictures, and each picture has a label so, or no picture has one.
        """
        first = [keys[0] for keys, *_ in self.pictures]
        labelled = {keys[1] for keys, *_ in self.labels}
        whole = not self.labels or all(keys[1] in labelled for keys, *_ in self.pictures)
        by = int(len(set(first)) < len(first) and whole)
        samples: dict[str, _Sample] = {}
        for keys, name, offset, length in self.pictures:
            if keys[by] in samples:
                left_out.append((name, "a second picture of one name"))
            else:
                folder = PurePosixPath(name).parent.name
                samples[keys[by]] = _Sample(name=name, offset=offset, length=length, folder=folder)
        for keys, ending, label in self.labels:
            if keys[by] in samples:
                samples[keys[by]].labels[ending] = label
        return _Shard(samples=list(samples.values()), left_out=left_out)


def _label(ending: str, data: bytes) -> str:
    text = present(data.decode("utf-8", "replace"))
    if ending != ".json":
        return text if text.isprintable() else ""
    try:
        told = json.loads(text)
    except ValueError:
        return ""
    value = next((told[key] for key in _KEYS if key in told), None) if isinstance(told, dict) else told
    one = value[0] if isinstance(value, list) and len(value) == 1 else value
    return "" if one is None or isinstance(one, (list, dict)) else present(str(one))


def _names(folder: Path, rows: list[TableRow]) -> tuple[str, ...] | None:
    """Return the classes that numbers stand for; None where labels are names, or no file names them.

    Raises CnnkitError for a number without a name.
    """
    file = next((one for one in (folder / "classes.txt", folder / "labels.txt") if one.is_file()), None)
    numbers = {row.label for row in rows} - {"", "-1"}
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
