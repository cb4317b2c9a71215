"""Pictures that are one picture: copies, saved again, moved, mirrored or turned.

Equal bytes are equal hashes. Of the rest, spectra propose pairs, which are laid over one another: those
agree that differ by no more than storing with losses does, in brightness and in colour.
"""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toolkit.checking import LIKENESSES, DuplicateGroup, Likeness
from toolkit.checking.alignment import WAYS, Alignment, Borders, align, joined, smooth, turned
from toolkit.checking.pictures import Gallery
from toolkit.checking.spectra import SIDE, Pairs, describe, luma, near
from toolkit.checking.survey import Survey, bordered
from toolkit.errors import ImageError
from toolkit.images import Floats, Pixels
from toolkit.processes import usable_cores
from toolkit.telling import Step, counter, unwatched

# Chosen on planted copies of CIFAR-10 and Fashion-MNIST: of pictures saved again at quality 75, mirrored or
# moved by up to 3 pixels 0.92 and more are found.
_AGREE, _DIFFER, _TINT = 0.985, 2.5, 8.0
# before a second look at full size, where small copies have lost the detail that tells pictures apart
_AGREE_SMALL, _DIFFER_SMALL = 0.93, 8.0
_FURTHEST = 6
# small pictures lie in so much border, and are no smaller with it than amplitudes need
_BORDER, _LEAST_SIDE = 4, 24
_AT_ONCE = 256  # pairs: what is made of them fits the cache of a core
# the side at which larger pictures are laid over one another
_CLOSE_SIDE = 256
_REMEMBERED = 64


@dataclass(frozen=True, kw_only=True)
class Likenesses:
    """Pairs (M, 2) of gallery numbers that are alike, and how: places in LIKENESSES (M,)."""

    pairs: Pairs
    kinds: NDArray[np.int64]


def find_alike(pictures: Gallery, seen: Survey, on_step: Step = unwatched) -> Likenesses:
    """Return which pictures are alike; those of one colour are left out, for they are all alike."""
    copies = _copies(pictures, seen)
    # one of each set of copies stands for all
    rest = np.setdiff1d(np.flatnonzero(~seen.plain), np.searchsorted(seen.rows, copies[:, 1]))
    small = seen.small if len(rest) == len(seen.small) else seen.small[rest]
    small, borders = _trimmed(small, seen.sizes[rest])
    pairs, found = _near_duplicates(small, borders, on_step)
    kinds = np.zeros(len(copies), dtype=np.int64)
    if found is None:
        return Likenesses(pairs=copies, kinds=kinds)
    kept, found = _second_look(pictures, seen, rest[pairs], found, on_step)
    return Likenesses(
        pairs=np.concatenate([copies, seen.rows[kept]]), kinds=np.concatenate([kinds, _kinds(found)])
    )


