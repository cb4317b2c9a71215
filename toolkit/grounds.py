"""What lies behind the figure of a picture, told by its border: the colour to pad with, light or dark."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toolkit.images import Pixels

Ground = Literal["dark", "light", "mixed"]

AGREEING = 0.95  # the share of a data set's pictures that must have one ground for it to be theirs


def _border(image: Image.Image) -> NDArray[np.uint8]:
    width, height = image.size
    # cut out one by one: an array of all pixels would be a copy of all of them
    edges = (
        (0, 0, width, 1),
        (0, height - 1, width, height),
        (0, 0, 1, height),
        (width - 1, 0, width, height),
    )
    pixels = b"".join(image.crop(edge).tobytes() for edge in edges)
    return np.frombuffer(pixels, dtype=np.uint8).reshape(-1, len(image.getbands()))


def border_colour(image: Image.Image) -> int | tuple[int, ...]:
    """Return the median colour of a picture's border, as Pillow takes colours."""
    colour = tuple(int(v) for v in np.median(_border(image), axis=0))
    return colour[0] if len(colour) == 1 else colour


def ground_of(pixels: Pixels) -> Ground:
    """Tell what (N, 1, H, W) uint8 pictures, N ≥ 1, have at their border.

    It is `mixed` where less than AGREEING of them have the same.
    """
    light = sum(light_grounds(pixels[start : start + 4096]) for start in range(0, len(pixels), 4096))
    return ground_from(light, len(pixels))


def light_grounds(pixels: Pixels) -> int:
    """Return how many of some (n, 1, H, W) pictures have a light border; a median copies what it orders."""
    part = pixels[:, 0]
    edges = np.concatenate([part[:, 0], part[:, -1], part[:, :, 0], part[:, :, -1]], axis=1)
    return int(np.count_nonzero(np.median(edges, axis=1) > 127))


def ground_from(light: int, images: int, agreeing: float = AGREEING) -> Ground:
    """Return the ground of pictures so many of which are light; `mixed` where too few of them agree."""
    share = light / images
    if share >= agreeing:
        return "light"
    return "dark" if share <= 1 - agreeing else "mixed"
