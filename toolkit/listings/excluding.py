"""Lists of pictures to leave out: a name a line, as listings name pictures, and why behind a tab."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolkit.artifacts import write_bytes
from toolkit.errors import CnnkitError, NotFoundError
from toolkit.listings import LeftOut, Listing, Part

_HEAD = "# left out of a training by --exclude: a name a line, why behind a tab; take out what is to stay"


def write_exclusions(path: Path, names: Mapping[str, str]) -> None:
    """Write names with the reason for each, whole or not at all."""
    lines = [_HEAD, *(f"{name}\t{' '.join(why.split())}" for name, why in names.items())]
    write_bytes(path, os.fsencode("\n".join(lines) + "\n"))


def read_exclusions(path: Path) -> dict[str, str]:
    """Return names with the reason for each, "" for none. Raises NotFoundError, CnnkitError."""
    try:
        text = os.fsdecode(path.read_bytes())
    except FileNotFoundError:
        raise NotFoundError(
            f"no file {path}; `cnnkit check DATA --write-list {path}` writes one, a name a line"
        ) from None
    except OSError as error:
        raise CnnkitError(f"--exclude {path} cannot be read: {error.strerror or error}") from None
    lines = (line for line in text.splitlines() if line.strip() and not line.startswith("#"))
    return {name: why for name, _, why in (line.partition("\t") for line in lines)}


def row_name(part: Part, at: int) -> str:
    """Return what a picture is called that has no file: its part and its place there, from 0."""
    return f"{part} {at}"


def kept_rows(names: Mapping[str, str], part: Part, count: int) -> NDArray[np.int64]:
    """Return the rows of a part's pictures that a list does not name."""
    return np.array([at for at in range(count) if row_name(part, at) not in names], dtype=np.int64)


def without(listing: Listing, path: Path) -> Listing:
    """Leave out what a list names. Raises CnnkitError where it names nothing that is there."""
    names = read_exclusions(path)
    entries = tuple(entry for entry in listing.entries if entry.name not in names)
    gone = [entry.name for entry in listing.entries if entry.name in names]
    if names and not gone:
        raise CnnkitError(
            f"--exclude {path} names {len(names):,} pictures, of which {listing.word} holds none; "
            f"names there are as {listing.entries[0].name if listing.entries else 'nothing'}"
        )
    out = tuple(LeftOut(name=name, why=names[name] or "excluded") for name in gone)
    return replace(listing, entries=entries, left_out=(*listing.left_out, *out))
