"""A data set in memory, made of the listing of any source."""

from __future__ import annotations

import numpy as np

from toolkit.datasets import Dataset, Fit, Split
from toolkit.errors import CorruptError, NotFoundError
from toolkit.listings import LeftOut, Listing, Reading
from toolkit.listings.decoding import Decoded, decode, open_entry, plain_pixels
from toolkit.listings.parts import Member, fingerprint, members
from toolkit.preprocessing import Preprocessing

_NAMED = 3


def in_memory(listing: Listing, size: Fit | None, reading: Reading) -> Dataset:
    """Decode a listing as (C, H, W) uint8 of `size`, or of its first picture's own size and colours.

    With a whole preprocessing they are the pixels that its network sees.

    Raises NotFoundError where there are none, CorruptError naming the pictures that cannot be read.
    """
    held = members(listing)
    chosen = {part: [one for one in held if one.part == part] for part in ("train", "validation", "test")}
    if not held:
        raise NotFoundError(f"{listing.word} holds no pictures")
    fitted = size if isinstance(size, Preprocessing) else None
    shape = None if isinstance(size, Preprocessing) else size
    target = fitted or plain_pixels(shape or _own_shape((chosen["train"] or held)[0], reading))
    decoded = {part: decode(these, target, reading) for part, these in chosen.items()}
    damaged = [one for part in decoded.values() for one in part.damaged]
    if damaged and not reading.skip_damaged:
        raise CorruptError(_told(damaged))
    read = tuple(one for part in decoded.values() for one in part.members)
    return Dataset(
        name=listing.word,
        train=_split(decoded["train"], fitted),
        validation=_split(decoded["validation"], fitted) if chosen["validation"] else None,
        test=_split(decoded["test"], fitted),
        classes=listing.classes,
        source=str(listing.root),
        fingerprint=fingerprint(listing.classes, read),
        listing=listing,
    )


def _split(decoded: Decoded, fitted: Preprocessing | None) -> Split:
    labels = np.array([one.entry.label for one in decoded.members], dtype=np.int64)
    return Split(images=decoded.pixels, labels=labels, members=decoded.members, fitted=fitted)


def _own_shape(member: Member, reading: Reading) -> tuple[int, int, int]:
    image = open_entry(member.entry, reading)
    return (1 if image.mode == "L" else 3, image.height, image.width)


def _told(damaged: list[LeftOut]) -> str:
    named = "; ".join(f"{one.name} {one.why}" for one in damaged[:_NAMED])
    more = f", and {len(damaged) - _NAMED} more" if len(damaged) > _NAMED else ""
    return f"{named}{more}; remove or mend them"
