"""A shard's headers read once: its pictures by name and place, and the labels that lie beside them."""

from __future__ import annotations

import json
import posixpath
import tarfile
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from pathlib import Path, PurePosixPath

from msgspec import Struct, field

from toolkit.datasets._walking import LEFTOVER
from toolkit.errors import CorruptError
from toolkit.listings.looking import is_leftover, is_picture_name, readable
from toolkit.listings.tables import present

# what labels end with, the likeliest first: a text beside what the JSON calls a label is a caption
LABELS = (".cls", ".label", ".json", ".txt")
_ZEROS = bytes(512)  # a block of a tar file behind its last member
_MOST_LABEL_BYTES = 1 << 20
_KEYS = ("label", "cls", "class", "class_name", "category")
_MOST_LINKS = 8  # one behind the other


class Sample(Struct, kw_only=True):
    """A picture of a shard with the labels that lie beside it; `offset` and `length` say where it is."""

    name: str
    offset: int
    length: int
    labels: dict[str, str] = field(default_factory=dict)


class Shard(Struct, kw_only=True):
    """What a shard holds, and what of it was left out: name and reason."""

    samples: list[Sample]
    left_out: list[tuple[str, str]]


def look_into(shard: Path) -> Shard:
    """Read the headers of a shard, and its labels. Raises CorruptError."""
    members = _Members()
    left_out: list[tuple[str, str]] = []
    try:
        with tarfile.open(shard, "r:") as file:
            named = {posixpath.normpath(one.name): one for one in file}
            _insist_on_end(shard, file.offset)
            for member in file:
                why = _take(file, member, named, members)
                if why:
                    left_out.append((readable(member.name), why))
    except (tarfile.TarError, EOFError, OSError) as error:
        raise CorruptError(
            f"{shard} is no tar file whose pictures can be reached ({error}); unpack compressed ones first"
        ) from None
    return members.shard(left_out)


def _insist_on_end(shard: Path, offset: int) -> None:
    """Raise TarError where a shard's members end before the shard does: `tarfile` stops at a bad header."""
    with shard.open("rb") as file:
        file.seek(offset)
        if file.read(len(_ZEROS)).strip(b"\0"):
            raise tarfile.ReadError(f"what lies {offset:,} bytes from its start is no member")


def _take(
    file: tarfile.TarFile, member: tarfile.TarInfo, named: dict[str, tarfile.TarInfo], found: _Members
) -> str | None:
    """Add what a member is to its sample; say why, where it is left out."""
    path = PurePosixPath(readable(member.name))
    if member.isdir():
        return None
    if any(is_leftover(one) for one in path.parts if one not in (".", "..")):
        return LEFTOVER
    data = _data_of(member, named)
    if data is None:
        return "a link to no file of the shard" if member.islnk() or member.issym() else "no file"
    stem, dot, ending = path.name.partition(".")
    last = f"{dot}{ending.rpartition('.')[2]}".lower()
    keys = (str(path.parent / stem), str(path.parent / path.stem))
    if is_picture_name(path.name):
        if data.issparse():  # its bytes lie in the shard with their zeros left out
            return "a sparse file"
        found.pictures.append((keys, str(path), data.offset_data, data.size))
    elif last in LABELS and data.size <= _MOST_LABEL_BYTES:
        inside = file.extractfile(data)
        assert inside is not None  # it is a file
        label = _label(last, inside.read())
        if label:
            found.labels.append((keys, last, label))
    else:
        return "no picture and no label"
    return None


def _data_of(member: tarfile.TarInfo, named: dict[str, tarfile.TarInfo]) -> tarfile.TarInfo | None:
    """Return the member that holds what a member or link is; None for a link to none, or in a circle.

    A hard link names another from the shard's root on, a symbolic one from its own folder.
    """
    found: tarfile.TarInfo | None = member
    for _ in range(_MOST_LINKS):
        if found is None or not (found.islnk() or found.issym()):
            break
        folder = posixpath.dirname(found.name) if found.issym() else ""
        found = named.get(posixpath.normpath(posixpath.join(folder, found.linkname)))
    return found if found is not None and found.isfile() else None


@dataclass(kw_only=True)
class _Members:
    """What was met in a shard, each under two keys: its name up to the first dot, and up to the last."""

    pictures: list[tuple[tuple[str, str], str, int, int]] = dataclass_field(default_factory=list)
    labels: list[tuple[tuple[str, str], str, str]] = dataclass_field(default_factory=list)

    def shard(self, left_out: list[tuple[str, str]]) -> Shard:
        """Lay pictures and labels of one key together.

        WebDataset's keys end at the first dot. They end at the last (`a.b.1.png`) where else a name had
        several pictures, and a picture has a label so, or no picture has one.
        """
        first = [keys[0] for keys, *_ in self.pictures]
        labelled = {keys[1] for keys, *_ in self.labels}
        whole = not self.labels or any(keys[1] in labelled for keys, *_ in self.pictures)
        by = int(len(set(first)) < len(first) and whole)
        samples: dict[str, Sample] = {}
        for keys, name, offset, length in self.pictures:
            if keys[by] in samples:
                left_out.append((name, "a second picture of one name"))
            else:
                samples[keys[by]] = Sample(name=name, offset=offset, length=length)
        for keys, ending, label in self.labels:
            if keys[by] in samples:
                samples[keys[by]].labels[ending] = label
        return Shard(samples=list(samples.values()), left_out=left_out)


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
