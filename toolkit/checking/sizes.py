"""Sizes that are unlike the others'."""

from __future__ import annotations

import numpy as np

from toolkit.checking import OddSize
from toolkit.checking.pictures import Gallery
from toolkit.checking.survey import Survey

# of the median's area and proportions, smaller or larger by more
_SMALLER, _NARROWER = 16.0, 3.0
_LEAST = 8


def odd_sizes(pictures: Gallery, seen: Survey) -> tuple[OddSize, ...]:
    """Return pictures of few pixels, or much smaller or much narrower than the median picture."""
    if not len(seen.rows):
        return ()
    wide, high = seen.sizes[:, 0].astype(float), seen.sizes[:, 1].astype(float)
    area, shape = wide * high, wide / high
    usual, middle = float(np.median(area)), float(np.median(shape))
    ratio = np.maximum(shape / middle, middle / shape)
    reasons = (
        (np.minimum(wide, high) < min(_LEAST, float(np.median(np.minimum(wide, high)))), "a few pixels only"),
        (area * _SMALLER < usual, "much smaller than most"),
        (ratio > _NARROWER, "much longer or narrower than most"),
    )
    found: dict[int, str] = {}
    for odd, why in reasons:
        for at in np.flatnonzero(odd):
            found.setdefault(int(at), why)
    return tuple(
        OddSize(
            file=pictures.names[seen.rows[at]],
            width=int(seen.sizes[at, 0]),
            height=int(seen.sizes[at, 1]),
            why=why,
        )
        for at, why in sorted(found.items())
    )