def _copies(pictures: Gallery, seen: Survey) -> Pairs:
    first: dict[str, int] = {}
    found = []
    for at in map(int, seen.rows):
        other = first.setdefault(pictures.digests[at], at)
        if other != at:
            found.append((other, at))
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def _trimmed(small: Pixels, sizes: NDArray[np.int64]) -> tuple[Pixels, Borders]:
    """Cut off most of the border that all pictures have; return how much of one is left to each, (N, 2).

    `sizes` (N, 2) are their own widths and heights, what is returned rows and columns.
    """
    # of some border each copy is kept, over which windows fade; colours are compared in 4 × 4 parts
    side = int(np.clip((int(sizes.max(initial=0)) + 3) // 4 * 4 + _BORDER, _LEAST_SIDE, SIDE))
    cut = (SIDE - side) // 2
    own = np.where((sizes.max(axis=1) <= SIDE)[:, None], sizes[:, ::-1], SIDE)
    above = (SIDE - own) // 2 - cut
    return small[..., cut : cut + side, cut : cut + side], np.maximum(above, side - own - above).clip(0)


def _near_duplicates(small: Pixels, borders: Borders, on_step: Step) -> tuple[Pairs, Alignment | None]:
    """Return the pairs of (N, C, S, S) pictures that may be alike, and how one lies on the other."""
    if len(small) < 2:
        return np.empty((0, 2), dtype=np.int64), None
    described = describe(small, counter(on_step, "describing", len(small)))
    proposed = near(described, on_done=counter(on_step, "comparing", len(small)))
    tell = counter(on_step, "aligning", len(proposed))
    parts = [proposed[start : start + _AT_ONCE] for start in range(0, len(proposed), _AT_ONCE)]
    found = []
    with ThreadPoolExecutor(usable_cores()) as pool:
        for part, one in zip(parts, pool.map(lambda part: _laid(small, borders, part), parts), strict=True):
            loose = (one.agreement >= _AGREE_SMALL) & (one.difference <= _DIFFER_SMALL)
            loose &= _tint(small, part, one.way) <= _TINT
            found.append((part[loose], one.take(loose)))
            tell(len(part))
    if not found:
        return np.empty((0, 2), dtype=np.int64), None
    return np.concatenate([part for part, _ in found]), joined([one for _, one in found])


def _laid(small: Pixels, borders: Borders, pairs: Pairs) -> Alignment:
    used, places = np.unique(pairs, return_inverse=True)
    pictures = smooth(luma(small[used]))
    return align(pictures, places.reshape(-1, 2), borders[pairs].max(axis=1), furthest=_FURTHEST)


def _tint(small: Pixels, pairs: Pairs, way: NDArray[np.int64]) -> Floats:
    """Return how far colours differ, in levels (root mean square of an eighth of the size), for each pair."""
    if small.shape[1] == 1:
        return np.zeros(len(pairs), dtype=np.float32)
    one, other = (_colours(small[pairs[:, side]]) for side in (0, 1))
    for number in range(1, len(WAYS)):
        mine = way == number
        other[mine] = turned(other[mine], number)
    return np.asarray(np.sqrt(((one - other) ** 2).mean(axis=(1, 2, 3))))


def _colours(pixels: Pixels) -> Floats:
    """Return red less luma and blue less luma of (N, 3, S, S) pictures, as (N, 2, 4, 4)."""
    values = pixels.astype(np.float32)
    both = values[:, [0, 2]] - luma(pixels)[:, None]
    block = pixels.shape[-1] // 4
    return np.asarray(both.reshape(len(pixels), 2, 4, block, 4, block).mean(axis=(3, 5)))


def _kinds(found: Alignment) -> NDArray[np.int64]:
    moved = (found.down != 0) | (found.across != 0)
    names: list[Likeness] = ["saved again", "mirrored", "turned", "turned"]
    of_way = np.array([LIKENESSES.index(name) for name in names])[found.way]
    return np.where((found.way == 0) & moved, LIKENESSES.index("moved"), of_way)


def _agrees(found: Alignment) -> NDArray[np.bool_]:
    return (found.agreement >= _AGREE) & (found.difference <= _DIFFER)


class _Closer:
    """Pictures at their own size, the last ones remembered."""

    def __init__(self, pictures: Gallery, seen: Survey) -> None:
        self._pictures, self._seen = pictures, seen
        self._last: OrderedDict[int, Image.Image | None] = OrderedDict()

    def _open(self, at: int) -> Image.Image | None:
        if at in self._last:
            self._last.move_to_end(at)
        else:
            try:
                self._last[at] = self._pictures.open(int(self._seen.rows[at]), "own").convert("L")
            except ImageError:  # it could be read a moment ago: whoever changes it will be asked again
                self._last[at] = None
            if len(self._last) > _REMEMBERED:
                self._last.popitem(last=False)
        return self._last[at]

    def look(self, first: int, second: int) -> Alignment | None:
        """Lay a pair on one another at the smaller one's size, 256 pixels at most; None where one is gone."""
        one, other = self._open(first), self._open(second)
        if one is None or other is None:
            return None
        side = min(_CLOSE_SIDE, *map(max, (one.size, other.size)))
        least = min(one.size, other.size, key=max)
        scale = side / max(least)
        size = (max(1, round(least[0] * scale)), max(1, round(least[1] * scale)))
        grey = np.concatenate([self._at(image, size, side) for image in (one, other)])
        borders = np.array([[(side + 1 - size[1]) // 2, (side + 1 - size[0]) // 2]])
        return align(smooth(grey), np.array([[0, 1]]), borders, furthest=side * _FURTHEST // SIDE)

    @staticmethod
    def _at(image: Image.Image, size: tuple[int, int], side: int) -> Floats:
        kind = Image.Resampling.BOX if max(size) < max(image.size) else Image.Resampling.BILINEAR
        fitting = image if image.size == size else image.resize(size, kind)
        pixels = np.asarray(fitting, dtype=np.uint8)[None, None]
        return bordered(pixels, side)[:, 0].astype(np.float32)


def _second_look(
    pictures: Gallery, seen: Survey, pairs: Pairs, found: Alignment, on_step: Step
) -> tuple[Pairs, Alignment]:
    """Judge pairs of pictures that are larger than their small copies again, at their own size.

    Of pictures that are known to be alike through others no pair is looked at.
    """
    large = (seen.sizes.max(axis=1) > SIDE)[pairs].any(axis=1)
    strict = _agrees(found) & ~large
    kept, ways = [pairs[strict]], [found.take(strict)]
    known, closer = Families(len(seen.rows)), _Closer(pictures, seen)
    tell = counter(on_step, "looking closer", int(large.sum()))
    for first, second in pairs[large]:
        tell(1)
        if known.of(int(first)) == known.of(int(second)):
            continue
        closely = closer.look(int(first), int(second))
        if closely is not None and _agrees(closely)[0]:
            known.unite(int(first), int(second))
            kept.append(np.array([[first, second]]))
            ways.append(closely)
    return np.concatenate(kept), joined(ways)


class Families:
    """Numbers from 0 to N − 1 in families that unite."""

    def __init__(self, count: int) -> None:
        self._above = list(range(count))

    def of(self, one: int) -> int:
        """Return the number that stands for the family of `one`."""
        while self._above[one] != one:
            self._above[one] = self._above[self._above[one]]
            one = self._above[one]
        return one

    def unite(self, one: int, other: int) -> None:
        """Make the families of both one."""
        one, other = sorted((self.of(one), self.of(other)))
        self._above[other] = one


def families(count: int, pairs: Pairs) -> NDArray[np.int64]:
    """Return for each of N numbers the least of its family (N,), families being what pairs connect."""
    found = Families(count)
    for first, second in pairs:
        found.unite(int(first), int(second))
    return np.array([found.of(one) for one in range(count)], dtype=np.int64)


def groups(pictures: Gallery, alike: Likenesses) -> tuple[DuplicateGroup, ...]:
    """Return pictures that are alike in groups: those across parts first, then those of several labels."""
    family = families(len(pictures), alike.pairs)
    kinds: dict[int, int] = {}
    for (first, _), kind in zip(alike.pairs, alike.kinds, strict=True):
        one = int(family[first])
        kinds[one] = max(kinds.get(one, 0), int(kind))
    members: dict[int, list[int]] = {one: [] for one in kinds}
    for at in np.flatnonzero(np.isin(family, list(kinds))):
        members[int(family[at])].append(int(at))
    found = [_group(pictures, members[one], LIKENESSES[kind]) for one, kind in kinds.items()]
    return tuple(sorted(found, key=lambda one: (not one.across_splits, not one.contradicts, one.files)))


def _group(pictures: Gallery, members: list[int], kind: Likeness) -> DuplicateGroup:
    return DuplicateGroup(
        files=tuple(pictures.names[at] for at in members),
        kind=kind,
        labels=tuple(pictures.classes[pictures.labels[at]] for at in members),
        parts=tuple(pictures.parts[at] for at in members),
    )
