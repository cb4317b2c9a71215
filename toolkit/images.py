"""Any picture → the tensor that a network sees. numpy and Pillow only, so a serving box needs no torch.

A picture passes three steps: `read_image` decodes it under limits, `fit_pixels` brings it to the
network's size and channels as uint8, `normalise` turns uint8 pixels into float32 input.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from toolkit.errors import ImageError, ImageSizeError, NoImageError
from toolkit.figures import mebibytes_text, shape_text

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
# a file, its bytes, Pillow's own, or uint8 (H, W), (H, W, 1 | 3 | 4) or (1 | 3, H, W)
PictureSource = Path | bytes | Image.Image | NDArray[np.uint8]
Ground = Literal["dark", "light", "mixed"]
Side = Annotated[int, Meta(ge=1)]

# Decoders that are opened at all; the rest of Pillow's are never given bytes of a stranger.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
MAX_PIXELS = 25_000_000
MAX_BYTES = 20 * 1024 * 1024
BAND_PIXELS = 1_000_000  # a picture is brought to 8 bits so many pixels at a time
_AGREEING = 0.95  # the share of a data set's pictures that must have one ground for it to be theirs
_RESIZED_AT_ONCE = 4_000_000  # pixels times channels
FIXED_POINT = 1 << 22  # Pillow weighs 8-bit pixels in 22-bit steps


class Inputs(Protocol):
    """What can be cut into batches of a network's input: an array, or pictures that become one."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> NDArray[Any]: ...


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How uint8 pixels become a network's input: x = (pixel × scale − mean) / std.

    `size` is (height, width); `mean` and `std` hold one figure a channel in 0–1 units. With
    `invert` a pixel p is read as 255 − p first. `ground` is what the training pictures have at their
    border, for networks of one channel; None where nobody noted it.
    """

    size: tuple[Side, Side]
    channels: Annotated[int, Meta(ge=1, le=3)]
    scale: Annotated[float, Meta(gt=0)] = 1 / 255
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    invert: bool = False
    ground: Ground | None = None

    def __post_init__(self) -> None:
        """Refuse what no picture can be prepared with. Raises ValueError."""
        if self.channels not in (1, 3):
            raise ValueError(f"channels is {self.channels}; pictures have 1 or 3")
        for name, figures in (("mean", self.mean), ("std", self.std)):
            if len(figures) not in (1, self.channels):
                raise ValueError(f"{name} has {len(figures)} figures for {self.channels} channels")
            if not all(map(math.isfinite, figures)):
                raise ValueError(f"{name} holds a number that is not finite")
        if 0.0 in self.std:
            raise ValueError("std holds a 0, by which nothing can be divided")


def read_image(
    source: bytes | Path,
    *,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
) -> Image.Image:
    """Decode a picture's first frame, turned upright by its EXIF tag; return mode L or RGB.

    Transparency is laid on white; 16 bits a channel are brought to 8. Size and pixel count are
    checked before a pixel is decoded. Raises ImageError for what is no picture or is too large.
    """
    label = name or (str(source) if isinstance(source, Path) else "the picture")
    data = _read_bytes(source, label, max_bytes)
    if not data:
        raise ImageError(f"{label} is empty; send a picture ({', '.join(FORMATS)})")
    try:
        with warnings.catch_warnings():
            # our own limit below is stricter than Pillow's warning
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            width, height = image.size
            if width * height > max_pixels:
                raise ImageSizeError(
                    f"{label} has {width}×{height} pixels, over the limit of {max_pixels:,}; "
                    "scale it down first"
                )
            image.seek(0)
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
        return _flatten(image)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise NoImageError(f"{label} is no picture that can be read; known: {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise ImageSizeError(f"{label} is over the limit of {max_pixels:,} pixels") from None
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, … on bad bytes
        raise ImageError(f"{label} is damaged or truncated ({error}); save it again") from None


def open_picture(
    source: PictureSource, *, name: str, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES
) -> Image.Image:
    """Return any picture as `read_image` does, upright and in mode L or RGB; `name` is what errors call it.

    An array's channels are its last axis where that can be (1, 3 or 4), else its first. Raises ImageError.
    """
    if isinstance(source, (bytes, Path)):
        return read_image(source, name=name, max_pixels=max_pixels, max_bytes=max_bytes)
    if isinstance(source, np.ndarray):
        source = _image_of(source, name)
    return _flatten(ImageOps.exif_transpose(source))


def _image_of(pixels: NDArray[Any], name: str) -> Image.Image:
    last = pixels
    if pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4) and pixels.shape[0] in (1, 3):
        last = np.moveaxis(pixels, 0, -1)
    if last.ndim == 3 and last.shape[2] == 1:
        last = last[..., 0]
    fits = last.ndim == 2 or (last.ndim == 3 and last.shape[2] in (3, 4))
    if not fits or pixels.dtype != np.uint8 or not pixels.size:
        raise ImageError(
            f"{name} is an array of {pixels.dtype}, {shape_text(pixels.shape)}; pictures are uint8 with the "
            "shape (H, W), (H, W, 1, 3 or 4) or (1 or 3, H, W)"
        )
    return Image.fromarray(np.ascontiguousarray(last))


def count_frames(source: PictureSource) -> int:
    """Return how many pictures a source that could be read holds: an animation's frames, a TIFF's pages."""
    if isinstance(source, np.ndarray):
        return 1
    if isinstance(source, Image.Image):
        return int(getattr(source, "n_frames", 1))
    with warnings.catch_warnings():
        # read_image has refused what is too large
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(
            io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS
        ) as image:
            return int(getattr(image, "n_frames", 1))


def _read_bytes(source: bytes | Path, label: str, max_bytes: int) -> bytes:
    if isinstance(source, Path):
        try:
            with source.open("rb") as file:
                source = file.read(max_bytes + 1)
        except OSError as error:
            raise ImageError(f"{label} cannot be read: {error.strerror or error}") from None
    if len(source) > max_bytes:
        raise ImageSizeError(f"{label} is over the limit of {mebibytes_text(max_bytes)}; scale it down first")
    return source


def _flatten(image: Image.Image) -> Image.Image:
    """Bring any mode to L or RGB, transparency on white."""
    if image.mode.startswith("I") or image.mode == "F":
        return _narrow(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        flat = Image.new("L" if image.mode in ("LA", "La") else "RGB", image.size)
        for top, band in _bands(image):
            rgba = band.convert("RGBA")
            paper = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
            flat.paste(Image.alpha_composite(paper, rgba).convert(flat.mode), (0, top))
        return flat
    if image.mode in ("L", "1"):
        return image.convert("L")
    return image.convert("RGB")


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


def _bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Yield a picture's rows, some at a time, each with its first row: a copy needs no more memory."""
    rows = max(1, BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def fit_pixels(image: Image.Image, preprocessing: Preprocessing, *, invert: bool = False) -> Pixels:
    """Bring a decoded picture to the network's (C, H, W) as uint8, its shape kept.

    A picture that is not square is padded to the network's proportions with the colour of its own
    border, so that nothing is stretched or cut. `invert` turns dark-on-light into light-on-dark.
    """
    fitted = image.convert("L" if preprocessing.channels == 1 else "RGB")
    height, width = preprocessing.size
    if fitted.size != (width, height):
        scale = min(width / fitted.width, height / fitted.height)
        inner = (max(1, round(fitted.width * scale)), max(1, round(fitted.height * scale)))
        border = _border_colour(fitted)
        # BOX averages every source pixel on the way down and never rings on line drawings
        filter_ = Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
        small = fitted.resize(inner, filter_)
        fitted = Image.new(fitted.mode, (width, height), border)
        fitted.paste(small, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    pixels = np.asarray(fitted, dtype=np.uint8)
    pixels = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    return np.ascontiguousarray(255 - pixels if invert else pixels)


def _border(image: Image.Image) -> NDArray[np.uint8]:
    pixels = np.asarray(image, dtype=np.uint8).reshape(image.height, image.width, -1)
    edges = (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])
    return np.concatenate(edges)


def _border_colour(image: Image.Image) -> int | tuple[int, ...]:
    colour = tuple(int(v) for v in np.median(_border(image), axis=0))
    return colour[0] if len(colour) == 1 else colour


def background_is_light(image: Image.Image) -> bool:
    """Tell whether a picture's border is light: a photo or drawing on paper, not a data set's tile."""
    return bool(np.median(_border(image.convert("L"))) > 127)


def ground_of(pixels: Pixels) -> Ground:
    """Tell what (N, 1, H, W) uint8 pictures, N ≥ 1, have at their border; `mixed` where they differ."""
    light = 0
    for start in range(0, len(pixels), 4096):  # in slices, because a median copies what it orders
        part = pixels[start : start + 4096, 0]
        edges = np.concatenate([part[:, 0], part[:, -1], part[:, :, 0], part[:, :, -1]], axis=1)
        light += int(np.count_nonzero(np.median(edges, axis=1) > 127))
    share = light / len(pixels)
    if share >= _AGREEING:
        return "light"
    return "dark" if share <= 1 - _AGREEING else "mixed"


def ground_differs(image: Image.Image, preprocessing: Preprocessing) -> bool:
    """Tell whether a picture must be inverted to have the ground that its network learned on.

    Where no ground was noted it is dark, as in the zoo's own grey data sets. Nothing is inverted for a
    network that learned on either ground, or in colour.
    """
    if preprocessing.channels != 1 or preprocessing.ground == "mixed":
        return False
    return background_is_light(image) != (preprocessing.ground == "light")


def normalise(pixels: Pixels, preprocessing: Preprocessing) -> Floats:
    """Turn (N, C, H, W) or (C, H, W) uint8 pixels into float32 network input of the same shape."""
    values = (255 - pixels if preprocessing.invert else pixels).astype(np.float32)
    std = np.array(preprocessing.std, dtype=np.float32)[:, None, None]
    mean = np.array(preprocessing.mean, dtype=np.float32)[:, None, None]
    values *= np.float32(preprocessing.scale) / std
    values -= mean / std
    return values


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Turn (N, K) logits into probabilities whose rows sum to 1, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    weights = np.exp(shifted)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def top_classes(probabilities: NDArray[Any], classes: Sequence[str], count: int) -> list[tuple[str, float]]:
    """Return the `count` likeliest (label, probability) of one row, likeliest first."""
    order = np.argsort(-probabilities, kind="stable")[:count]
    return [(classes[int(i)], float(probabilities[int(i)])) for i in order]


def resize_weights(old: int, new: int) -> Floats:
    """Return the (new, old) matrix that resizes one axis as `fit_pixels` does: box down, bilinear up.

    In float32, so a pixel may differ from `resize_batch`'s by one step where a sum ends near a half.
    """
    return _exact_weights(old, new).astype(np.float32)


def _exact_weights(old: int, new: int) -> NDArray[np.float64]:
    """Return what `resize_weights` does, in float64; source: Pillow's Resample.c, precompute_coeffs."""
    stretch = max(old / new, 1.0)
    support = (0.5 if new < old else 1.0) * stretch
    places = np.arange(old)[None]
    centres = ((np.arange(new) + 0.5) * (old / new))[:, None]
    first = np.trunc(np.maximum(centres - support + 0.5, 0))
    inside = (places >= first) & (places < np.trunc(centres + support + 0.5))
    distance = (places - centres + 0.5) * (1 / stretch)
    box = ((distance > -0.5) & (distance <= 0.5)).astype(np.float64)
    weights = (box if new < old else np.maximum(0.0, 1.0 - np.abs(distance))) * inside
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float64)


