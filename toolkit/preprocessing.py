"""How a decoded picture becomes the tensor that a network sees, in one place for all of cnnkit.

`fit_pixels` brings a picture to the network's size and channels as uint8, `normalise` turns uint8 pixels
into float32 input. numpy and Pillow only, so a serving box needs no torch; `crop` and `squash` with
`bilinear` or `bicubic` give torchvision's and timm's pixels, `divide` their tensors, bit for bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray
from PIL import Image

from toolkit.flattening import Levels, Wide, in_mode
from toolkit.grounds import Ground, border_colour, light_grounds
from toolkit.images import MAX_PIXELS, Floats, Pixels, picture_of

Side = Annotated[int, Meta(ge=1)]
Resize = Literal["pad", "crop", "squash"]
Interpolation = Literal["box-bilinear", "bilinear", "bicubic", "nearest"]
Formula = Literal["multiply", "divide"]

CHANNELS = (1, 3)  # that pictures have
FIXED_POINT = 1 << 22  # Pillow weighs 8-bit pixels in 22-bit steps
# a long thin picture that covers the network's size would have many times its pixels
_COVERING_PIXELS = 2 * MAX_PIXELS
_RESIZED_AT_ONCE = 4_000_000  # pixels times channels
_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
}


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How uint8 pixels become a network's input: x = (pixel × scale − mean) / std.

    `size` is (height, width); `mean` and `std` hold one figure a channel, in units of pixel × scale, in
    the network's order of channels. `resize` brings a picture to that size: `pad` keeps all of it and its
    proportions, the rest in its border's own colour; `crop` covers the size with it and cuts the centre
    out, `squash` gives up its proportions. Of both the centre is cut out of a picture so much larger that
    the size is `crop_share` of it. Every interpolation but `nearest` averages on the way down, as
    Pillow's do; `box-bilinear` is a plain mean there, which never rings on drawings. `order` is that of
    the channels. With `invert` a pixel p is read as 255 − p first. `ground` is what the training pictures
    have at their border, for networks of one channel; None where nobody noted it. `levels` are the values of
    files of more than 8 bits that become 0 and 255; None where the network learned from pictures of 8.

    `formula` says how float32 computes it: `divide` as torchvision and timm do, ((pixel / 255) − mean) /
    std, `multiply` as pixel × (scale / std) − mean / std: so were the networks made whose passport does
    not name one.
    """

    size: tuple[Side, Side]
    channels: Annotated[int, Meta(ge=1, le=3)]
    order: Literal["rgb", "bgr"] = "rgb"
    resize: Resize = "pad"
    crop_share: Annotated[float, Meta(gt=0, le=1)] = 1.0
    interpolation: Interpolation = "box-bilinear"
    scale: Annotated[float, Meta(gt=0)] = 1 / 255
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    invert: bool = False
    ground: Ground | None = None
    formula: Formula = "multiply"
    levels: Levels | None = None

    @property
    def geometry(self) -> tuple[object, ...]:
        """Return what decides which pixels a picture becomes, before they are scaled."""
        return (self.size, self.channels, self.resize, self.crop_share, self.interpolation, self.levels)

    @property
    def wide(self) -> Wide:
        """How pictures of more than 8 bits are read; "refuse" those whose range nobody knows."""
        return self.levels or "refuse"

    def __post_init__(self) -> None:
        """Refuse what no picture can be prepared with. Raises ValueError."""
        if self.channels not in CHANNELS:
            raise ValueError(f"channels is {self.channels}; pictures have 1 or 3")
        if min(self.size) < 1:
            raise ValueError(f"size is {self.size[0]}×{self.size[1]}; each side is at least 1")
        if not 0 < self.scale < math.inf:
            raise ValueError(f"scale is {self.scale:g}; it is a number above 0, such as 1/255 or 1")
        if not 0 < self.crop_share <= 1:
            raise ValueError(f"crop_share is {self.crop_share:g}; it is above 0 and at most 1")
        for name, figures in (("mean", self.mean), ("std", self.std)):
            if len(figures) not in (1, self.channels):
                raise ValueError(f"{name} has {len(figures)} figures for {self.channels} channels")
            if not all(map(math.isfinite, figures)):
                raise ValueError(f"{name} holds a number that is not finite")
        if self.levels is not None and not -math.inf < self.levels[0] < self.levels[1] < math.inf:
            raise ValueError(
                f"levels is {self.levels[0]:g} to {self.levels[1]:g}; the first is the lower one"
            )
        if 0.0 in self.std:
            raise ValueError("std holds a 0, by which nothing can be divided")


