"""Lists of pictures to leave out: a name a line, as listings name pictures, and why behind a tab."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import CnnkitError, NotFoundError
from toolkit.listings import LeftOut, Listing, Part
from toolkit.named_files import write_named

_HEAD = "# left out of a training by --exclude: a name a line, why behind a tab; take out what is to stay"
# what would end a name, or begin a comment
_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_ESCAPED = {"\\n": "\n", "\\r": "\r", "\\t": "\t", "\\\\": "\\", "\\#": "#"}


def write_exclusions(path: Path, names: Mapping[str, str]) -> None:
    """Write names with the reason for each, whole or not at all."""
    lines = [_HEAD, *(f"{listed_name(name)}\t{' '.join(why.split())}" for name, why in names.items())]
    write_named(path, os.fsencode("\n".join(lines) + "\n"))


def read_exclusions(path: Path | str) -> dict[str, str]:
    """Return names with the reason for each, "" for none. Raises NotFoundError, CnnkitError."""
    try:
        text = os.fsdecode(Path(path).read_bytes()).removeprefix("\ufeff")
    except FileNotFoundError:
        raise NotFoundError(
            f"no file {path}; `cnnkit check DATA --write-list {path}` writes one, a name a line"
        ) from None
    except OSError as error:
        raise CnnkitError(f"--exclude {path} cannot be read: {error.strerror or error}") from None
    lines = (line.removesuffix("\r") for line in text.split("\n"))
    told = (line for line in lines if line.strip() and not re.match(r"#(\s|$)", line))
    return {_as_named(name): why for name, _, why in (line.partition("\t") for line in told)}


def listed_name(name: str) -> str:
    """Return a name as it stands in a list: on one line, and no comment."""
    text = "".join(_ESCAPES.get(one, one) for one in name)
    return f"\\{text}" if text.startswith("#") else text


def _as_named(text: str) -> str:
    return re.sub(r"\\[nrt\\#]", lambda found: _ESCAPED[found[0]], text)


def absent(names: Iterable[str], there: Container[str]) -> tuple[LeftOut, ...]:
    """Return what a list names that is not there, so that it is told."""
    return tuple(LeftOut(name=name, why="excluded, and not there") for name in names if name not in there)


def row_name(part: Part, at: int) -> str:
    """Return what a picture is called that has no file: its part and its place there, from 0."""
    return f"{part} {at}"


def kept_rows(names: Mapping[str, str], part: Part, count: int) -> NDArray[np.int64]:
    """Return the rows of a part's pictures that a list does not name."""
    return np.array([at for at in range(count) if row_name(part, at) not in names], dtype=np.int64)


def without(listing: Listing, path: Path | str) -> Listing:
    """Leave out what a list names. Raises CnnkitError where it names nothing that is there."""
    names = read_exclusions(path)
    gone = {entry.name: entry for entry in listing.entries if entry.name in names}
    if names and not gone:
        raise CnnkitError(
            f"--exclude {path} names {len(names):,} pictures, of which {listing.word} holds none; "
            f"names there are as {listing.entries[0].name if listing.entries else 'nothing'}"
        )
    out = (LeftOut(name=name, why=names[name] or "excluded") for name in gone)
    return replace(
        listing,
        entries=tuple(entry for entry in listing.entries if entry.name not in gone),
        left_out=(*listing.left_out, *out, *absent(names, gone)),
        excluded=tuple(gone.values()),
    )
