"""Entries decoded to pixels of one size: by threads, with all that is damaged collected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from toolkit.errors import CnnkitError, ImageError
from toolkit.images import Pixels, read_image
from toolkit.listings import MOST_BYTES, PLAIN, Entry, LeftOut, Reading
from toolkit.listings.hashing import content_hash
from toolkit.listings.parts import Member
from toolkit.preprocessing import Preprocessing, fit_pixels

CHANGED = "changed while it was read"


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """Pictures (N, C, H, W) uint8 of the `members` that could be read, and what could not be."""

    pixels: Pixels
    members: tuple[Member, ...]
    damaged: tuple[LeftOut, ...]


def plain_pixels(shape: tuple[int, int, int]) -> Preprocessing:
    """Return what brings pictures to (C, H, W) and leaves their levels as they are."""
    channels, height, width = shape
    return Preprocessing(
        size=(height, width), channels=channels, mean=(0.0,) * channels, std=(1.0,) * channels
    )


def open_entry(entry: Entry, reading: Reading = PLAIN, *, sha256: str | None = None) -> Image.Image:
    """Decode one entry, upright, in mode L or RGB. Raises ImageError, with the entry's name, in one line.

    Bytes of another hash than `sha256` are refused: the file was changed since it was listed.
    """
    try:
        data = entry.place.read()
    except ImageError:
        raise
    except (OSError, EOFError, CnnkitError) as error:
        raise ImageError(
            f"{entry.name} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from None
    if sha256 is not None and content_hash(data) != sha256:
        raise ImageError(f"{entry.name} {CHANGED}; let nothing write there and run this again")
    return read_image(data, name=entry.name, max_pixels=reading.max_pixels, max_bytes=MOST_BYTES)


def decode(
    wanted: Sequence[Member],
    target: Preprocessing,
    reading: Reading = PLAIN,
    on_decoded: Callable[[int], None] = lambda done: None,
) -> Decoded:
    """Decode pictures to a size and colours, in their order, straight into one array."""
    pixels = np.empty((len(wanted), target.channels, *target.size), dtype=np.uint8)

    def read(at: int) -> LeftOut | None:
        member = wanted[at]
        try:
            pixels[at] = fit_pixels(open_entry(member.entry, reading, sha256=member.sha256), target)
        except ImageError as error:
            return LeftOut(name=member.entry.name, why=str(error).removeprefix(f"{member.entry.name} "))
        return None

    damaged = []
    # Pillow's decoders release the interpreter lock, so threads help
    with ThreadPoolExecutor() as pool:
        for found in pool.map(read, range(len(wanted))):
            damaged.append(found)
            on_decoded(1)
    good = [at for at, found in enumerate(damaged) if found is None]
    whole = len(good) == len(wanted)
    return Decoded(
        pixels=pixels if whole else pixels[good],
        members=tuple(wanted) if whole else tuple(wanted[at] for at in good),
        damaged=tuple(found for found in damaged if found is not None),
    )
