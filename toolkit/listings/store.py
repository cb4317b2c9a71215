"""The picture store: what a source's pictures look like to a network, decoded once and kept in the cache.

A store holds the pictures of one source at one size: `pixels.rows`, one picture behind the other as uint8,
and `rows.index`, a record for each of them: the hash of the file that the picture was decoded from, and its
shape there. Rows are only added, a block at a time and the pixels before their records, so that a store that
was being filled when its process was killed holds the blocks that were done. A picture is found by its
content, so that one that is added, or a data set that is split otherwise, decodes what is new alone.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray

from toolkit.artifacts import json_text, replacing
from toolkit.caching import ABOUT, LIMIT, LOCK, cache_folder, limit_bytes, make_room, note_use
from toolkit.errors import CnnkitError, ImageError
from toolkit.figures import bytes_text
from toolkit.listings import MOST_PIXELS, LeftOut, Reading
from toolkit.listings.decodable import Shape, keep_shapes, known_shapes, way_of
from toolkit.listings.decoding import Decoded, Decoding, decode, decode_one, left_out, place_of
from toolkit.listings.parts import Member
from toolkit.listings.rows import DecodedRows, RowFile, StoredRows, decoders
from toolkit.locking import held
from toolkit.preprocessing import Preprocessing

# a data set of no more bytes lies in memory while it is used, as those that ship do
IN_MEMORY_BYTES = 256 << 20
_BLOCK_BYTES = 32 << 20
# a hash of zeros stands for a row without a picture, of which none is written any more
_RECORD = np.dtype([("sha256", "u1", 32), ("shape", "<i4", 3)])
_NONE = bytes(32)


def gather(
    word: str,
    wanted: Sequence[Member],
    target: Preprocessing,
    reading: Reading,
    on_decoded: Decoding = lambda done: None,
    *,
    whole: Sequence[Member] = (),
) -> Decoded:
    """Return pictures of a source, decoded: from its store, which is filled with those that it lacks.

    `whole` are the pictures of the source that are wanted in all, in several calls. Few ones are read into
    memory, and what there is no room to store is an error only for many. Without a store
    (`reading.store`) each is decoded whenever it is asked for, and once now, to know that it can be.
    """
    if not reading.store:
        return _tried(wanted, target, reading, on_decoded)
    small = len(whole or wanted) * _row_bytes(target) <= IN_MEMORY_BYTES
    try:
        store = Store.of(word, target, reading.max_pixels, wanted=whole or wanted)
        damaged = store.fill(wanted, reading, on_decoded)
    except OSError as error:
        if small:  # as quick without a store
            return decode(wanted, target, reading, on_decoded)
        raise CnnkitError(
            f"the pictures of {word} cannot be stored in {cache_folder('stores')} "
            f"({error.strerror or error}); `cnnkit clean` shows what can go, XDG_CACHE_HOME names another "
            "cache, and --store off decodes them each time they are needed"
        ) from None
    rows, members, shapes = store.rows(wanted)
    return Decoded(pixels=rows[:] if small else rows, members=members, damaged=damaged, shapes=shapes)


def _tried(
    wanted: Sequence[Member], target: Preprocessing, reading: Reading, on_decoded: Decoding
) -> Decoded:
    """Decode each picture once, but for those that could be decoded before, and keep none of them."""
    shapes = np.zeros((len(wanted), 3), dtype=np.int32)
    way = way_of(target, reading)
    known = known_shapes((one.sha256 for one in wanted), way)
    fresh: dict[str, Shape] = {}

    def bad(at: int) -> LeftOut | None:
        digest = wanted[at].sha256
        try:
            if digest not in known:
                _, fresh[digest] = decode_one(wanted[at], target, reading)
        except ImageError as error:
            return left_out(wanted[at], error)
        shapes[at] = known.get(digest) or fresh[digest]
        return None

    damaged: dict[int, LeftOut] = {}
    order = sorted(range(len(wanted)), key=lambda at: place_of(wanted[at]))
    with ThreadPoolExecutor(decoders()) as pool:
        for at, one in zip(order, pool.map(bad, order), strict=True):
            if one is not None:
                damaged[at] = one
            on_decoded(1)
    keep_shapes(fresh, way)
    good = [at for at in range(len(wanted)) if at not in damaged]
    members = tuple(wanted[at] for at in good)
    return Decoded(
        pixels=DecodedRows(members, target, reading),
        members=members,
        damaged=tuple(damaged[at] for at in sorted(damaged)),
        shapes=shapes[good],
    )


def _row_bytes(target: Preprocessing) -> int:
    height, width = target.size
    return target.channels * height * width


class Store:
    """The pictures of one source as one kind of network sees them."""

    def __init__(self, folder: Path, target: Preprocessing) -> None:
        self.folder, self._target = folder, target
        self._pixels, self._index = folder / "pixels.rows", folder / "rows.index"
        self._row_bytes = _row_bytes(target)

    @classmethod
    def of(
        cls, word: str, target: Preprocessing, max_pixels: int = MOST_PIXELS, *, wanted: Sequence[Member] = ()
    ) -> Store:
        """Return the store of a source, made where there is none. Raises OSError.

        A source without one has the store of any other that holds half of what is wanted: its pictures lay
        elsewhere then, as they do on the machines of a cluster each time.
        """
        # another Pillow may decode and resize to other pixels, and another limit let larger pictures in
        way = _digest(repr((target.geometry, PIL.__version__, max_pixels)))
        store = cls(cache_folder("stores") / f"{way}-{_digest(word)}", target)
        if not store.folder.exists():
            others = (cls(folder, target) for folder in sorted(store.folder.parent.glob(f"{way}-*")))
            store = next((other for other in others if 2 * other.count(wanted) > len(wanted)), store)
        store.folder.mkdir(parents=True, exist_ok=True)
        if not (store.folder / ABOUT).exists():
            height, width = target.size
            what = f"{word}, {target.channels}×{height}×{width}, {target.resize}"
            about = json_text({"what": what.encode("utf-8", "replace").decode()})
            with replacing(store.folder / ABOUT) as part:
                part.write_text(about, "utf-8")
        note_use(store.folder)
        return store

    def fill(
        self, wanted: Sequence[Member], reading: Reading, on_decoded: Decoding = lambda done: None
    ) -> tuple[LeftOut, ...]:
        """Decode the pictures that are not there yet, and return those that cannot be decoded.

        Raises OSError, also where there is no room for them. Another process that fills the same store is
        waited for.
        """
        if not self._missing(wanted):
            on_decoded(len(wanted))
            return ()
        with held(self.folder / LOCK):
            missing = sorted(self._missing(wanted), key=place_of)
            on_decoded(len(wanted) - len(missing))
            self._insist_on_room(len(missing))
            why: dict[str, str] = {}
            block = max(1, _BLOCK_BYTES // self._row_bytes)
            for start in range(0, len(missing), block):
                why |= self._add(missing[start : start + block], reading, on_decoded)
        # of files with equal bytes one was tried
        return tuple(LeftOut(name=m.entry.name, why=why[m.sha256]) for m in wanted if m.sha256 in why)

    def count(self, wanted: Sequence[Member]) -> int:
        """Return how many of these pictures are there."""
        known = _by_hash(self._records())
        return sum(bytes.fromhex(member.sha256) in known for member in wanted)

    def rows(self, wanted: Sequence[Member]) -> tuple[StoredRows, tuple[Member, ...], NDArray[np.int32]]:
        """Return the pictures that are there, of which members they are, and their shapes in the files."""
        records = self._records()
        known = _by_hash(records)
        members = tuple(member for member in wanted if bytes.fromhex(member.sha256) in known)
        places = np.array([known[bytes.fromhex(m.sha256)] for m in members], dtype=np.int64)
        if not self._pixels.exists():
            self._pixels.touch()
        hashes = {place: member.sha256 for place, member in zip(places.tolist(), members, strict=True)}
        one = (self._target.channels, *self._target.size)
        rows = StoredRows(RowFile(self._pixels, self._row_bytes), one, places, hashes)
        return rows, members, records["shape"][places]

    def _records(self) -> NDArray[np.void]:
        """Return the records of the rows that are there whole."""
        try:
            data, pixels = self._index.read_bytes(), self._pixels.stat().st_size
        except FileNotFoundError:
            return np.empty(0, dtype=_RECORD)
        count = min(len(data) // _RECORD.itemsize, pixels // self._row_bytes)
        return np.frombuffer(data, dtype=_RECORD, count=count)

    def _missing(self, wanted: Sequence[Member]) -> list[Member]:
        known = _by_hash(self._records())
        lacking = {m.sha256: m for m in wanted if bytes.fromhex(m.sha256) not in known}
        return list(lacking.values())

    def _insist_on_room(self, pictures: int) -> None:
        """Make room within the cache's limit. Raises OSError where there is none, there or on the disk."""
        wanted = pictures * self._row_bytes
        need = f"{pictures:,} pictures need {bytes_text(wanted)}"
        there = self._pixels.stat().st_size if self._pixels.exists() else 0
        limit = limit_bytes()
        if limit is not None and there + wanted > limit:
            raise OSError(errno.ENOSPC, f"{need}, and ${LIMIT} allows {bytes_text(limit)}")
        try:
            make_room(wanted, keep=self.folder)
        except CnnkitError as error:
            raise OSError(errno.ENOSPC, str(error)) from None
        disk = os.statvfs(self.folder)
        free = disk.f_bavail * disk.f_frsize
        if wanted > free:
            raise OSError(errno.ENOSPC, f"{need}, and {bytes_text(free)} are free there")

    def _add(self, some: Sequence[Member], reading: Reading, on_decoded: Decoding) -> dict[str, str]:
        """Decode a block of pictures behind the rows that are there; their records are written last.

        Returns why some cannot be decoded, by the hash of their file. Those take no row: they are tried
        again each time, and the store would grow by them without end.
        """
        first = len(self._records())
        file = os.open(self._pixels, os.O_RDWR | os.O_CREAT, 0o644)
        records = np.zeros(len(some), dtype=_RECORD)

        def add(at: int) -> LeftOut | None:
            try:
                pixels, records["shape"][at] = decode_one(some[at], self._target, reading)
            except ImageError as error:
                return left_out(some[at], error)
            _write(file, pixels.tobytes(), (first + at) * self._row_bytes)
            records["sha256"][at] = np.frombuffer(bytes.fromhex(some[at].sha256), dtype=np.uint8)
            return None

        found: list[LeftOut | None] = []
        pool = ThreadPoolExecutor(decoders())  # Pillow's decoders release the interpreter lock
        try:
            for one in pool.map(add, range(len(some))):
                found.append(one)
                on_decoded(1)
            good = [at for at, one in enumerate(found) if one is None]
            bad = [at for at, one in enumerate(found) if one is not None]
            # the last good rows close the gaps that damaged pictures left
            for hole, at in zip(bad, reversed(good), strict=False):
                if hole > at:
                    break
                row = os.pread(file, self._row_bytes, (first + at) * self._row_bytes)
                _write(file, row, (first + hole) * self._row_bytes)
                records[hole] = records[at]
            records = records[: len(good)]
            os.ftruncate(file, (first + len(good)) * self._row_bytes)
            os.fdatasync(file)
        finally:
            pool.shutdown(cancel_futures=True)
            os.close(file)
        with self._index.open("r+b" if self._index.exists() else "w+b") as index:
            index.truncate(first * _RECORD.itemsize)  # what a killed process wrote half
            index.seek(first * _RECORD.itemsize)
            index.write(records.tobytes())
        return {member.sha256: one.why for member, one in zip(some, found, strict=True) if one is not None}


def _digest(told: str) -> str:
    return hashlib.sha256(told.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _by_hash(records: NDArray[np.void]) -> dict[bytes, int]:
    found = {hashed.tobytes(): row for row, hashed in enumerate(records["sha256"])}
    found.pop(_NONE, None)
    return found


def _write(file: int, data: bytes, at: int) -> None:
    room = memoryview(data)
    while room:
        count = os.pwrite(file, room, at)
        room, at = room[count:], at + count
