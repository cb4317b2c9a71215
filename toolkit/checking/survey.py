"""Every picture looked at once: whether it can be read, its size, its colours, and a small copy of it."""

from __future__ import annotations

import dataclasses
import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toolkit.checking import FaultyPicture
from toolkit.checking.pictures import Gallery
from toolkit.checking.spectra import SIDE
from toolkit.errors import ImageError
from toolkit.images import Pixels
from toolkit.telling import Step, unwatched

# a difference between the lightest and the darkest that nobody sees, and that storing with losses makes
_PLAIN = 4
_AT_ONCE, _OF_A_THREAD = 512, 32


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What was seen of M readable pictures: `rows` are their numbers in the gallery.

    `small` (M, C, S, S) uint8 are the pictures squashed to S = 32 pixels, smaller ones with their border
    repeated; `sizes` (M, 2) their own width and height; `plain` (M,) tells those of one colour.
    """

    rows: NDArray[np.int64]
    small: Pixels
    sizes: NDArray[np.int64]
    plain: NDArray[np.bool_]
    faulty: tuple[FaultyPicture, ...]

    def of(self, kept: NDArray[np.bool_]) -> Survey:
        """Return what was seen of some of the pictures, (M,)."""
        return dataclasses.replace(
            self,
            rows=self.rows[kept],
            small=self.small[kept],
            sizes=self.sizes[kept],
            plain=self.plain[kept],
        )


@dataclass(frozen=True, kw_only=True)
class _Glance:
    """`fitted` (H, W) or (H, W, 3) is the picture, no larger than SIDE."""

    fitted: Pixels
    size: tuple[int, int]
    plain: bool


def survey(pictures: Gallery, on_step: Step = unwatched) -> Survey:
    """Decode every picture once, by threads; what cannot be read is collected."""
    if pictures.held is not None and max(pictures.held.shape[2:]) <= SIDE:
        return _of_memory(pictures.held)
    small: list[Pixels] = []
    rows, sizes, plain, faulty = [], [], [], []

    def look(at: int) -> _Glance | FaultyPicture:
        try:
            return _look(pictures.open(at, "own"))
        except ImageError as error:
            name = pictures.names[at]
            return FaultyPicture(file=name, why=str(error).removeprefix(f"{name} ").partition(";")[0])

    with ThreadPoolExecutor() as pool:
        for start in range(0, len(pictures), _AT_ONCE):
            part = range(start, min(start + _AT_ONCE, len(pictures)))
            turns = [part[at : at + _OF_A_THREAD] for at in range(0, len(part), _OF_A_THREAD)]
            looked = pool.map(lambda turn: [look(at) for at in turn], turns)
            found = list(zip(part, itertools.chain.from_iterable(looked), strict=True))
            faulty += [one for _, one in found if isinstance(one, FaultyPicture)]
            good = [(at, one) for at, one in found if isinstance(one, _Glance)]
            rows += [at for at, _ in good]
            sizes += [one.size for _, one in good]
            plain += [one.plain for _, one in good]
            small.append(_stacked([one.fitted for _, one in good]))
            on_step("decoding", part.stop, len(pictures))
    return Survey(
        rows=np.array(rows, dtype=np.int64),
        small=_joined(small),
        sizes=np.array(sizes, dtype=np.int64).reshape(-1, 2),
        plain=np.array(plain, dtype=bool),
        faulty=tuple(faulty),
    )


def _look(image: Image.Image) -> _Glance:
    spans: Any = image.getextrema()
    plain = all(high - low <= _PLAIN for low, high in ([spans] if image.mode == "L" else spans))
    return _Glance(fitted=np.asarray(fitted(image, SIDE), dtype=np.uint8), size=image.size, plain=plain)


def fitted(image: Image.Image, side: int) -> Image.Image:
    """Squash a picture that is larger than a square into it; leave one that fits as it is."""
    if max(image.size) <= side:
        return image
    down = side < image.width or side < image.height
    return image.resize((side, side), Image.Resampling.BOX if down else Image.Resampling.BILINEAR)


def bordered(pixels: Pixels, side: int) -> Pixels:
    """Lay (N, C, H, W) pictures that are no larger into the middle of (side, side), their border repeated."""
    if pixels.shape[2:] == (side, side):
        return pixels
    rows, columns = (_places(size, side) for size in pixels.shape[2:])
    return pixels[:, :, rows[:, None], columns]


@cache
def _places(size: int, side: int) -> NDArray[np.int64]:
    """Return which of so many rows each of `side` rows repeats."""
    return np.clip(np.arange(side) - (side - size) // 2, 0, size - 1)


def _stacked(pictures: list[Pixels]) -> Pixels:
    """Return pictures (H, W) or (H, W, 3) as one array with borders, in colour where one of them is."""
    alike: dict[tuple[int, ...], list[int]] = {}
    for at, one in enumerate(pictures):
        alike.setdefault(one.shape, []).append(at)
    # all of one shape at once: a picture alone takes as long as its decoding
    parts = [(rows, _bordered_alike(np.stack([pictures[at] for at in rows]))) for rows in alike.values()]
    channels = max((part.shape[1] for _, part in parts), default=1)
    made = np.empty((len(pictures), channels, SIDE, SIDE), dtype=np.uint8)
    for rows, part in parts:
        made[rows] = part
    return made


def _bordered_alike(pictures: Pixels) -> Pixels:
    """Return (N, H, W) or (N, H, W, 3) pictures with borders, of one channel where all of them are grey."""
    if pictures.ndim == 3:
        pictures = pictures[..., None]
    elif (pictures == pictures[..., :1]).all():
        pictures = pictures[..., :1]
    return bordered(np.moveaxis(pictures, -1, 1), SIDE)


def _joined(parts: list[Pixels]) -> Pixels:
    """Return parts as one array, in colour where one of them is; each is let go once it is copied."""
    channels = max((part.shape[1] for part in parts), default=1)
    made = np.empty((sum(map(len, parts)), channels, SIDE, SIDE), dtype=np.uint8)
    end = len(made)
    while parts:
        part = parts.pop()
        made[end - len(part) : end] = part
        end -= len(part)
    return made


def _of_memory(held: Pixels) -> Survey:
    flat = held.reshape(*held.shape[:2], -1)
    height, width = held.shape[2:]
    return Survey(
        rows=np.arange(len(held)),
        small=bordered(held, SIDE),
        sizes=np.tile(np.array([[width, height]]), (len(held), 1)),
        plain=(flat.max(axis=2).astype(int) - flat.min(axis=2) <= _PLAIN).all(axis=1),
        faulty=(),
    )
