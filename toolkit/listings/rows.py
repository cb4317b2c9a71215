"""Pictures that are read when they are asked for: out of a file of rows, or decoded from where they lie."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import CorruptError, ImageError
from toolkit.images import Pixels
from toolkit.listings import Reading
from toolkit.listings.decoding import decode_one, place_of
from toolkit.listings.parts import Member
from toolkit.preprocessing import Preprocessing
from toolkit.processes import usable_cores

Chosen = int | slice | NDArray[np.int64]


class PictureRows(ABC):
    """Pictures (N, C, H, W) uint8 that take no memory until some are asked for, by place.

    `one` is a picture's shape, `places` says which rows of what lies behind them these pictures are.
    """

    def __init__(self, one: tuple[int, int, int], places: NDArray[np.int64]) -> None:
        self.one, self.places = one, places

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W)."""
        return (len(self.places), *self.one)

    @property
    def nbytes(self) -> int:
        """What they would take in memory."""
        return len(self.places) * int(np.prod(self.one))

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, chosen: Chosen) -> Pixels:
        """Return one picture (C, H, W), or several (n, C, H, W) in the order asked for."""
        if isinstance(chosen, (int, np.integer)):
            return np.asarray(self.read(self.places[chosen : chosen + 1 or None])[0])
        return self.read(self.places[chosen])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self.read(self.places), dtype=dtype)

    def take(self, chosen: slice | NDArray[np.int64]) -> Self:
        """Return the chosen pictures in the given order; none of them is read."""
        taken = object.__new__(type(self))
        taken.__dict__.update(self.__dict__, places=self.places[chosen])
        return taken

    @abstractmethod
    def read(self, places: NDArray[np.int64]) -> Pixels:
        """Return the pictures at these places, in this order."""

    @abstractmethod
    def identities(self) -> list[str]:
        """Return what each picture contains, as the hash of its file."""


# pictures in memory, or such as are read when asked for
Images = Pixels | PictureRows


def chosen_of(images: Images, chosen: slice | NDArray[np.int64]) -> Images:
    """Return the chosen pictures in the given order; those that are not in memory are not read."""
    return images.take(chosen) if isinstance(images, PictureRows) else np.asarray(images[chosen])


class DecodedRows(PictureRows):
    """Pictures that are decoded each time they are asked for.

    Reading raises CorruptError for a picture that cannot be decoded any more, or was changed.
    """

    def __init__(self, wanted: Sequence[Member], target: Preprocessing, reading: Reading) -> None:
        super().__init__((target.channels, *target.size), np.arange(len(wanted)))
        self._members, self._target, self._reading = wanted, target, reading

    def read(self, places: NDArray[np.int64]) -> Pixels:
        """Decode the pictures at these places: by threads, but in a loader's worker, which is one of many."""
        pixels = np.empty((len(places), *self.one), dtype=np.uint8)
        wanted = [self._members[place] for place in places.tolist()]

        def one(at: int) -> None:
            pixels[at], _ = decode_one(wanted[at], self._target, self._reading)

        try:
            order = sorted(range(len(places)), key=lambda at: place_of(wanted[at]))
            if multiprocessing.parent_process() is not None or len(places) < 2:
                for at in order:
                    one(at)
            else:
                with ThreadPoolExecutor(decoders()) as pool:
                    list(pool.map(one, order))
        except ImageError as error:
            raise CorruptError(str(error)) from None
        return pixels

    def identities(self) -> list[str]:
        return [self._members[place].sha256 for place in self.places]


class RowFile:
    """A file of pictures of one size, one behind the other, read at any place.

    Rows are read and not mapped: pages that are mapped count as this process's memory, and a page fault
    each 4 kB takes longer than one call for a whole picture.
    """

    def __init__(self, path: Path, row_bytes: int) -> None:
        self.path, self.row_bytes = path, row_bytes
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, _close, self._file)

    def read_into(self, rows: NDArray[np.uint8], first: int) -> None:
        """Read as many rows as there is room for, from a row on. Raises CorruptError where the file ends."""
        room = memoryview(rows.data).cast("B")
        at = first * self.row_bytes
        while room:
            count = os.preadv(self._file, [room], at)
            if not count:
                raise CorruptError(
                    f"{self.path} is too short; `cnnkit clean --free stores` makes way for a new one"
                )
            room, at = room[count:], at + count

    def __reduce__(self) -> tuple[type[RowFile], tuple[Path, int]]:
        return RowFile, (self.path, self.row_bytes)


def _close(file: int) -> None:
    with contextlib.suppress(OSError):
        os.close(file)


class StoredRows(PictureRows):
    """Pictures in a file of rows, whichever rows of it they are."""

    def __init__(
        self, file: RowFile, one: tuple[int, int, int], places: NDArray[np.int64], hashes: dict[int, str]
    ) -> None:
        super().__init__(one, places)
        self.file, self._hashes = file, hashes

    def read(self, places: NDArray[np.int64]) -> Pixels:
        """Read the rows at these places; neighbours in one go."""
        pixels = np.empty((len(places), *self.one), dtype=np.uint8)
        if not len(places):
            return pixels
        breaks = np.flatnonzero(np.diff(places) != 1) + 1
        for start, stop in zip([0, *breaks.tolist()], [*breaks.tolist(), len(places)], strict=True):
            self.file.read_into(pixels[start:stop].reshape(-1), int(places[start]))
        return pixels

    def identities(self) -> list[str]:
        return [self._hashes[int(place)] for place in self.places]


def decoders() -> int:
    """Return how many pictures are decoded at a time: one for each core that this process may use."""
    return usable_cores()
