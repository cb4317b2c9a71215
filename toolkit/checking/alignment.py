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


def align(first: Floats, second: Floats, borders: Borders, *, furthest: int) -> Alignment:
    """Lay the second of each pair on the first, both (M, S, S) and smooth, moved `furthest` at most.

    `borders` (M, 2) are the rows and columns that no picture has of its own, on either side.
    """
    moves = np.r_[0 : furthest + 1, -furthest:0]
    places = _likeliest(first, second, moves)
    found = _laid(first, second, places[:, 0], moves, borders)
    for at in range(1, _PLACES):
        open_ = np.flatnonzero(found.difference > _LITTLE)
        other = _laid(first[open_], second[open_], places[open_, at], moves, borders[open_])
        better = other.difference < found.difference[open_]
        for field in fields(Alignment):
            getattr(found, field.name)[open_[better]] = getattr(other, field.name)[better]
    return found


def _likeliest(first: Floats, second: Floats, moves: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return of each pair the likeliest places (M, 3) among ways × moves × moves, the best first."""
    side, count = first.shape[-1], len(moves) ** 2
    ours, theirs = _flattened(first), _flattened(second)
    values, places = [], []
    for number, spectrum in enumerate(_turned_spectra(theirs, side)):
        crossed = np.fft.irfft2(ours * spectrum.conj(), s=(side, side))
        reached = crossed[:, moves[:, None], moves].reshape(len(first), -1)
        top = np.argpartition(-reached, _PLACES, axis=1)[:, :_PLACES]
        values.append(np.take_along_axis(reached, top, axis=1))
        places.append(top + number * count)
    order = np.argsort(-np.concatenate(values, axis=1), axis=1, kind="stable")[:, :_PLACES]
    return np.take_along_axis(np.concatenate(places, axis=1), order, axis=1)


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
    agreement, difference = (np.empty(len(first), dtype=np.float32) for _ in range(2))
    keys = np.concatenate([way[:, None], moves, borders], axis=1)
    for key in np.unique(keys, axis=0):
        pairs = np.flatnonzero((keys == key).all(axis=1))
        turn, *moved, high, wide = map(int, key)
        one, other = overlapping(
            first[pairs], turned(second[pairs], turn), (moved[0], moved[1]), (high, wide)
        )
        agreement[pairs], difference[pairs] = correlate(one, other)
    return agreement, difference


def overlapping(
    first: Floats, second: Floats, moved: tuple[int, int], border: tuple[int, int]
) -> tuple[Floats, Floats]:
    """Return what of (…, H, W) pictures lies on one another when the second is moved by so many pixels.

    Where they were moved, what came in at their edge was smoothed into what lies beside it, and repeated as
    their border: both are left out.
    """
    ends = zip(first.shape[-2:], moved, border, strict=True)
    rows, columns = (_spans(*end) for end in ends)
    return first[..., rows[0], columns[0]], second[..., rows[1], columns[1]]


def _spans(size: int, moved: int, border: int) -> tuple[slice, slice]:
    unlike = border + _BLUR if moved else 0
    start, stop = max(moved, 0) + unlike, size + min(moved, 0) - unlike
    if stop - start < _LEAST:  # of a strip too little would be left
        start, stop = max(moved, 0), size + min(moved, 0)
    return slice(start, stop), slice(start - moved, stop - moved)


def correlate(one: Floats, other: Floats) -> tuple[Floats, Floats]:
    """Return the correlation of (M, h, w) pictures, and the root mean square that a linear fit leaves."""
    ones, others = (part.reshape(len(part), -1) for part in (one, other))
    ones, others = (part - part.mean(axis=1, keepdims=True) for part in (ones, others))
    a, b = (np.einsum("np,np->n", part, part) / part.shape[1] for part in (ones, others))
    cross = np.einsum("np,np->n", ones, others) / ones.shape[1]
    agreement = cross / np.sqrt(np.maximum(a * b, 1e-12))
    left = np.sqrt(np.maximum(1 - agreement**2, 0) * np.minimum(a, b))
    return agreement.astype(np.float32), left.astype(np.float32)
