"""`tar:PATTERN`: shards as WebDataset has them, `train-{000..012}.tar`, `*.tar` or a folder, not compressed.

A picture and its label lie beside each other under one name, `0001.jpg` and `0001.cls`; without labels the
folders inside are the classes, and folders above them may be parts. `classes.txt` beside the shards names the
classes that numbers stand for.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from toolkit.datasets import DatasetSpec, typed_place
from toolkit.datasets._layout import laid_out
from toolkit.datasets._levels import typed_levels
from toolkit.datasets._shard import LABELS, Sample, Shard, look_into
from toolkit.datasets._walking import tree_of
from toolkit.errors import CnnkitError, CorruptError, NotFoundError
from toolkit.listings import PLAIN, LeftOut, Listing, Reading
from toolkit.listings.kept import of_file
from toolkit.listings.parts import part_of_word
from toolkit.listings.patterns import files_meant
from toolkit.listings.places import FileBytes
from toolkit.listings.tables import (
    TableRow,
    files_told,
    insist_on_part,
    listing_of_rows,
    parts_of_files,
    told_apart,
)

_BRACES = re.compile(r"\{([^{}]+)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def listing(name: str, reading: Reading = PLAIN) -> Listing:
    """List the pictures of shards. Raises NotFoundError, CorruptError for a shard that is damaged."""
    pattern = typed_place(name).absolute()
    shards = _shards(pattern)
    told, parts = files_told(shards), parts_of_files(shards)
    levels = typed_levels(reading.columns) if reading.columns else None
    left_out: list[LeftOut] = []
    found: list[_Found] = []
    for path in shards:
        if not levels or "part" not in levels:
            insist_on_part(path, parts)
        shard = of_file(path, "tar 6", Shard, functools.partial(look_into, path))
        left_out += [LeftOut(name=f"{told[path]}/{name}", why=why) for name, why in shard.left_out]
        before = f"{told[path]}/" if len(shards) > 1 else ""
        found += [_Found(before=before, shard=path, part=parts[path], sample=one) for one in shard.samples]
    if levels:
        rows = list(_by_levels(found, levels, left_out))
    elif any(one.sample.labels for one in found):
        rows = list(_labelled(found, left_out))
    else:
        rows = list(_by_folders(pattern, found, left_out))
    told_by = _file_of_names(shards[0].parent)
    classes = _names(told_by, rows)
    if classes is not None:
        rows = [replace(row, label=classes[int(row.label)] if row.label.isdecimal() else "") for row in rows]
    files = [*shards, *([told_by] if told_by else [])]
    return listing_of_rows(f"tar:{pattern}", pattern, rows, left_out, classes=classes, files=files)


def _shards(pattern: Path) -> list[Path]:
    """Return the files that a pattern means, in its order. Raises NotFoundError for one that is not there."""
    found: list[Path] = []
    for chosen in itertools.product(*map(_choices, _BRACES.findall(str(pattern)))):
        pieces = itertools.zip_longest(_BRACES.split(str(pattern))[::2], chosen, fillvalue="")
        text = "".join(itertools.chain.from_iterable(pieces))
        matching = files_meant(Path(text), ".tar")
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


@dataclass(frozen=True, kw_only=True)
class _Found:
    """A picture where it was found; `part` is what its shard's name says, "" for nothing."""

    before: str
    shard: Path
    part: str
    sample: Sample

    @property
    def name(self) -> str:
        return f"{self.before}{self.sample.name}"

    @property
    def folders(self) -> list[str]:
        """The folders inside the shard in which it lies, the outermost first."""
        return [one for one in PurePosixPath(self.sample.name).parts[:-1] if one not in (".", "/")]

    def row(self, label: str, part: str = "", group: str = "") -> TableRow:
        place = FileBytes(self.shard, self.sample.offset, self.sample.length)
        return TableRow(name=self.name, place=place, label=label, part=part or self.part, group=group)


def _by_levels(found: list[_Found], levels: dict[str, int], left_out: list[LeftOut]) -> Iterator[TableRow]:
    """Yield rows by the levels of folders that `--columns label=2,part=1` names."""
    for one in found:
        folders = one.folders
        if len(folders) < max(levels.values()):
            why = f"not {max(levels.values())} folders deep"
            left_out.append(LeftOut(name=one.name, why=why))
        else:
            yield one.row(**{role: folders[level - 1] for role, level in levels.items()})


def _labelled(found: list[_Found], left_out: list[LeftOut]) -> Iterator[TableRow]:
    """Yield rows by the labels beside pictures, "" for none; folders may name parts, and no classes then.

    Of several endings one counts, for all: the first that half as many pictures have as any.
    """
    counts = Counter(ending for one in found for ending in one.sample.labels)
    most = max(counts.values())
    ending = next(one for one in LABELS if 2 * counts[one] >= most)
    labels = [one.sample.labels.get(ending, "") for one in found]
    words = [next(filter(part_of_word, one.folders), "") for one in found]
    named = {part_of_word(word) for word, label in zip(words, labels, strict=True) if label}
    inside = None not in named or len(named) > 2
    for one, label, word in zip(found, labels, words, strict=True):
        if one.part or not inside:
            yield one.row(label)
        elif word or not label:
            yield one.row(label, word)
        else:
            left_out.append(LeftOut(name=one.name, why="beside the folders that name parts"))


def _by_folders(pattern: Path, found: list[_Found], left_out: list[LeftOut]) -> Iterator[TableRow]:
    """Yield rows by the class folders inside the shards, laid out as `folder:` has them."""
    if not any(one.folders for one in found):
        raise NotFoundError(
            f"{pattern} holds no picture with a label beside it or in a class folder; wanted is 0001.jpg "
            "with 0001.cls, or <class>/*.jpg"
        )
    names = ["/".join((*one.folders, PurePosixPath(one.sample.name).name)) for one in found]
    beside: list[LeftOut] = []
    layout = laid_out(pattern, tree_of(pattern, names), beside)
    placed = {path: (label, part or "") for path, label, part in layout.pictures()}
    reasons = {one.name: one.why for one in beside}
    for one, name in zip(found, names, strict=True):
        if pattern / name in placed:
            label, part = placed[pattern / name]
            yield one.row(label, "" if one.part else part)
        else:
            left_out.append(LeftOut(name=one.name, why=reasons[name]))


def _file_of_names(folder: Path) -> Path | None:
    """Return the file beside shards that may name the classes."""
    return next((one for one in (folder / "classes.txt", folder / "labels.txt") if one.is_file()), None)


def _names(file: Path | None, rows: list[TableRow]) -> tuple[str, ...] | None:
    """Return the classes that numbers stand for; None where labels are names, or no file names them.

    Raises CnnkitError for a number without a name, CorruptError for a blank line between names.
    """
    numbers = {row.label for row in rows} - {"", "-1"}
    if file is None or not numbers or not all(number.isdecimal() for number in numbers):
        return None
    lines = [line.strip() for line in _lines(file)]
    while lines and not lines[-1]:
        lines.pop()
    if "" in lines:  # with it the numbers would mean other names than without it
        raise CorruptError(
            f"{file}: line {lines.index('') + 1} is blank, and a class's number is that of its line; "
            "name the class there, or take the line out"
        )
    names = told_apart(lines)
    if max(map(int, numbers)) >= len(names):
        raise CnnkitError(f"{file} names {len(names)} classes, and a label is {max(map(int, numbers))}")
    return names


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise CorruptError(f"{file} is no text in UTF-8; save it so, a name a line") from None


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
