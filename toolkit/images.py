"""Any picture decoded under limits, upright and in grey or colours. numpy and Pillow only.

What a network makes of it stands in toolkit/preprocessing.py.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError, features

from toolkit.errors import ImageError, ImageSizeError, NoImageError
from toolkit.figures import mebibytes_text, shape_text
from toolkit.flattening import Levels, Wide, extremes, flatten, is_wide, range_of

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
# a file, its bytes, Pillow's own, or uint8 (H, W), (H, W, 1 | 3 | 4) or (1 | 3, H, W)
PictureSource = Path | bytes | Image.Image | NDArray[np.uint8]

# Decoders that are opened at all; the rest of Pillow's are never given bytes of a stranger.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", *(("AVIF",) if features.check("avif") else ()))
MAX_PIXELS = 25_000_000
MAX_BYTES = 20 * 1024 * 1024
_HEIF = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
_JPEG_XL = (b"\xff\x0a", b"\0\0\0\x0cJXL ")
FEW_OF_256 = 64  # shades that are left of colours of 14 bits in 16
HALF_OF_16_BITS = 1 << 15


class Inputs(Protocol):
    """What can be cut into batches of a network's input: an array, or pictures that become one."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> NDArray[Any]: ...


def read_image(
    source: bytes | Path,
    *,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    wide: Wide = "guess",
) -> Image.Image:
    """Decode a picture's first frame, turned upright by its EXIF tag; return mode L or RGB.

    Transparency is laid on white, or on black where a figure would vanish on white; 16 bits a channel are
    brought to 8, as `wide` says. Size and pixel count are checked before a pixel is decoded. Raises
    ImageError for what is no picture or is too large.
    """
    label = name or (str(source) if isinstance(source, Path) else "the picture")
    return flatten(_decoded(source, label, max_pixels, max_bytes), label, wide)


def value_range(
    source: bytes | Path, *, name: str, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES
) -> Levels | None:
    """Return the least and the greatest value of a picture of more than 8 bits; None for one of 8.

    Raises ImageError as `read_image` does.
    """
    image = _decoded(source, name, max_pixels, max_bytes)
    return range_of(image) if is_wide(image) else None


def _decoded(source: bytes | Path, label: str, max_pixels: int, max_bytes: int) -> Image.Image:
    data = read_bytes(source, label, max_bytes)
    if not data:
        raise ImageError(f"{label} is empty; send a picture ({', '.join(FORMATS)})")
    with _damage_told(label):
        try:
            return _opened(data, label, max_pixels)
        except UnidentifiedImageError:
            raise NoImageError(f"{label} {_why_unknown(data)}") from None
        except Image.DecompressionBombError:
            raise ImageSizeError(f"{label} is over the limit of {max_pixels:,} pixels") from None


def _opened(data: bytes, label: str, max_pixels: int) -> Image.Image:
    with warnings.catch_warnings():
        # our own limit below is stricter than Pillow's warning, and a camera's odd notes harm no pixel
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
        image = Image.open(io.BytesIO(data), formats=_formats(data))
        width, height = image.size
        if width * height > max_pixels:
            raise ImageSizeError(
                f"{label} has {width}×{height} pixels, over the limit of {max_pixels:,}; scale it down first"
            )
        image.seek(0)
        halved = _has_wide_colours(image)
        image.load()
        if halved and 0 < max(high for _, high in extremes(image.convert("RGB"))) < FEW_OF_256:
            raise ImageError(
                f"{label} has colours of 16 bits and values of {FEW_OF_256 * 100 // 256} % at the most, "
                "of which little is left in 8 bits; spread them over all 16, or save 8 bits a colour"
            )
        with _exif_forgiven():
            ImageOps.exif_transpose(image, in_place=True)
    return image


@contextlib.contextmanager
def _damage_told(label: str) -> Iterator[None]:
    """Raise ImageError for what decoders raise on bad bytes: OSError, SyntaxError, struct.error, …"""
    try:
        yield
    except (ImageError, MemoryError):  # a machine without memory says nothing of the picture
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the system's own: no file handles, no room; the picture is not to blame
        why = " ".join(str(error).split())
        raise ImageError(f"{label} is damaged or truncated ({why}); save it again") from None


