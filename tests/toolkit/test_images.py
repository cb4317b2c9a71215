"""Any picture becomes the network's tensor or is refused in one line."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFile

from toolkit import schema
from toolkit.answering import read_picture
from toolkit.errors import CorruptError, ImageError
from toolkit.flattening import BAND_PIXELS
from toolkit.grounds import Ground, ground_of
from toolkit.images import count_frames, open_picture, read_image, value_range
from toolkit.preprocessing import Preprocessing, fit_pixels, ground_differs, normalise

GREY = Preprocessing(size=(28, 28), channels=1)
COLOUR = Preprocessing(size=(32, 32), channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def ramp(mode: str = "L", size: tuple[int, int] = (28, 28)) -> Image.Image:
    width, height = size
    values = np.linspace(0, 255, width * height).reshape(height, width).astype(np.uint8)
    return Image.fromarray(values).convert(mode)


def test_a_picture_of_the_networks_size_keeps_every_pixel() -> None:
    pixels = fit_pixels(read_image(encoded(ramp())), GREY)
    assert pixels.shape == (1, 28, 28)
    np.testing.assert_array_equal(pixels[0], np.asarray(ramp()))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
@pytest.mark.parametrize("preprocessing", [GREY, COLOUR], ids=["grey", "colour"])
def test_every_mode_becomes_the_networks_channels(mode: str, preprocessing: Preprocessing) -> None:
    image = Image.fromarray(np.full((40, 20), 7000, np.uint16)) if mode == "I;16" else ramp(mode, (20, 40))
    format = "TIFF" if mode in ("CMYK", "F", "I") else "PNG"
    pixels = fit_pixels(read_image(encoded(image, format)), preprocessing)
    assert pixels.shape == (preprocessing.channels, *preprocessing.size)
    assert pixels.dtype == np.uint8


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    values = np.array([[0, 32768, 65535]], np.uint16).repeat(3, axis=0)
    read = np.asarray(read_image(encoded(Image.fromarray(values))))
    np.testing.assert_array_equal(read[0], [0, 127, 255])


def test_a_dim_sixteen_bit_picture_stays_dim() -> None:
    values = np.full((4, 4), 200, np.uint16)
    assert np.asarray(read_image(encoded(Image.fromarray(values)))).max() == 0


def test_many_rows_are_brought_to_8_bits_like_few() -> None:
    height, width = 1201, 1003
    assert height * width > BAND_PIXELS
    values = np.random.default_rng(0).integers(0, 65536, (height, width), dtype=np.uint16)
    read = np.asarray(read_image(encoded(Image.fromarray(values), "TIFF")))
    np.testing.assert_array_equal(read, (values * (255.0 / 65535.0)).astype(np.uint8))
    clear = Image.fromarray(values.view(np.uint8).reshape(height, width, 2), "LA").convert("RGBA")
    laid = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    np.testing.assert_array_equal(np.asarray(read_image(encoded(clear, "TIFF"))), np.asarray(laid))


def test_a_large_sixteen_bit_picture_needs_little_more_than_its_own_memory() -> None:
    data = encoded(Image.new("I;16", (2000, 2000), 40_000))
    tracemalloc.start()
    try:
        read_image(data)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # in float64 alone the picture takes 8 bytes a pixel, and each step of the arithmetic as many again
    assert peak_bytes < 2000 * 2000 * 12


def test_transparency_is_laid_on_white() -> None:
    image = Image.new("RGBA", (28, 28), (10, 20, 30, 0))
    np.testing.assert_array_equal(np.asarray(read_image(encoded(image))), 255)


@pytest.mark.parametrize(("ink", "paper"), [(255, 0), (250, 0), (128, 255), (0, 255)])
def test_a_white_figure_on_transparency_is_laid_on_black(ink: int, paper: int) -> None:
    image = Image.new("RGBA", (20, 20), (ink, ink, ink, 0))
    image.paste((ink, ink, ink, 255), (5, 5, 15, 15))
    found = np.asarray(read_image(encoded(image)))
    assert found[0, 0].tolist() == [paper] * 3
    assert found[10, 10].tolist() == [ink] * 3


def test_exif_orientation_turns_the_picture_upright() -> None:
    image = Image.new("L", (40, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter
    assert read_image(encoded(image, "JPEG", exif=exif)).size == (20, 40)
    for format in ("PNG", "WEBP"):  # of which the block is broken, and the picture whole
        broken = encoded(image, format, exif=exif.tobytes().replace(b"MM", b"\0M"))
        assert read_image(broken).size == (40, 20)
        assert open_picture(Image.open(io.BytesIO(broken)), name="it").size == (40, 20)


def test_a_picture_over_the_limit_names_its_size() -> None:
    with pytest.raises(ImageError, match="30×20 pixels, over the limit of 500"):
        read_image(encoded(ramp("L", (30, 20))), max_pixels=500)


def test_only_the_first_frame_of_an_animation_is_read() -> None:
    frames = [Image.new("L", (28, 28), value) for value in (10, 200)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.asarray(read_image(data)).max() == 10
    assert count_frames(data) == 2


@pytest.mark.parametrize("format", ["GIF", "TIFF", "PNG", "WEBP"])
def test_an_animation_that_ends_behind_its_first_frame_counts_as_one(format: str) -> None:
    random = np.random.default_rng(0)
    frames = [Image.fromarray(random.integers(0, 256, (9, 9), np.uint8)) for _ in range(2)]
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:])
    read = []
    for end in range(len(data) // 2, len(data)):
        with contextlib.suppress(ImageError):
            read_image(data[:end])
            read.append(count_frames(data[:end]))
    assert set(read) <= {1, 2}


def test_a_machine_without_memory_says_nothing_of_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    def short(_: object) -> None:
        raise MemoryError

    data = encoded(ramp())
    monkeypatch.setattr(ImageFile.ImageFile, "load", short)
    with pytest.raises(MemoryError):
        read_image(data)


def test_proportions_are_kept_by_padding_with_the_border() -> None:
    image = Image.new("L", (56, 28), 90)
    image.paste(255, (20, 8, 36, 20))
    pixels = fit_pixels(image, GREY)[0]
    assert set(np.unique(pixels[:7])) == {90}
    assert set(np.unique(pixels[21:])) == {90}
    assert pixels.max() > 200


def test_invert_turns_dark_on_light_around() -> None:
    assert read_picture(encoded(Image.new("L", (28, 28), 255)), GREY, "yes").pixels.max() == 0


@pytest.mark.parametrize(
    ("light", "dark", "ground"),
    [
        (20, 0, "light"),
        (0, 20, "dark"),
        (1, 19, "dark"),
        (19, 1, "light"),
        (2, 18, "mixed"),
        (10, 10, "mixed"),
    ],
)
def test_the_ground_of_a_data_set_is_what_nearly_all_its_pictures_have(
    light: int, dark: int, ground: str
) -> None:
    pixels = np.zeros((light + dark, 1, 6, 5), dtype=np.uint8)
    pixels[:light] = 200
    pixels[:, 0, 2:4, 2:3] = 255 - pixels[:, 0, 2:4, 2:3]  # what stands in the middle is no ground
    assert ground_of(pixels) == ground


@pytest.mark.parametrize(
    ("channels", "ground", "differing"),
    [
        (1, None, {255}),
        (1, "dark", {255}),
        (1, "light", {0}),
        (1, "mixed", set()),
        (3, None, set()),
    ],
)
def test_a_ground_that_the_network_did_not_learn_on_differs(
    channels: int, ground: Ground | None, differing: set[int]
) -> None:
    network = Preprocessing(size=(28, 28), channels=channels, ground=ground)
    found = {
        shade for shade in (0, 255) if ground_differs(np.full((channels, 28, 28), shade, np.uint8), network)
    }
    assert found == differing


def test_a_hairline_around_a_picture_is_not_its_ground() -> None:
    image = Image.new("L", (256, 256), 230)
    ImageDraw.Draw(image).rectangle((0, 0, 255, 255), outline=0)
    network = dataclasses.replace(GREY, ground="light")
    assert ground_of(fit_pixels(image, network)[None]) == "light"
    assert not read_picture(encoded(image), network).inverted
    assert read_picture(encoded(image), GREY).inverted


def read(data: dict[str, Any]) -> Preprocessing:
    return schema.convert(Preprocessing, data, what="a passport")


def test_a_ground_that_is_none_is_no_preprocessing() -> None:
    good = dataclasses.asdict(GREY)
    assert read({**good, "ground": "light"}).ground == "light"
    del good["ground"]  # passports from before it was noted
    assert read(good).ground is None
    with pytest.raises(CorruptError, match='`ground` is "paper"'):
        read({**good, "ground": "paper"})


def test_normalise_follows_the_passports_formula() -> None:
    prep = Preprocessing(size=(1, 2), channels=1, mean=(0.25,), std=(0.5,))
    values = normalise(np.array([[[[0, 255]]]], np.uint8), prep)
    np.testing.assert_allclose(values, [[[[-0.5, 1.5]]]], atol=1e-6)
    assert values.dtype == np.float32


def test_normalise_inverts_when_the_passport_says_so() -> None:
    prep = Preprocessing(size=(1, 2), channels=1, invert=True)
    np.testing.assert_allclose(normalise(np.array([[[0, 255]]], np.uint8), prep), [[[1.0, 0.0]]])


def bomb_png(width: int, height: int) -> bytes:
    """Return a few hundred bytes that claim to be a huge PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def test_a_picture_of_forty_thousand_pixels_square_is_refused_before_decoding() -> None:
    with pytest.raises(ImageError, match="over the limit of 25,000,000"):
        read_image(bomb_png(40_000, 40_000))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is empty"),
        (b"hello", "no picture"),
        (b"%PDF-1.7 ...", "no picture"),
        (encoded(ramp())[:120], "damaged or truncated"),
        (encoded(ramp("RGB", (64, 64)), "JPEG")[:300], "damaged or truncated"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(data: bytes, why: str) -> None:
    with pytest.raises(ImageError, match=why) as caught:
        read_image(data, name="cat.png")
    assert str(caught.value).startswith("cat.png")
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="No such file"):
        read_image(tmp_path / "gone.png")
    with pytest.raises(ImageError, match="Is a directory"):
        read_image(tmp_path)


