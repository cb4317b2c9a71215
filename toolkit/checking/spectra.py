"""What a picture is wherever it lies: amplitudes of its spectrum, equal for moved and mirrored copies.

Amplitudes of a Fourier transform do not change when a picture is moved round, and mirroring only swaps
those of (u, v) and (−u, v): their sum and their difference, unsigned, are equal for both. Every step is
linear or contracts, so pictures that are close, whichever way they are turned, have close descriptors.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from toolkit.images import Floats, Pixels
from toolkit.processes import usable_cores

SIDE = 32
NEIGHBOURS = 8
# of amplitudes: what is kept of a picture is coarser than three pixels
_HIGHEST = 10
_KEPT = 64
_SAMPLE = 12_000
_AT_ONCE = 1024
# what of a picture's own amplitudes a copy that is moved by two pixels of 32 keeps, at the least
_REACH = 0.4
# a chunk by so many rows is so small a product that BLAS wakes no threads for it: it runs in threads here
_ROWS, _CHUNK = 60, 64
_NOBODY = np.float32(-1e30)

Pairs = NDArray[np.int64]


def luma(pixels: Pixels) -> Floats:
    """Return the brightness (N, H, W) of (N, C, H, W) uint8 pictures, 0 to 255."""
    if pixels.shape[1] == 1:
        return pixels[:, 0].astype(np.float32)
    weights = np.array([0.299, 0.587, 0.114], dtype=np.float32)
    return np.asarray(np.einsum("nchw,c->nhw", pixels.astype(np.float32), weights, optimize=False))


def fading(side: int) -> Floats:
    """Return a (side, side) window that fades towards the border: what moves in there matters least."""
    edge = np.sqrt(np.hanning(side + 2)[1:-1])
    return np.outer(edge, edge).astype(np.float32)


def faded(grey: Floats) -> Floats:
    """Return (N, S, S) pictures without their mean, faded towards the border."""
    window = fading(grey.shape[-1])
    means = np.einsum("nhw,hw->n", grey, window) / window.sum()
    return np.asarray((grey - means[:, None, None]) * window, dtype=np.float32)


def amplitudes(grey: Floats) -> Floats:
    """Return what (N, S, S) pictures keep when they are moved or mirrored, as (N, D) float32."""
    spectrum = np.abs(np.fft.rfft2(faded(grey))) / grey.shape[-1]
    up = np.arange(_HIGHEST + 1)
    ahead, behind = spectrum[:, up, : _HIGHEST + 1], spectrum[:, -up, : _HIGHEST + 1]
    both = np.stack([ahead + behind, np.abs(ahead - behind)], axis=1)
    return np.asarray(both.reshape(len(grey), -1), dtype=np.float32)


def describe(pixels: Pixels, on_done: Callable[[int], None] = lambda done: None) -> Floats:
    """Return descriptors (N, D) float32 of (N, C, S, S) uint8 pictures: their amplitudes' main components."""
    random = np.random.default_rng(0)
    few = pixels
    if len(pixels) > _SAMPLE:
        few = pixels[np.sort(random.choice(len(pixels), _SAMPLE, replace=False))]
    sample = np.concatenate([_amplitudes_of(few, start) for start in range(0, len(few), _AT_ONCE)])
    mean = sample.mean(axis=0)
    _, vectors = np.linalg.eigh(np.cov((sample - mean).T) if len(sample) > 1 else np.eye(len(mean)))
    main = np.ascontiguousarray(vectors[:, ::-1][:, :_KEPT], dtype=np.float32)
    made = np.empty((len(pixels), main.shape[1]), dtype=np.float32)
    for start in range(0, len(pixels), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        made[part] = _amplitudes_of(pixels, start) @ main
        on_done(len(made[part]))
    return made


def _amplitudes_of(pixels: Pixels, start: int) -> Floats:
    """Return the amplitudes of some pictures: of all of them, spectra would take much memory."""
    return amplitudes(luma(pixels[start : start + _AT_ONCE]))


def near(
    described: Floats, count: int = NEIGHBOURS, on_done: Callable[[int], None] = lambda done: None
) -> Pairs:
    """Return pairs (M, 2), lower index first: each picture with its `count` nearest that are in reach."""
    sizes = np.einsum("nd,nd->n", described, described)
    described = described - described.mean(axis=0)
    lengths = np.einsum("nd,nd->n", described, described)
    total = -(-len(described) // _CHUNK) * _CHUNK
    # nearness 2xy − y² orders as −(x − y)² does, and is one product
    theirs = np.full((total, described.shape[1] + 1), 0, dtype=np.float32)
    theirs[:, -1] = _NOBODY
    theirs[: len(described), :-1], theirs[: len(described), -1] = 2 * described, -lengths

    def block(start: int) -> Pairs:
        mine = described[start : start + _ROWS]
        rows = np.arange(start, start + len(mine))
        best, nearness = _nearest(mine, theirs, rows, count)
        squared = lengths[rows][:, None] - nearness
        # what fills the last chunk is nobody's neighbour
        best = np.minimum(best, len(described) - 1)
        close = squared <= _REACH**2 * np.minimum(sizes[rows][:, None], sizes[best])
        at, rank = np.nonzero(close & np.isfinite(nearness))
        return np.stack([rows[at], best[at, rank]], axis=1)

    with ThreadPoolExecutor(usable_cores()) as pool:
        found = []
        for pairs in pool.map(block, range(0, len(described), _ROWS)):
            found.append(pairs)
            on_done(min(_ROWS, len(described) - (len(found) - 1) * _ROWS))
    pairs = np.sort(np.concatenate(found), axis=1) if found else np.empty((0, 2), dtype=np.int64)
    return np.unique(pairs, axis=0)


def _nearest(
    mine: Floats, theirs: Floats, rows: NDArray[np.int64], count: int
) -> tuple[NDArray[np.int64], Floats]:
    """Return the nearest of each row, but for itself, and how near they are, both (rows, count)."""
    ones = np.ascontiguousarray(np.concatenate([mine, np.ones((len(mine), 1), np.float32)], axis=1).T)
    by_chunk = np.matmul(theirs.reshape(-1, _CHUNK, theirs.shape[1]), ones)
    nearness = by_chunk.reshape(-1, len(mine))
    nearness[rows, rows - rows[0]] = -np.inf
    # the nearest lie in the chunks whose nearest are nearest
    tops = by_chunk.max(axis=1)
    chunks = np.argpartition(-tops, min(count, len(tops)) - 1, axis=0)[:count]
    places = (chunks[:, None] * _CHUNK + np.arange(_CHUNK)[:, None]).reshape(-1, len(mine))
    values = np.take_along_axis(nearness, places, axis=0)
    order = np.argpartition(-values, min(count, len(values)) - 1, axis=0)[:count]
    return np.take_along_axis(places, order, axis=0).T, np.take_along_axis(values, order, axis=0).T
