"""A data set in memory, made of the listing of any source."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from toolkit.datasets import Dataset, Fit, Split
from toolkit.errors import DamagedError, ImageError, NotFoundError
from toolkit.flattening import Levels
from toolkit.listings import PARTS, LeftOut, Listing, Reading
from toolkit.listings.decoding import Decoded, Decoding, open_entry, plain_pixels
from toolkit.listings.parts import Member, fingerprint
from toolkit.listings.store import gather
from toolkit.preprocessing import Preprocessing

_NAMED = 20


def in_memory(
    listing: Listing,
    held: Sequence[Member],
    size: Fit | None,
    reading: Reading,
    *,
    levels: Levels | None,
    on_decoded: Decoding,
) -> Dataset:
    """Decode a listing's members as (C, H, W) uint8 of `size`, or of the first one's own size and colours.

    With a whole preprocessing they are the pixels that its network sees; `levels` are for the others.
    Raises NotFoundError where there are none, DamagedError naming all pictures that cannot be read.
    """
    if not held:
        raise NotFoundError(f"{listing.word} holds no pictures")
    chosen = {part: [one for one in held if one.part == part] for part in PARTS}
    fitted = size if isinstance(size, Preprocessing) else None
    shape = None if isinstance(size, Preprocessing) else size
    target = fitted or plain_pixels(shape or _own_shape(chosen["train"] or held, reading), levels)
    decoded = {
        part: gather(listing.word, these, target, reading, on_decoded, whole=held)
        for part, these in chosen.items()
    }
    found = (one for part in decoded.values() for one in part.damaged)
    damaged = tuple(sorted(found, key=lambda one: one.name))
    if damaged and not reading.skip_damaged:
        raise damaged_error(damaged)
    read = {part: _split(these, fitted) for part, these in decoded.items()}
    return Dataset(
        name=listing.word,
        train=read["train"],
        validation=read["validation"] if len(read["validation"]) else None,
        test=read["test"],
        classes=listing.classes,
        source=str(listing.root),
        fingerprint=fingerprint(listing.classes, held),
        listing=listing,
        damaged=damaged,
        shapes=np.concatenate([part.shapes for part in decoded.values()]),
    )


def damaged_error(damaged: Sequence[LeftOut]) -> DamagedError:
    """Return the error that names damaged pictures."""
    lines = tuple(f"{one.name} {one.why}" for one in damaged)
    more = f"; and {len(lines) - _NAMED:,} more" if len(lines) > _NAMED else ""
    count = f"{len(lines):,} pictures cannot be read: " if len(lines) > 1 else ""
    text = f"{count}{'; '.join(lines[:_NAMED])}{more}; remove or mend them"
    return DamagedError(text, lines)


def _split(decoded: Decoded, fitted: Preprocessing | None) -> Split:
    labels = np.array([one.entry.label for one in decoded.members], dtype=np.int64)
    return Split(images=decoded.pixels, labels=labels, members=decoded.members, fitted=fitted)


def _own_shape(held: Sequence[Member], reading: Reading) -> tuple[int, int, int]:
    """Return the shape of the first picture that can be read, in the order of names."""
    for member in sorted(held, key=lambda one: (one.entry.label, one.entry.name)):
        try:
            image = open_entry(member.entry, reading)
        except ImageError:
            continue
        return (1 if image.mode == "L" else 3, image.height, image.width)
    return (3, 1, 1)  # decoding them will say what is wrong with each
