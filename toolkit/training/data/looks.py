"""What pictures of one's own look like before they are decoded: colours, and values of more than 8 bits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from toolkit.errors import CnnkitError, ImageError
from toolkit.flattening import Levels
from toolkit.images import value_range
from toolkit.listings import MOST_BYTES, Reading
from toolkit.listings.decoding import open_entry, read_entry
from toolkit.listings.parts import Member

LOOKED_AT = 100  # pictures, by their hashes, so that they are a fair sample
_COLOUR = 8  # levels by which channels differ before a picture counts as coloured


@dataclass(frozen=True, kw_only=True)
class Looks:
    """Whether any of the pictures that were looked at has colours, or values of more than 8 bits."""

    coloured: bool
    wide: bool


def look(held: Sequence[Member], reading: Reading) -> Looks:
    """Look at some of the pictures for training; damaged ones say nothing."""
    learned = sorted((one for one in held if one.part == "train"), key=lambda one: one.sha256)
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda one: _look(one, reading), learned[:LOOKED_AT]))
    return Looks(coloured=any(one.coloured for one in found), wide=any(one.wide for one in found))


def _look(member: Member, reading: Reading) -> Looks:
    try:
        data = read_entry(member.entry)
        wide = value_range(data, name=member.entry.name, max_pixels=reading.max_pixels, max_bytes=MOST_BYTES)
        image = open_entry(member.entry, reading)
    except ImageError:
        return Looks(coloured=False, wide=False)
    pixels = np.asarray(image.reduce(max(1, min(image.size) // 64)), dtype=np.int16)
    coloured = pixels.ndim == 3 and int(np.ptp(pixels, axis=2).max()) > _COLOUR
    return Looks(coloured=coloured, wide=wide is not None)


def measured_levels(held: Sequence[Member], reading: Reading, looks: Looks) -> Levels | None:
    """Return the range of values of all training pictures of more than 8 bits; None where there are none."""
    if not looks.wide:
        return None

    def measure(member: Member) -> Levels | None:
        try:
            return value_range(
                read_entry(member.entry),
                name=member.entry.name,
                max_pixels=reading.max_pixels,
                max_bytes=MOST_BYTES,
            )
        except ImageError:
            return None

    with ThreadPoolExecutor() as pool:
        ranges = [found for found in pool.map(measure, (m for m in held if m.part == "train")) if found]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    if low == high:
        raise CnnkitError(f"every pixel of the training pictures of more than 8 bits is {low:g}")
    return low, high


def typed_levels(text: str) -> Levels:
    """Read `LOW,HIGH`. Raises CnnkitError for anything else."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = math.nan
    if not -math.inf < low < high < math.inf:
        raise CnnkitError(f"--levels {text!r}: wanted are two numbers, the lower one first, as in 0,4095")
    return low, high