def test_too_many_bytes_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "big.png"
    file.write_bytes(encoded(ramp()) + b"\0" * 5000)
    with pytest.raises(ImageError, match="over the limit of 0 MiB"):
        read_image(file, max_bytes=1000)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 400), st.binary(min_size=1, max_size=8), st.sampled_from(["PNG", "JPEG", "GIF", "BMP"]))
def test_damage_anywhere_gives_a_picture_or_an_image_error(at: int, junk: bytes, format: str) -> None:
    data = bytearray(encoded(ramp("RGB" if format == "JPEG" else "L", (24, 24)), format))
    at = min(at, len(data) - 1)
    data[at : at + len(junk)] = junk
    try:
        image = read_image(bytes(data), max_pixels=100_000)
    except ImageError:
        return
    assert image.mode in ("L", "RGB")


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300))
def test_any_size_fits_any_network(width: int, height: int) -> None:
    image = Image.new("RGB", (width, height), (1, 2, 3))
    pixels = fit_pixels(image, COLOUR)
    np.testing.assert_array_equal(pixels.reshape(3, -1).max(axis=1), [1, 2, 3])


def test_preprocessing_that_cannot_be_is_refused() -> None:
    good = {"size": [28, 28], "channels": 1, "scale": 1, "mean": [0], "std": [1], "invert": False}
    assert read(good).size == (28, 28)
    for change in ({"std": [0.0]}, {"channels": 2}, {"size": [0, 28]}, {"mean": [0, 0]}):
        with pytest.raises(CorruptError, match="is damaged"):
            read({**good, **change})