@contextlib.contextmanager
def _exif_forgiven() -> Iterator[None]:
    """Leave a picture as it lies where its EXIF block cannot be read."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # parsers of the block raise SyntaxError, ValueError, struct.error, …
        if isinstance(error, OSError) and error.errno is not None:
            raise


def _has_wide_colours(image: Any) -> bool:
    """Tell of a picture that is not loaded yet whether its colours have 16 bits, of which Pillow keeps 8."""
    if not image.tile or is_wide(image):
        return False
    codec, told = image.tile[0][0], image.tile[0][3]
    if codec.startswith("ppm") and isinstance(told, tuple):  # (kind of pixels, value of white)
        return bool(told[1] >= HALF_OF_16_BITS)
    raw = str(told[0] if isinstance(told, tuple) and told else told)
    return ";16" in raw and raw != "BGR;16"  # in BMP files those are 16 bits of a whole pixel


def _formats(start: bytes) -> tuple[str, ...]:
    """Return the decoders for a picture that starts so: a plug-in's own where it is installed."""
    with contextlib.suppress(ImportError):
        if _is_heif(start):
            from pillow_heif import register_heif_opener

            register_heif_opener()
            return ("HEIF",)
        if start.startswith(_JPEG_XL):
            import pillow_jxl  # noqa: F401  (registers itself)

            return ("JXL",)
    return FORMATS


def _is_heif(start: bytes) -> bool:
    return start[4:8] == b"ftyp" and start[8:12] in _HEIF


def _why_unknown(data: bytes) -> str:
    """Say why bytes are no picture that is read here, and what makes one of those that people have."""
    if _formats(data) != FORMATS:
        return "is damaged or truncated; save it again"
    if _is_heif(data):
        return "is a HEIC or HEIF picture, which is read after `pip install pillow-heif`"
    if data.startswith(_JPEG_XL):
        return "is a JPEG XL picture, which is read after `pip install pillow-jxl-plugin`"
    if data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"avis"):
        return "is an AVIF picture, and this Pillow was built without it: `pip install -U pillow`"
    if data.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, and the picture is still to be fetched: `git lfs pull`"
    if data.startswith((b"II*\0", b"MM\0*")):
        return "is a TIFF file with pixels of a kind that is not read; save it with 8 bits, or as PNG"
    return f"is no picture that can be read; known: {', '.join(FORMATS)}"


def open_picture(
    source: PictureSource,
    *,
    name: str,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    wide: Wide = "guess",
) -> Image.Image:
    """Return any picture as `read_image` does, upright and in mode L or RGB; `name` is what errors call it.

    An array's channels are its last axis where that can be (1, 3 or 4), else its first. Raises ImageError.
    """
    if isinstance(source, (bytes, Path)):
        return read_image(source, name=name, max_pixels=max_pixels, max_bytes=max_bytes, wide=wide)
    if isinstance(source, np.ndarray):
        source = _image_of(source, name)
    with _damage_told(name):
        source.load()  # of a file that Pillow opened, nothing else was read yet
    with _exif_forgiven():
        source = ImageOps.exif_transpose(source)
    return flatten(source, name, wide)


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
    """Return how many pictures a source that could be read holds: an animation's frames, a TIFF's pages.

    One, where what lies behind the first cannot be read.
    """
    if isinstance(source, np.ndarray):
        return 1
    if isinstance(source, Image.Image):
        return _frames(source)
    with warnings.catch_warnings():
        # read_image has refused what is too large
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
        data = source if isinstance(source, bytes) else source.read_bytes()
        with Image.open(io.BytesIO(data), formats=_formats(data)) as image:
            return _frames(image)


def _frames(image: Image.Image) -> int:
    try:
        return int(getattr(image, "n_frames", 1))
    except MemoryError:
        raise
    except Exception:  # decoders raise OSError, IndexError, struct.error, TypeError, … on bad bytes
        return 1


def read_bytes(source: bytes | Path, label: str, max_bytes: int = MAX_BYTES) -> bytes:
    """Return a picture's file. Raises ImageError where it cannot be read, ImageSizeError for more bytes."""
    if isinstance(source, Path):
        try:
            with source.open("rb") as file:
                source = file.read(max_bytes + 1)
        except OSError as error:
            raise ImageError(f"{label} cannot be read: {error.strerror or error}") from None
    if len(source) > max_bytes:
        raise ImageSizeError(f"{label} is over the limit of {mebibytes_text(max_bytes)}; scale it down first")
    return source


def picture_of(pixels: Pixels) -> Image.Image:
    """Return (C, H, W) uint8 pixels, C being 1 or 3, as a picture in mode L or RGB."""
    return Image.fromarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1))
