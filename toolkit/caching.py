"""What the cache holds, how much of it there may be, and what goes first: all of it can be made anew.

A folder in the cache is one kind of thing (`stores`, `kernels`, `data`, …), what lies in that folder are
things of that kind. `$CNNKIT_CACHE_GB` bounds them all together; downloads count, but are never dropped.
Whoever reads a thing notes that it is used, and whoever writes one makes room for it: `read_thing` and
`write_thing` do.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from toolkit.artifacts import ANOTHER_CACHE, cache_root, write_bytes
from toolkit.errors import CnnkitError, unknown_name
from toolkit.figures import bytes_text
from toolkit.locking import lock
from toolkit.presence import within

LIMIT = "CNNKIT_CACHE_GB"
ABOUT = "about.json"  # in a thing that is a folder: what it is, in words
LOCK = "lock"  # in such a folder: held by the process that fills it
_DOWNLOADS = frozenset(("data", "browser"))  # fetching them again takes a network, which may be gone
_FILES = "measurements"  # the plain files of the cache: what was measured of this machine
_LOCKS = ".lock"  # what plain files end with that processes hold: one that is removed would let two in


@dataclass(frozen=True, kw_only=True)
class Kept:
    """One thing in the cache: `what` it is in words, its size, when it was last used (as `time.time`)."""

    kind: str
    path: Path
    what: str
    size_bytes: int
    used: float


def cache_folder(kind: str) -> Path:
    """Return the folder of one kind of thing; it need not be there."""
    return cache_root() / kind


def download_folder(kind: str) -> Path:
    """Return the folder of one kind of downloads, which stay where others go; it need not be there."""
    assert kind in _DOWNLOADS, f"{kind!r} is not among the kinds of downloads: {sorted(_DOWNLOADS)}"
    return cache_folder(kind)


def read_thing(path: Path) -> bytes:
    """Return what a file of the cache holds, and note that it is used. Raises OSError."""
    data = path.read_bytes()
    note_use(path)
    return data


def write_thing(path: Path, data: bytes) -> None:
    """Write a file of the cache, whole or not at all, once there is room for it within the limit.

    Raises CnnkitError where there is none, there or on the disk.
    """
    limit = limit_bytes()
    if limit is not None and len(data) > limit:
        raise CnnkitError(f"{path} needs {bytes_text(len(data))}, and ${LIMIT} allows {bytes_text(limit)}")
    make_room(len(data), keep=path)
    write_bytes(path, data, instead=ANOTHER_CACHE)


def note_use(path: Path) -> None:
    """Note that something in the cache is used now, so that others are dropped before it."""
    with contextlib.suppress(OSError):
        os.utime(path)


def kept_things() -> list[Kept]:
    """Return what the cache holds, the largest first. Raises CorruptError where it may not be read."""
    found = []
    for path in within(cache_root()):
        if path.is_dir():
            found += [_kept(path.name, one) for one in within(path)]
        elif path.suffix != _LOCKS:
            found.append(_kept(_FILES, path))
    return sorted(found, key=lambda one: (-one.size_bytes, one.path))


def _kept(kind: str, path: Path) -> Kept:
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    size = 0
    for each in files:
        with contextlib.suppress(OSError):  # gone meanwhile
            size += each.stat().st_blocks * 512
    used = path.stat().st_mtime if path.exists() else 0.0
    return Kept(kind=kind, path=path, what=_what(path), size_bytes=size, used=used)


def _what(path: Path) -> str:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads((path / ABOUT).read_text("utf-8"))["what"])
    return path.name


def limit_bytes() -> int | None:
    """Return what `$CNNKIT_CACHE_GB` allows; None without a limit. Raises CnnkitError for no number."""
    asked = os.environ.get(LIMIT, "").strip()
    if not asked:
        return None
    try:
        limit = float(asked)
    except ValueError:
        limit = -1.0
    if not 0 <= limit < 1e9:
        raise CnnkitError(f"${LIMIT} is {asked!r}; it takes a number of gigabytes, as in {LIMIT}=20")
    return int(limit * 1e9)


def make_room(wanted: int, *, keep: Path) -> list[Kept]:
    """Drop what was used longest ago until `wanted` bytes more are within the limit; return what went.

    `keep` stays, and so do downloads. Raises CnnkitError, and drops nothing, where that would not suffice.
    """
    limit = limit_bytes()
    if limit is None:
        return []
    things = kept_things()
    size = sum(one.size_bytes for one in things)
    droppable = [one for one in things if one.kind not in (*_DOWNLOADS, _FILES) and one.path != keep]
    staying, over = size - sum(one.size_bytes for one in droppable), size + wanted - limit
    if staying + wanted > limit:
        raise CnnkitError(
            f"{keep} needs {bytes_text(wanted)}, and ${LIMIT} allows {bytes_text(limit)}, of which "
            f"{bytes_text(staying)} stay taken whatever is dropped; `cnnkit clean` lists all"
        )
    gone = []
    for one in sorted(droppable, key=lambda one: one.used):
        if over <= 0:
            break
        if _remove(one.path):
            over -= one.size_bytes
            gone.append(one)
    return gone


def droppable_kinds() -> list[str]:
    """Return the kinds of things that are there and can be made anew without a network."""
    return sorted({one.kind for one in kept_things()} - _DOWNLOADS)


def free(kinds: Collection[str], *, unused_days: float = 0.0) -> list[Kept]:
    """Remove all things of these kinds that were not used for so long; return what went.

    Raises NotFoundError for a kind that there is none of.
    """
    things = kept_things()
    known = sorted({one.kind for one in things})
    for kind in kinds:
        if kind not in known:
            raise unknown_name("kind of thing in the cache", kind, known)
    before = time.time() - unused_days * 86400
    chosen = [one for one in things if one.kind in kinds and (not unused_days or one.used < before)]
    return [one for one in chosen if _remove(one.path)]


def _remove(path: Path) -> bool:
    """Remove a file or a folder that nobody is filling, and tell whether it is gone.

    A process that reads from it goes on: its files are open.
    """
    try:
        if not path.is_dir():
            path.unlink(missing_ok=True)
            return True
        with _alone(path):
            shutil.rmtree(path)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a folder's lock, where it has one. Raises BlockingIOError while another process does."""
    if not (folder / LOCK).exists():
        yield
        return
    stream = lock(folder / LOCK)
    if stream is None:
        raise BlockingIOError(f"{folder} is being filled")
    with stream:
        yield
