"""Entries decoded to pixels of one size: by threads, with all that is damaged collected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toolkit.errors import CnnkitError, ImageError
from toolkit.flattening import Levels, Wide
from toolkit.images import Pixels, read_image
from toolkit.listings import MOST_BYTES, PLAIN, Entry, LeftOut, Reading
from toolkit.listings.hashing import content_hash
from toolkit.listings.parts import Member
from toolkit.preprocessing import Preprocessing, fit_pixels

if TYPE_CHECKING:
    from toolkit.listings.rows import Images

# is told after each picture that so many more are done
Decoding = Callable[[int], None]

CHANGED = "changed while it was read"


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """Pictures (N, C, H, W) uint8 of the `members` that could be read, and what could not be.

    `shapes` (N, 3) are the channels, height and width that each has in its file.
    """

    pixels: Images
    members: tuple[Member, ...]
    damaged: tuple[LeftOut, ...]
    shapes: NDArray[np.int32]


def plain_pixels(shape: tuple[int, int, int], levels: Levels | None = None) -> Preprocessing:
    """Return what brings pictures to (C, H, W) and 8 bits, and scales nothing."""
    channels, height, width = shape
    return Preprocessing(
        size=(height, width), channels=channels, mean=(0.0,) * channels, std=(1.0,) * channels, levels=levels
    )


def read_entry(entry: Entry, sha256: str | None = None) -> bytes:
    """Return one entry's bytes. Raises ImageError, with the entry's name, in one line.

    Bytes of another hash than `sha256` are refused: the file was changed since it was listed.
    """
    try:
        data = entry.place.read()
    except (OSError, EOFError, CnnkitError) as error:
        why = getattr(error, "strerror", None) or error
        raise ImageError(f"{entry.name} cannot be read: {why}") from None
    if sha256 is not None and content_hash(data) != sha256:
        raise ImageError(f"{entry.name} {CHANGED}; let nothing write there and run this again")
    return data


def open_entry(
    entry: Entry, reading: Reading = PLAIN, *, sha256: str | None = None, wide: Wide = "guess"
) -> Image.Image:
    """Decode one entry, upright, in mode L or RGB. Raises ImageError, with the entry's name, in one line."""
    return read_image(
        read_entry(entry, sha256),
        name=entry.name,
        max_pixels=reading.max_pixels,
        max_bytes=MOST_BYTES,
        wide=wide,
    )


def decode_one(
    member: Member, target: Preprocessing, reading: Reading = PLAIN
) -> tuple[Pixels, tuple[int, int, int]]:
    """Return one picture at a size, (C, H, W), and the shape in its file. Raises ImageError in one line."""
    image = open_entry(member.entry, reading, sha256=member.sha256, wide=target.wide)
    return fit_pixels(image, target), (len(image.getbands()), image.height, image.width)


def left_out(member: Member, error: ImageError) -> LeftOut:
    """Return what is told of a picture that cannot be read."""
    return LeftOut(name=member.entry.name, why=str(error).removeprefix(f"{member.entry.name} "))


def decode(
    wanted: Sequence[Member],
    target: Preprocessing,
    reading: Reading = PLAIN,
    on_decoded: Decoding = lambda done: None,
) -> Decoded:
    """Decode pictures to a size and colours, in their order, straight into one array."""
    pixels = np.empty((len(wanted), target.channels, *target.size), dtype=np.uint8)
    shapes = np.zeros((len(wanted), 3), dtype=np.int32)

    def read(at: int) -> LeftOut | None:
        member = wanted[at]
        try:
            pixels[at], shapes[at] = decode_one(member, target, reading)
        except ImageError as error:
            return left_out(member, error)
        return None

    damaged: dict[int, LeftOut] = {}
    # in the order in which they lie in their files
    order = sorted(range(len(wanted)), key=lambda at: place_of(wanted[at]))
    # Pillow's decoders release the interpreter lock, so threads help
    with ThreadPoolExecutor() as pool:
        for at, found in zip(order, pool.map(read, order), strict=True):
            if found is not None:
                damaged[at] = found
            on_decoded(1)
    good = [at for at in range(len(wanted)) if at not in damaged]
    return Decoded(
        pixels=pixels[good] if damaged else pixels,
        members=tuple(wanted[at] for at in good),
        damaged=tuple(damaged[at] for at in sorted(damaged)),
        shapes=shapes[good],
    )


def place_of(member: Member) -> tuple[str, str]:
    """Return where a picture lies, to go through many in the order of their files."""
    place = member.entry.place
    return str(place.path), place.within
