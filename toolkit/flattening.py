"""Any mode of a picture as 8 bits of grey or RGB: wider values levelled, transparency laid on paper."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from PIL import Image

from toolkit.errors import ImageError

# the values of a file's own, of more than 8 bits, that become 0 and 255
Levels = tuple[float, float]
# `guess`: 16 bits by their upper 8, others by 255; `refuse`: values whose range cannot be told; `own`: by the
# picture's own darkest and lightest
Wide = Levels | Literal["guess", "refuse", "own"]

BAND_PIXELS = 1_000_000  # a picture is brought to 8 bits so many pixels at a time
FAINT = 16  # values that differ by no more are one shade to people


def is_wide(image: Image.Image) -> bool:
    """Tell whether a picture has values of more than 8 bits."""
    return image.mode.startswith("I") or image.mode == "F"


def flatten(image: Image.Image, label: str, wide: Wide) -> Image.Image:
    """Bring any mode to L or RGB, transparency on white, a white figure's on black."""
    if is_wide(image):
        if wide == "guess":
            return _narrow(image)
        if wide == "own":
            low, high = range_of(image)
            return _levelled(image, (low, max(high, low + 1e-9)))
        return _levelled(image, _told_range(image, label) if wide == "refuse" else wide)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        flat = _laid_on(image, 255)
        # a white figure is seen on black only
        return flat if _is_seen(flat) else next(filter(_is_seen, [_laid_on(image, 0)]), flat)
    return in_mode(image, "L" if image.mode in ("L", "1") else "RGB")


def in_mode(image: Image.Image, mode: Literal["L", "RGB"]) -> Image.Image:
    """Return a picture in a mode: itself where it is so, for Pillow would copy all of it."""
    return image if image.mode == mode else image.convert(mode)


def _laid_on(image: Image.Image, paper: int) -> Image.Image:
    """Lay a transparent picture on paper of one grey."""
    flat = Image.new("L" if image.mode in ("LA", "La") else "RGB", image.size)
    for top, band in _bands(image):
        rgba = band.convert("RGBA")
        ground = Image.new("RGBA", rgba.size, (paper, paper, paper, 255))
        flat.paste(Image.alpha_composite(ground, rgba).convert(flat.mode), (0, top))
    return flat


def _is_seen(image: Image.Image) -> bool:
    """Tell whether a picture in mode L or RGB is more than one shade."""
    return any(high - low > FAINT for low, high in extremes(image))


def extremes(image: Image.Image) -> list[tuple[int, int]]:
    """Return the least and the greatest value of each channel of a picture in mode L or RGB."""
    extremes: Any = image.getextrema()
    return [extremes] if image.mode == "L" else list(extremes)


def _narrow(image: Image.Image) -> Image.Image:
    """Bring pixels of 16 or 32 bits to 8."""
    # keep the upper 8 of 16 bits instead of clipping to white; I and F do not say their range
    wide = image.mode.startswith("I;16") or any(
        np.fmax.reduce(np.asarray(band), axis=None) > 255 for _, band in _bands(image)
    )
    narrow = np.empty((image.height, image.width), dtype=np.uint8)
    for top, band in _bands(image):
        values = np.nan_to_num(np.asarray(band, dtype=np.float64))
        values *= 255.0 / (65535.0 if wide else 255.0)
        narrow[top : top + band.height] = values.clip(0, 255)
    return Image.fromarray(narrow)


def range_of(image: Image.Image) -> Levels:
    """Return the least and the greatest value that is a finite number; 0 and 0 where none is."""
    low, high = np.inf, -np.inf
    for _, band in _bands(image):
        values = np.asarray(band)
        values = values[np.isfinite(values)]
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    return (low, high) if low <= high else (0.0, 0.0)


def _told_range(image: Image.Image, label: str) -> Levels:
    """Return what black and white are where the values themselves tell. Raises ImageError otherwise."""
    low, high = range_of(image)
    if low >= 0:
        if image.mode == "F" and high <= 1:
            return 0.0, 1.0
        if not image.mode.startswith("I;16") and high <= 255:
            return 0.0, 255.0
        if high == 0 or 32767 < high <= 65535:
            return 0.0, 65535.0
    raise ImageError(
        f"{label} has values from {low:g} to {high:g}, more than 8 bits hold, and which are black and white "
        "is not known: the network was trained on pictures of 8 bits; `train --levels LOW,HIGH` learns "
        "from such ones, or bring it to 8 bits first"
    )


def _levelled(image: Image.Image, levels: Levels) -> Image.Image:
    """Bring pixels of more than 8 bits to 8, by what becomes 0 and 255; what is no number becomes 0."""
    low, high = levels
    narrow = np.empty((image.height, image.width), dtype=np.uint8)
    for top, band in _bands(image):
        values = np.nan_to_num(np.asarray(band, dtype=np.float64), nan=low)
        values -= low
        values *= 255.0 / (high - low)
        narrow[top : top + band.height] = np.rint(values.clip(0, 255, out=values), out=values)
    return Image.fromarray(narrow)


def _bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Yield a picture's rows, some at a time, each with its first row: a copy needs no more memory."""
    rows = max(1, BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))