LEVELS = np.arange(256, dtype=np.float32).reshape(16, 16)
WIDE = {
    "float": (LEVELS / 255, (0.0, 1.0)),
    "12 bits in 16": ((LEVELS * 16).astype(np.uint16), (0.0, 4080.0)),
    "Hounsfield": ((LEVELS * 16 - 1024).astype(np.int32), (-1024.0, 3056.0)),
}


@pytest.mark.parametrize("kind", list(WIDE))
def test_256_levels_of_a_wide_picture_stay_256_levels(kind: str) -> None:
    values, levels = WIDE[kind]
    data = encoded(Image.fromarray(values), "TIFF")
    assert value_range(data, name="it") == levels
    read = np.asarray(read_image(data, wide=levels))
    np.testing.assert_array_equal(read, LEVELS)


def test_a_wide_picture_whose_range_nobody_knows_is_refused_or_surely_read() -> None:
    for values, expected in (
        (LEVELS / 255, LEVELS),
        (LEVELS, LEVELS),
        ((LEVELS * 257).astype(np.uint16), LEVELS),
    ):
        read = np.asarray(read_image(encoded(Image.fromarray(values), "TIFF"), wide="refuse"))
        np.testing.assert_array_equal(read, expected)
    for kind in ("12 bits in 16", "Hounsfield"):
        data = encoded(Image.fromarray(WIDE[kind][0]), "TIFF")
        with pytest.raises(
            ImageError, match=r"it has values from -?\d+ to \d+, .* `train --levels LOW,HIGH`"
        ):
            read_image(data, name="it", wide="refuse")
    narrow = encoded(Image.fromarray(LEVELS.astype(np.uint8)))
    assert value_range(narrow, name="it") is None


