"""Two pictures laid over one another: which way, how far moved, and how well they then agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from toolkit.checking.spectra import faded
from toolkit.images import Floats

# how the second picture is turned to lie on the first: (upside down, mirrored)
WAYS = ((False, False), (False, True), (True, False), (True, True))
_BLUR = 2
# what storing with losses changes, in levels
_LOSS = 4.0
# where one may lie on the other: of stripes the likeliest place may be a wrong one, so others are tried where
# more levels are left of the fit
_PLACES, _LITTLE = 3, 1.0
# rows or columns by which two pictures can be told to be alike
_LEAST = 4
# rows and columns (M, 2) on either side of pictures that only repeat their edge
Borders = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """How the second of each of M pairs lies on the first, all (M,).

    `way` is a place in WAYS, `down` and `across` the pixels by which the turned second is moved, `agreement`
    their correlation where they overlap, `difference` what is left of the fit in grey levels (root mean
    square of smoothed pictures).
    """

    way: NDArray[np.int64]
    down: NDArray[np.int64]
    across: NDArray[np.int64]
    agreement: Floats
    difference: Floats

    def take(self, chosen: NDArray[np.bool_]) -> Alignment:
        """Return those of the chosen pairs."""
        return Alignment(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})


def joined(parts: Sequence[Alignment]) -> Alignment:
    """Return the alignments of all parts, in their order."""
    return Alignment(
        **{
            field.name: np.concatenate([getattr(one, field.name) for one in parts])
            for field in fields(Alignment)
        }
    )


def smooth(grey: Floats) -> Floats:
    """Blur (N, H, W) pictures by one pixel: what storing with losses changes is finer than that."""
    taps = np.array([0.0545, 0.2442, 0.4026, 0.2442, 0.0545], dtype=np.float32)  # a Gaussian of 1 pixel
    for axis in (1, 2):
        wide = np.pad(grey, [(0, 0)] + [(2, 2) if axis == one else (0, 0) for one in (1, 2)], mode="edge")
        size = grey.shape[axis]
        grey = sum(tap * np.take(wide, range(at, at + size), axis=axis) for at, tap in enumerate(taps))
    return grey


def turned(grey: Floats, way: int) -> Floats:
    """Return (…, H, W) pictures turned as WAYS says."""
    down, across = WAYS[way]
    return grey[..., :: -1 if down else 1, :: -1 if across else 1]


def align(pictures: Floats, pairs: NDArray[np.int64], borders: Borders, *, furthest: int) -> Alignment:
    """Lay the second of each pair (M, 2) of smooth `pictures` (P, S, S) on the first.

    `borders` (M, 2) are the rows and columns that no picture of a pair has of its own, on either side.
    """
    moves = np.r_[0 : furthest + 1, -furthest:0]
    places = _likeliest(_flattened(pictures), pairs, moves)
    first, second = pictures[pairs[:, 0]], pictures[pairs[:, 1]]
    found = _laid(first, second, places[:, 0], moves, borders)
    for at in range(1, _PLACES):
        open_ = np.flatnonzero(found.difference > _LITTLE)
        other = _laid(first[open_], second[open_], places[open_, at], moves, borders[open_])
        better = other.difference < found.difference[open_]
        for field in fields(Alignment):
            getattr(found, field.name)[open_[better]] = getattr(other, field.name)[better]
    return found


def _likeliest(
    spectra: NDArray[np.complex64], pairs: NDArray[np.int64], moves: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return of each pair the likeliest places (M, 3) among ways × moves × moves, the best first."""
    side, count = spectra.shape[1], len(moves) ** 2
    ours, (down, across) = spectra[pairs[:, 0]], _back(side, moves)
    values, places = [], []
    for number, theirs in enumerate(_turned_spectra(spectra[pairs[:, 1]], side)):
        crossed = ours * theirs.conj()
        # pair by pair: one large product would wake threads beside those that this runs in
        halves = np.ascontiguousarray((crossed @ across).transpose(0, 2, 1)).view(np.float32)
        reached = (halves @ down).transpose(0, 2, 1).reshape(len(pairs), -1)
        top = np.argpartition(-reached, _PLACES, axis=1)[:, :_PLACES]
        values.append(np.take_along_axis(reached, top, axis=1))
        places.append(top + number * count)
    order = np.argsort(-np.concatenate(values, axis=1), axis=1, kind="stable")[:, :_PLACES]
    return np.take_along_axis(np.concatenate(places, axis=1), order, axis=1)