def fit_pixels(image: Image.Image, preprocessing: Preprocessing) -> Pixels:
    """Bring a decoded picture to the network's (C, H, W) as uint8; colours stay in the order RGB."""
    picture = in_mode(image, "L" if preprocessing.channels == 1 else "RGB")
    placed = _padded if preprocessing.resize == "pad" else _cut_out
    pixels = np.asarray(placed(picture, preprocessing), dtype=np.uint8)
    pixels = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    return np.ascontiguousarray(pixels)


def _padded(picture: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    height, width = preprocessing.size
    scale = min(width / picture.width, height / picture.height)
    inner = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    small = _resized(picture, inner, preprocessing)
    if inner == (width, height):
        return small
    padded = Image.new(picture.mode, (width, height), border_colour(picture))
    padded.paste(small, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return padded


def _cut_out(picture: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """Return the centre of a picture that covers more than the network's size, or is squashed to do so.

    Sizes and offsets are rounded as torchvision's Resize and CenterCrop round them, and timm's
    ResizeKeepRatio where the network's sides differ.
    """
    height, width = preprocessing.size
    tall, wide = (math.floor(side / preprocessing.crop_share) for side in (height, width))
    if preprocessing.resize == "crop":
        short, long = sorted(picture.size)
        if tall == wide:
            sides = (tall, int(tall * long / short))
            wide, tall = sides if picture.width <= picture.height else sides[::-1]
        else:
            ratio = min(picture.width / wide, picture.height / tall)
            wide, tall = round(picture.width / ratio), round(picture.height / ratio)
    left, top = round((wide - width) / 2), round((tall - height) / 2)
    if wide * tall > _COVERING_PIXELS:
        return _centre_resized(picture, (wide, tall), preprocessing)
    covering = _resized(picture, (wide, tall), preprocessing)
    return covering.crop((left, top, left + width, top + height))


def _centre_resized(
    picture: Image.Image, covering: tuple[int, int], preprocessing: Preprocessing
) -> Image.Image:
    """Return the centre of what a picture of the size `covering`, (width, height), would be.

    Its pixels are those of a cut after the resizing, to the rounding of where each one lies.
    """
    height, width = preprocessing.size
    left, top = round((covering[0] - width) / 2), round((covering[1] - height) / 2)
    across, down = picture.width / covering[0], picture.height / covering[1]
    part = (left * across, top * down, (left + width) * across, (top + height) * down)
    return picture.resize((width, height), _filter(picture, covering, preprocessing), box=part)


def _resized(picture: Image.Image, size: tuple[int, int], preprocessing: Preprocessing) -> Image.Image:
    """Resize to (width, height)."""
    return picture if picture.size == size else picture.resize(size, _filter(picture, size, preprocessing))


def _filter(picture: Image.Image, size: tuple[int, int], preprocessing: Preprocessing) -> Image.Resampling:
    if preprocessing.interpolation != "box-bilinear":
        return _FILTERS[preprocessing.interpolation]
    down = size[0] < picture.width or size[1] < picture.height
    return Image.Resampling.BOX if down else Image.Resampling.BILINEAR


def ground_differs(pixels: Pixels, preprocessing: Preprocessing) -> bool:
    """Tell whether a picture must be inverted to have the ground that its network learned on.

    `pixels` are (C, H, W) as `fit_pixels` gives them: of such ones training learned the ground.
    Where no ground was noted it is dark, as in the zoo's own grey data sets. Nothing is inverted for a
    network that learned on either ground, or in colour.
    """
    if preprocessing.channels != 1 or preprocessing.ground == "mixed":
        return False
    return bool(light_grounds(pixels[None])) != (preprocessing.ground == "light")


def normalise(pixels: Pixels, preprocessing: Preprocessing) -> Floats:
    """Turn (N, C, H, W) or (C, H, W) uint8 pixels, as `fit_pixels` gives them, into float32 input."""
    if preprocessing.order == "bgr":
        pixels = pixels[..., ::-1, :, :]
    values = np.ascontiguousarray(255 - pixels if preprocessing.invert else pixels, dtype=np.float32)
    std = np.array(preprocessing.std, dtype=np.float32)[:, None, None]
    mean = np.array(preprocessing.mean, dtype=np.float32)[:, None, None]
    if preprocessing.formula == "multiply":
        values *= np.float32(preprocessing.scale) / std
        values -= mean / std
        return values
    if preprocessing.scale == 1 / 255:
        values /= np.float32(255)
    elif preprocessing.scale != 1:
        values *= np.float32(preprocessing.scale)
    values -= mean
    values /= std
    return values


def resize_weights(old: int, new: int) -> NDArray[np.float64]:
    """Return the (new, old) whole numbers by which Pillow resizes one axis, box down and bilinear up.

    Their rows sum to about FIXED_POINT. Source: Pillow's Resample.c, precompute_coeffs.
    """
    stretch = max(old / new, 1.0)
    support = (0.5 if new < old else 1.0) * stretch
    places = np.arange(old)[None]
    centres = ((np.arange(new) + 0.5) * (old / new))[:, None]
    first = np.trunc(np.maximum(centres - support + 0.5, 0))
    inside = (places >= first) & (places < np.trunc(centres + support + 0.5))
    distance = (places - centres + 0.5) * (1 / stretch)
    box = ((distance > -0.5) & (distance <= 0.5)).astype(np.float64)
    weights = (box if new < old else np.maximum(0.0, 1.0 - np.abs(distance))) * inside
    return np.asarray(np.floor(weights / weights.sum(axis=1, keepdims=True) * FIXED_POINT + 0.5))


def resize_batch(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Resize (N, C, h, w) uint8 pictures to (height, width) as `fit_pixels` would one by one.

    For pictures of the network's proportions and its own interpolation; others need `fit_pixels`.
    """
    if pixels.shape[2:] == size:
        return pixels
    down, across = (resize_weights(*ends) for ends in zip(pixels.shape[2:], size, strict=True))
    # Pillow's integers: float64 holds every one of these sums exactly; rounded after each pass, as there
    wide = np.floor((pixels.astype(np.float64) @ across.T + FIXED_POINT / 2) / FIXED_POINT).clip(0, 255)
    tall = np.floor((down @ wide + FIXED_POINT / 2) / FIXED_POINT)
    return np.asarray(tall.clip(0, 255), dtype=np.uint8)


def fit_batch(pixels: Pixels, preprocessing: Preprocessing) -> Pixels:
    """Bring (N, C, h, w) uint8 pictures to the network's size and channels as `fit_pixels` would."""
    largest = max(pixels.shape[2] * pixels.shape[3], preprocessing.size[0] * preprocessing.size[1])
    # in parts: resizing needs some thirty times a picture's memory while it goes on
    step = max(1, _RESIZED_AT_ONCE // (preprocessing.channels * largest))
    if len(pixels) > step:
        return np.concatenate(
            [fit_batch(pixels[at : at + step], preprocessing) for at in range(0, len(pixels), step)]
        )
    if pixels.shape[1] != preprocessing.channels:
        pixels = np.repeat(pixels, 3, axis=1) if pixels.shape[1] == 1 else _to_grey(pixels)
    if preprocessing.resize == "pad" or preprocessing.crop_share == 1:
        height, width = preprocessing.size
        same = pixels.shape[2:] == preprocessing.size
        alike = pixels.shape[2] * width == pixels.shape[3] * height
        if same or (alike and preprocessing.interpolation == "box-bilinear"):
            return resize_batch(pixels, preprocessing.size)
    return np.stack([fit_pixels(picture_of(one), preprocessing) for one in pixels])


def _to_grey(pixels: Pixels) -> NDArray[Any]:
    """Turn (N, 3, H, W) into (N, 1, H, W) by Pillow's own weights (ITU-R 601 in 16-bit steps)."""
    weights = np.array([19595, 38470, 7471], dtype=np.uint32)
    grey = (np.einsum("nchw,c->nhw", pixels.astype(np.uint32), weights) + 0x8000) >> 16
    return np.asarray(grey[:, None], dtype=np.uint8)