def resize_batch(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Resize (N, C, h, w) uint8 pictures to (height, width) as `fit_pixels` would one by one.

    For pictures of the network's proportions; others need `fit_pixels`, which pads them.
    """
    if pixels.shape[2:] == size:
        return pixels
    across, down = (
        np.floor(_exact_weights(old, new) * FIXED_POINT + 0.5)
        for old, new in zip(pixels.shape[:1:-1], size[::-1], strict=True)
    )
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
    height, width = preprocessing.size
    if pixels.shape[1] != preprocessing.channels:
        pixels = np.repeat(pixels, 3, axis=1) if pixels.shape[1] == 1 else _to_grey(pixels)
    if pixels.shape[2] * width == pixels.shape[3] * height:
        return resize_batch(pixels, preprocessing.size)
    frames = [Image.fromarray(p[0] if len(p) == 1 else np.moveaxis(p, 0, -1)) for p in pixels]
    return np.stack([fit_pixels(frame, preprocessing) for frame in frames])


def _to_grey(pixels: Pixels) -> Pixels:
    """Turn (N, 3, H, W) into (N, 1, H, W) by Pillow's own weights (ITU-R 601 in 16-bit steps)."""
    weights = np.array([19595, 38470, 7471], dtype=np.uint32)
    grey = (np.einsum("nchw,c->nhw", pixels.astype(np.uint32), weights) + 0x8000) >> 16
    return np.asarray(grey[:, None], dtype=np.uint8)