def _back(side: int, moves: NDArray[np.int64]) -> tuple[Floats, NDArray[np.complex64]]:
    """Return the matrices that turn half a spectrum into its values at moves × moves, columns first.

    Few moves are asked for, and two products are less work than an inverse transform to all places. The
    first matrix (2 · side, moves) takes a real and an imaginary part in turn.
    """
    angles = 2 * np.pi / side * np.arange(side)[:, None] * moves
    # all columns stand for two of the whole spectrum, but for the first, and the last of an even side
    twice = np.where((np.arange(side // 2 + 1) % (side / 2)) == 0, 1.0, 2.0)[:, None]
    down = np.stack([np.cos(angles), -np.sin(angles)], axis=1).reshape(2 * side, -1)
    across = np.exp(1j * angles[: side // 2 + 1]) * twice / side**2
    return down.astype(np.float32), across.astype(np.complex64)


def _laid(
    first: Floats, second: Floats, places: NDArray[np.int64], moves: NDArray[np.int64], borders: Borders
) -> Alignment:
    way, move = np.divmod(places, len(moves) ** 2)
    down, across = moves[move // len(moves)], moves[move % len(moves)]
    moved = np.stack([down, across], axis=1)
    agreement, difference = _agree(first, second, way, moved, borders)
    return Alignment(way=way, down=down, across=across, agreement=agreement, difference=difference)


def _flattened(grey: Floats) -> NDArray[np.complex64]:
    """Return spectra whose amplitudes are nearly equal: stripes fit everywhere, only all detail tells where.

    Source: Kuglin and Hines, "The phase correlation image alignment method" (1975); amplitudes below those of
    a storage with losses stay small.
    """
    spectra = np.fft.rfft2(faded(grey))
    return np.asarray(spectra / (np.abs(spectra) + _LOSS * grey.shape[-1]), dtype=np.complex64)


def _turned_spectra(spectra: NDArray[np.complex64], side: int) -> Iterator[NDArray[np.complex64]]:
    """Yield the spectra of pictures turned in each of WAYS: those of turned pictures need no transform."""
    step = np.exp(2j * np.pi * np.arange(side) / side).astype(np.complex64)
    down, across = step[:, None], step[None, : side // 2 + 1]
    under = np.roll(spectra[:, ::-1], 1, axis=1)
    yield spectra
    yield under.conj() * across
    yield under * down
    yield spectra.conj() * down * across


def _agree(
    first: Floats,
    second: Floats,
    way: NDArray[np.int64],
    moves: NDArray[np.int64],
    borders: Borders,
) -> tuple[Floats, Floats]:
    """Return the correlation of pairs where they overlap, and the root mean square that a linear fit leaves.

    Where they were moved, what came in at their edge was smoothed into what lies beside it, and repeated as
    their border: both are left out.
    """
    side = first.shape[-1]
    kept = [_kept(side, moves[:, axis], borders[:, axis]) for axis in (0, 1)]
    inside = kept[0][:, :, None] & kept[1][:, None, :]
    count = np.maximum(inside.sum(axis=(1, 2)), 1).astype(np.float32)
    ones = _centred(first, inside, count)
    others = _centred(_moved(second, way, moves), inside, count)
    a, b, cross = (
        np.einsum("mij,mij->m", one, other) / count
        for one, other in ((ones, ones), (others, others), (ones, others))
    )
    agreement = cross / np.sqrt(np.maximum(a * b, 1e-12))
    left = np.sqrt(np.maximum(1 - agreement**2, 0) * np.minimum(a, b))
    return agreement, left


def _kept(size: int, moved: NDArray[np.int64], border: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which of so many rows of the first pictures lie on rows of the second's own, (M, size)."""
    start, stop = np.maximum(moved, 0), size + np.minimum(moved, 0)
    unlike = np.where(moved != 0, border + _BLUR, 0)
    unlike = np.where(stop - start - 2 * unlike < _LEAST, 0, unlike)  # of a strip too little would be left
    places = np.arange(size)
    return (places >= (start + unlike)[:, None]) & (places < (stop - unlike)[:, None])


def _moved(second: Floats, way: NDArray[np.int64], moves: NDArray[np.int64]) -> Floats:
    """Return the second pictures, turned and moved to where they lie on the first; edges come in again."""
    side = second.shape[-1]
    rows, columns = (np.arange(side)[None] - moves[:, axis, None] for axis in (0, 1))
    down, across = np.array(WAYS).T
    rows = np.where(down[way][:, None], side - 1 - rows, rows) % side
    columns = np.where(across[way][:, None], side - 1 - columns, columns) % side
    return np.asarray(second[np.arange(len(second))[:, None, None], rows[:, :, None], columns[:, None, :]])


def _centred(pictures: Floats, inside: NDArray[np.bool_], count: Floats) -> Floats:
    """Return (M, S, S) pictures less the mean of what is inside, and 0 outside."""
    means = np.einsum("mij,mij->m", pictures, inside) / count
    return np.asarray((pictures - means[:, None, None]) * inside, dtype=np.float32)
