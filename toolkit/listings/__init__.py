"""The contract of a source of pictures: a Listing of Entries, found without decoding one of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Protocol

from msgspec import Meta

from toolkit.errors import refuse_empty

# "validation" chooses the epoch, "test" is what accuracy is measured on
Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")

# what training and eval read; a server has its own, stricter limits (toolkit.images)
MOST_PIXELS = 178_956_970  # Pillow refuses larger pictures itself
MOST_BYTES = 1 << 30


class Place(Protocol):
    """Where one picture's bytes are: can be pickled, so that worker processes read it.

    `path` is the file that holds them; `within` says which bytes of that file, "" for all of them.
    """

    @property
    def path(self) -> Path: ...
    @property
    def within(self) -> str: ...
    def read(self) -> bytes:
        """Return the bytes. Raises OSError, or CnnkitError for a file that is not what it was."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One labelled picture of a source, undecoded.

    `name` is what people are told, `label` its class's place in the listing's classes. `part` is the part
    that the layout names, None where it names none. Pictures of one `group` (a clip, a patient) belong to
    one part; None is a group of its own.
    """

    name: str
    place: Place
    label: int
    part: Part | None = None
    group: str | None = None


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Something of a source that is no entry, and why."""

    name: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a source holds. `word` is as typed, with an absolute path; `entries` are by label, then name.

    `excluded` are those that a list of names left out (toolkit/listings/excluding.py). `files` are all that
    were read to know of the pictures: tables, shards, names of classes. `absolute` is a picture that a table
    names by an absolute path, where any is: on another machine that path means another file.
    """

    word: str
    root: Path
    classes: tuple[str, ...]
    entries: tuple[Entry, ...]
    left_out: tuple[LeftOut, ...] = ()
    excluded: tuple[Entry, ...] = ()
    files: tuple[Path, ...] = ()
    absolute: str | None = None

    def state(self) -> str:
        """Return a hash of what lies there by names, sizes and times of change; no file is read for it."""
        digest = hashlib.sha256(repr(self.classes).encode("utf-8", "surrogateescape"))
        states: dict[Path, tuple[int, int] | None] = {}
        for entry in self.entries:
            path = entry.place.path
            if path not in states:
                states[path] = _state(path)
            told = (entry.name, entry.place.within, entry.label, entry.part, entry.group, states[path])
            digest.update(repr(told).encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


def _state(path: Path) -> tuple[int, int] | None:
    """Return a file's size and time of change; None for one that is not there, which is a state, too."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_size, found.st_ctime_ns)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How people want a source to be read; the defaults are what a word alone means.

    `group` is a regular expression that finds a picture's group in its name; `columns` names the columns
    of a table, as `image=…,label=…`. Damaged pictures are an error unless `skip_damaged`. `exclude` is a
    list of names to leave out, see toolkit/listings/excluding.py. `store` changes no pixel: without a store
    in the cache, pictures are decoded each time they are needed.
    """

    group: str | None = None
    columns: str | None = None
    skip_damaged: bool = False
    exclude: Path | str | None = None
    max_pixels: Annotated[int, Meta(ge=1, le=MOST_PIXELS)] = MOST_PIXELS
    store: bool = True

    def __post_init__(self) -> None:
        refuse_empty("--group", self.group)
        refuse_empty("--columns", self.columns)


PLAIN = Reading()