@pytest.mark.parametrize(("plug_in", "kind"), [("pillow_heif", "HEIF"), ("pillow_jxl", "JXL")])
def test_a_picture_of_a_plug_in_is_read_where_that_is_installed(plug_in: str, kind: str) -> None:
    package = pytest.importorskip(plug_in, reason=f"{plug_in} is not installed")
    if kind == "HEIF":
        package.register_heif_opener()
    data = encoded(Image.new("RGB", (20, 10), (200, 30, 30)), kind)
    assert read_image(data).size == (20, 10)
    assert count_frames(data) == 1
    with pytest.raises(ImageError, match=r"^the picture is damaged or truncated"):
        read_image(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"\0\0\0\x18ftypheic", "pip install pillow-heif"),
        (b"\xff\x0a", "pip install pillow-jxl-plugin"),
        (b"<html>404</html>", "is no picture that can be read; known: PNG"),
    ],
)
def test_what_is_not_read_is_named_with_what_reads_it(start: bytes, what: str) -> None:
    # where a plug-in is installed, its picture is a damaged one
    with pytest.raises(ImageError, match=f"{what}|damaged"):
        read_image(start + bytes(40))


def sixteen_bits(pixels: NDArray[np.uint16]) -> bytes:
    """Return (H, W, 3) as a PNG file of 16 bits a colour, which Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def test_colours_of_twelve_bits_in_sixteen_are_never_near_black_in_silence() -> None:
    levels = np.arange(256, dtype=np.uint16).reshape(16, 16, 1).repeat(3, axis=2)
    assert len(np.unique(np.asarray(read_image(sixteen_bits(levels * 256))))) == 256
    with pytest.raises(ImageError, match=r"dim\.png has colours of 16 bits and values of 25 % at the most"):
        read_image(sixteen_bits(levels * 16), name="dim.png")
    assert not np.asarray(read_image(sixteen_bits(levels * 0))).any()


@pytest.mark.parametrize(
    ("start", "why"), [(b"version https://git-lfs", "git lfs pull"), (b"II*\0", "TIFF file with pixels of a")]
)
def test_what_looks_like_a_picture_and_is_not_read_is_told(start: bytes, why: str) -> None:
    with pytest.raises(ImageError, match=why):
        read_image(start + b"\0" * 64)


def ppm(levels: NDArray[np.int64], white: int) -> bytes:
    """Return (H, W, 3) as a PPM file, whose head names the value of white."""
    height, width, _ = levels.shape
    return b"P6 %d %d %d\n" % (width, height, white) + levels.astype(">u2").tobytes()


def test_the_white_of_a_ppm_file_tells_dark_pictures_from_those_of_fewer_bits() -> None:
    levels = np.arange(256).reshape(16, 16, 1).repeat(3, axis=2)
    assert len(np.unique(np.asarray(read_image(ppm(levels * 257, 65535))))) == 256
    text = b"P3 16 16 65535\n" + b" ".join(b"%d" % value for value in (levels * 16).ravel().tolist())
    for dim in (ppm(levels * 16, 65535), text):
        with pytest.raises(ImageError, match=r"dim\.ppm has colours of 16 bits and values of 25 % at the"):
            read_image(dim, name="dim.ppm")
    assert np.asarray(read_image(ppm(levels, 4095))).max() == 16  # of a white of 4095 it is so much
    np.testing.assert_array_equal(np.asarray(read_image(b"P1 2 2\n1 0 0 1\n")), [[0, 255], [255, 0]])


def test_sixteen_bits_of_a_whole_pixel_are_not_sixteen_of_a_colour() -> None:
    body = struct.pack("<4H", *[5 << 11 | 10 << 5 | 5] * 4)  # 2×2 pixels, a sixth of white
    masks = struct.pack("<3I", 0xF800, 0x7E0, 0x1F)
    head = struct.pack("<I2i2H6I", 40, 2, 2, 1, 16, 3, len(body), 0, 0, 0, 0)
    start = 14 + len(head) + len(masks)
    file = b"BM" + struct.pack("<I2HI", start + len(body), 0, 0, start) + head + masks + body
    pixels = np.asarray(read_image(file))
    assert pixels.shape == (2, 2, 3)
    assert 35 < pixels.min() <= pixels.max() < 48


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_a_damaged_picture_that_pillow_opened_is_refused_as_its_file_is(format: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8))
    data = encoded(noise, format)
    cut = Image.open(io.BytesIO(data[: len(data) // 2]))  # which reads the head alone
    with cut, pytest.raises(ImageError, match=r"^it is damaged or truncated"):
        open_picture(cut, name="it")
