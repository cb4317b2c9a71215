"""What pictures contain, as SHA-256 of their bytes: computed when asked for, kept in the user's cache."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from toolkit.errors import CnnkitError
from toolkit.listings import Entry
from toolkit.listings.kept import database, is_settled

_TABLE = (
    "CREATE TABLE IF NOT EXISTS contents (path BLOB, within TEXT, size INTEGER, changed INTEGER, "
    "sha256 TEXT, PRIMARY KEY (path, within)) WITHOUT ROWID"
)

State = tuple[int, int]
# files that a thread reads in one go: handing them over one by one takes as long as reading them, and threads
# that are far apart hold many row groups of a Parquet file
_AT_ONCE = 16


def hash_entries(
    entries: Sequence[Entry], on_hashed: Callable[[int], None] = lambda done: None
) -> tuple[str, ...]:
    """Return each entry's hash in hexadecimal; `on_hashed` is told of every so many that are done.

    An entry that cannot be read gets one of its name: reading it again will say why.
    """
    states = _states(entries)
    with database(_TABLE) as cache:
        known = _known(cache, states)
        places = [(entry.place.path, entry.place.within) for entry in entries]
        # in the order in which they lie in their files
        missing = sorted(
            (at for at, place in enumerate(places) if place not in known), key=places.__getitem__
        )
        on_hashed(len(entries) - len(missing))
        now = time.time_ns()
        fresh = []
        with ThreadPoolExecutor() as pool:
            parts = [missing[start : start + _AT_ONCE] for start in range(0, len(missing), _AT_ONCE)]
            hashed = pool.map(lambda part: [_hash(entries[at]) for at in part], parts)
            for at, digest in zip(missing, itertools.chain.from_iterable(hashed), strict=True):
                known[places[at]] = digest or _of_name(entries[at])
                size, changed = states.get(entries[at].place.path, (0, now))
                if digest and is_settled(changed):
                    fresh.append((os.fsencode(places[at][0]), places[at][1], size, changed, digest))
                on_hashed(1)
        _keep(cache, fresh)
    return tuple(known[place] for place in places)


def content_hash(data: bytes) -> str:
    """Return the hash of a picture's bytes."""
    return hashlib.sha256(data).hexdigest()


def _hash(entry: Entry) -> str | None:
    try:
        return content_hash(entry.place.read())
    except (OSError, EOFError, CnnkitError):
        return None


def _of_name(entry: Entry) -> str:
    return content_hash(b"cannot be read: " + os.fsencode(entry.name))


def _states(entries: Sequence[Entry]) -> dict[Path, State]:
    """Return size and time of change of each file that can be looked at."""
    found: dict[Path, State] = {}
    for path in dict.fromkeys(entry.place.path for entry in entries):
        with contextlib.suppress(OSError):
            state = path.stat()
            found[path] = (state.st_size, state.st_ctime_ns)
    return found


def _known(cache: sqlite3.Connection | None, states: dict[Path, State]) -> dict[tuple[Path, str], str]:
    found: dict[tuple[Path, str], str] = {}
    if cache is None:
        return found
    query = "SELECT within, sha256 FROM contents WHERE path = ? AND size = ? AND changed = ?"
    with contextlib.suppress(sqlite3.Error):
        for path, state in states.items():
            for within, digest in cache.execute(query, (os.fsencode(path), *state)):
                found[path, within] = digest
    return found


def _keep(cache: sqlite3.Connection | None, rows: list[tuple[bytes, str, int, int, str]]) -> None:
    if cache is None or not rows:
        return
    with contextlib.suppress(sqlite3.Error), cache:
        cache.execute("DROP TABLE IF EXISTS hashes")  # of older releases, which nothing reads any more
        cache.executemany("INSERT OR REPLACE INTO contents VALUES (?, ?, ?, ?, ?)", rows)
