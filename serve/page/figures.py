"""Where the figure lies in a picture, and how small ones are brought to lie as the training pictures do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toolkit.grounds import border_colour
from toolkit.images import MAX_PIXELS, Pixels

# what differs by no more from the ground is ground: paper's shade, a JPEG's ringing
FAINT = 40
# values that differ by no more are one colour to people
ONE_COLOUR = 8
# a figure's box is looked for in a picture no larger
LOOKED_AT = 512
# a figure that lies so nearly as the training pictures do is left alone
ALIKE = 0.03
# a long thin picture's square frame would have many times its pixels; that of any other has no more
FRAME_PIXELS = 2 * MAX_PIXELS
FEWEST = 20


@dataclass(frozen=True, kw_only=True)
class FigureBox:
    """A figure in a picture, in shares of its height and width: its box, and its middle by weight."""

    top: float
    bottom: float
    left: float
    right: float
    mass: tuple[float, float]

    @property
    def middle(self) -> tuple[float, float]:
        """The box's middle, (y, x)."""
        return (self.top + self.bottom) / 2, (self.left + self.right) / 2


@dataclass(frozen=True, kw_only=True)
class FigureLie:
    """How the figures of a data set lie: their longer side, and their middle (y, x), as shares of a picture.

    `by_mass`: the middle is that of their weight, which varies less there than that of their box.
    """

    extent: float
    middle: tuple[float, float]
    by_mass: bool


@dataclass(frozen=True, kw_only=True)
class CentredPicture:
    """A picture whose figure was brought to lie otherwise: how much larger it is now, and if it moved."""

    image: Image.Image
    enlarged: float
    moved: bool


def is_one_colour(image: Image.Image) -> bool:
    """Tell whether a picture in mode L or RGB is blank: one colour all over."""
    extremes: Any = image.getextrema()
    bands = [extremes] if image.mode == "L" else extremes
    return all(high - low <= ONE_COLOUR for low, high in bands)


def figure_of(image: Image.Image) -> FigureBox | None:
    """Return where a picture differs from its border's colour; None where it hardly does."""
    grey = image.convert("L")
    grey.thumbnail((LOOKED_AT, LOOKED_AT))
    return _figure(np.asarray(grey, dtype=np.int16), border_colour(grey))


def _figure(pixels: NDArray[np.int16], ground: int | tuple[int, ...]) -> FigureBox | None:
    weight = np.abs(pixels - np.int16(ground if isinstance(ground, int) else ground[0]))
    found = weight > FAINT
    if not found.any():
        return None
    height, width = pixels.shape
    rows, columns = np.flatnonzero(found.any(axis=1)), np.flatnonzero(found.any(axis=0))
    total = float(weight[found].sum())
    ys, xs = np.nonzero(found)
    mass = (
        float(((ys + 0.5) * weight[found]).sum()) / total / height,
        float(((xs + 0.5) * weight[found]).sum()) / total / width,
    )
    return FigureBox(
        top=int(rows[0]) / height,
        bottom=(int(rows[-1]) + 1) / height,
        left=int(columns[0]) / width,
        right=(int(columns[-1]) + 1) / width,
        mass=mass,
    )


def lie_of(images: Sequence[Pixels]) -> FigureLie | None:
    """Return how the figures of (1, H, W) uint8 pictures lie; None where too few have one."""
    boxes = []
    for pixels in images:
        grey = Image.fromarray(pixels[0])
        found = _figure(np.asarray(grey, dtype=np.int16), border_colour(grey))
        boxes += [found] if found else []
    if len(boxes) < FEWEST:
        return None
    middles = np.array([box.middle for box in boxes])
    masses = np.array([box.mass for box in boxes])
    by_mass = bool(masses.std(axis=0).sum() < middles.std(axis=0).sum())
    y, x = np.median(masses if by_mass else middles, axis=0)
    extent = np.median([max(box.bottom - box.top, box.right - box.left) for box in boxes])
    return FigureLie(extent=float(extent), middle=(float(y), float(x)), by_mass=by_mass)


def centred(image: Image.Image, lie: FigureLie, size: tuple[int, int]) -> CentredPicture | None:
    """Return a picture in mode L or RGB whose figure lies as a data set's; None where it does so already.

    `size` is the network's (height, width). What the picture is widened by has its border's colour.
    """
    box = figure_of(image)
    if box is None:
        return None
    shape = size[0] / size[1]
    high, wide = (box.bottom - box.top) * image.height, (box.right - box.left) * image.width
    frame_high = max(high, wide * shape) / lie.extent
    frame_wide = frame_high / shape
    y, x = box.mass if lie.by_mass else box.middle
    top = y * image.height - lie.middle[0] * frame_high
    left = x * image.width - lie.middle[1] * frame_wide
    before = max(image.height, image.width * shape)
    offset = max(
        abs(top + frame_high / 2 - image.height / 2), abs(left + frame_wide / 2 - image.width / 2) * shape
    )
    enlarged, moved = before / frame_high, offset / before > ALIKE
    if abs(enlarged - 1) <= ALIKE and not moved:
        return None
    over = frame_high * frame_wide / FRAME_PIXELS
    if over > 1:
        return centred(image.reduce(math.ceil(math.sqrt(over))), lie, size)
    frame = Image.new(
        image.mode, (max(1, round(frame_wide)), max(1, round(frame_high))), border_colour(image)
    )
    frame.paste(image, (-round(left), -round(top)))
    return CentredPicture(image=frame, enlarged=enlarged, moved=moved)
