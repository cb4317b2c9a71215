"""Which pictures could be decoded when they were tried, by their content: kept in the user's cache."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Mapping

import PIL

from toolkit.listings import Reading
from toolkit.listings.kept import database
from toolkit.preprocessing import Preprocessing

# channels, height and width of a picture in its file
Shape = tuple[int, int, int]
_TABLE = (
    "CREATE TABLE IF NOT EXISTS decoded (sha256 BLOB, way TEXT, channels INTEGER, height INTEGER, "
    "width INTEGER, PRIMARY KEY (sha256, way)) WITHOUT ROWID"
)


def way_of(target: Preprocessing, reading: Reading) -> str:
    """Return what decides whether a picture can be decoded, besides its content."""
    return repr((PIL.__version__, reading.max_pixels, target.wide))


def known_shapes(hashes: Iterable[str], way: str) -> dict[str, Shape]:
    """Return the shapes of pictures that could be decoded before, by their hashes."""
    found: dict[str, Shape] = {}
    with database(_TABLE) as cache, contextlib.suppress(sqlite3.Error):
        if cache is not None:
            query = "SELECT channels, height, width FROM decoded WHERE sha256 = ? AND way = ?"
            for digest in hashes:
                for shape in cache.execute(query, (bytes.fromhex(digest), way)):
                    found[digest] = shape
    return found


def keep_shapes(shapes: Mapping[str, Shape], way: str) -> None:
    """Keep that pictures can be decoded; a cache that cannot be written only costs time."""
    with database(_TABLE) as cache, contextlib.suppress(sqlite3.Error):
        if cache is not None and shapes:
            rows = [(bytes.fromhex(digest), way, *shape) for digest, shape in shapes.items()]
            with cache:
                cache.executemany("INSERT OR REPLACE INTO decoded VALUES (?, ?, ?, ?, ?)", rows)
