"""What was found out about people's files, kept in the user's cache so that it is not found out again.

It holds for a file of that path, size and time of change: the system's own, for `cp -p` and archives give a
file what time of writing they like. A file that changed within the last seconds is looked at again next time:
a second change may have left all three as they were. A cache that is full,
damaged or another's makes nothing wrong, only slower.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from toolkit.artifacts import cache_root

_SETTLED_NS = 2_000_000_000
_FILES = (
    "CREATE TABLE IF NOT EXISTS files (path BLOB, size INTEGER, changed INTEGER, kind TEXT, found BLOB, "
    "PRIMARY KEY (path, kind)) WITHOUT ROWID"
)

T = TypeVar("T")


@contextlib.contextmanager
def database(table: str) -> Iterator[sqlite3.Connection | None]:
    """Open what is kept, with a table that is made where it is missing; None where nothing can be kept."""
    connection = None
    with contextlib.suppress(OSError, sqlite3.Error):
        cache_root().mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(cache_root() / "hashes.sqlite", timeout=5)
        connection.execute(table)
    try:
        yield connection
    finally:
        if connection is not None:
            connection.close()


def is_settled(changed_ns: int) -> bool:
    """Whether what is found out about a file that changed then may be kept."""
    return time.time_ns() - changed_ns > _SETTLED_NS


def of_file(path: Path, kind: str, shape: type[T], find: Callable[[], T]) -> T:
    """Return what `find` finds in a file: as kept, where the file is the one that was looked at then.

    `kind` names what is looked for, and changes where that does; `shape` is what msgspec makes of it.
    """
    state = path.stat()
    key = (os.fsencode(path), kind)
    with database(_FILES) as kept:
        if kept is not None:
            query = "SELECT found FROM files WHERE path = ? AND kind = ? AND size = ? AND changed = ?"
            with contextlib.suppress(sqlite3.Error, msgspec.MsgspecError):
                for (found,) in kept.execute(query, (*key, state.st_size, state.st_ctime_ns)):
                    return msgspec.msgpack.decode(found, type=shape)
        made = find()
        if kept is not None and is_settled(state.st_ctime_ns):
            row = (key[0], state.st_size, state.st_ctime_ns, kind, msgspec.msgpack.encode(made))
            with contextlib.suppress(sqlite3.Error), kept:
                kept.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", row)
        return made
