"""The browser's preprocessing is Python's: value for value on pixels, within one grey level from files on."""

from __future__ import annotations

import base64
import dataclasses
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from toolkit.answering import read_picture
from toolkit.preprocessing import Preprocessing, normalise

MINE = """async (cases) => {
  const { decode } = await import("./decoding.js");
  const { fit, groundDiffers, tensorOf, turned } = await import("./pixels.js");
  const packed = (array) => btoa(String.fromCharCode(...new Uint8Array(array.buffer)));
  const made = [];
  for (const { data, how } of cases) {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    const picture = await decode(bytes, how);
    const fitted = fit(picture, how);
    const inverted = groundDiffers(fitted, how);
    const seen = inverted ? turned(fitted) : fitted;
    const tensor = tensorOf(seen, how, { dtype: "float32", layout: "NCHW" });
    made.push({ inverted, pixels: packed(seen.data), tensor: packed(tensor) });
  }
  return made;
}"""
EXIF_ORIENTATION = 0x0112


@pytest.fixture
def mine(tab: Any) -> Any:
    return lambda cases: tab.evaluate(MINE, cases)


def any_way(rng: np.random.Generator) -> Preprocessing:
    channels = int(rng.choice([1, 3]))
    height, width = (28, 28) if rng.random() < 0.5 else map(int, rng.integers(8, 64, 2))
    return Preprocessing(
        size=(height, width),
        channels=channels,
        order=str(rng.choice(["rgb", "bgr"])),
        resize=str(rng.choice(["pad", "crop", "squash"])),
        crop_share=float(rng.choice([1.0, 0.875])),
        interpolation=str(rng.choice(["box-bilinear", "bilinear", "bicubic", "nearest"])),
        mean=tuple(map(float, rng.random(channels))),
        std=tuple(map(float, 0.1 + rng.random(channels))),
        formula=str(rng.choice(["multiply", "divide"])),
        invert=bool(rng.integers(2)),
        ground=rng.choice(np.array([None, "dark", "light", "mixed"], dtype=object)),
    )


def scene(rng: np.random.Generator) -> Image.Image:
    """Return a picture with soft and hard edges, as photos and drawings have."""
    width, height = map(int, rng.integers(9, 120, 2))
    small = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
    image = small.resize((width, height), Image.Resampling.BICUBIC)
    image.paste(tuple(map(int, rng.integers(0, 256, 3))), (width // 4, height // 4, width // 2, height // 2))
    return image


def file_of(kind: str, rng: np.random.Generator) -> bytes:
    image, settings = scene(rng), {}
    if kind == "alpha":
        alpha = np.linspace(0, 255, image.width * image.height).reshape(image.height, image.width)
        image.putalpha(Image.fromarray(alpha.astype(np.uint8)))
    elif kind == "white figure on alpha":
        shade = int(rng.integers(240, 256))
        alpha, image = image.convert("L"), Image.new("RGB", image.size, (shade,) * 3)
        image.putalpha(alpha)
    elif kind == "grey":
        image = image.convert("L")
    elif kind == "palette":
        image = image.quantize(16)
    elif kind in ("turned", "turned-png"):
        exif = Image.Exif()
        exif[EXIF_ORIENTATION] = int(rng.integers(1, 9))
        settings = {"exif": exif} if kind == "turned-png" else {"exif": exif, "quality": 92}
    into = io.BytesIO()
    image.save(into, "JPEG" if kind in ("photo", "turned") else "PNG", **settings)
    return into.getvalue()


def test_two_hundred_pictures_become_what_they_are_in_python(mine: Any) -> None:
    rng = np.random.default_rng(0)
    kinds = [
        "photo",
        "alpha",
        "turned",
        "grey",
        "palette",
        "turned-png",
        "photo",
        "white figure on alpha",
    ] * 25
    files, ways = [file_of(kind, rng) for kind in kinds], [any_way(rng) for _ in kinds]
    cases = [
        {"data": base64.b64encode(data).decode(), "how": dataclasses.asdict(how)}
        for data, how in zip(files, ways, strict=True)
    ]
    worst: dict[str, int] = {}
    for kind, data, how, found in zip(kinds, files, ways, mine(cases), strict=True):
        wanted = read_picture(data, how)
        assert found["inverted"] == wanted.inverted
        pixels = np.moveaxis(wanted.pixels, 0, -1).ravel().astype(int)
        seen = np.frombuffer(base64.b64decode(found["pixels"]), dtype=np.uint8)
        apart = int(np.abs(pixels - seen).max())
        worst[kind] = max(worst.get(kind, 0), apart)
        if apart == 0:  # the same pixels are the same numbers, to the last bit
            tensor = np.frombuffer(base64.b64decode(found["tensor"]), dtype=np.float32)
            assert np.array_equal(normalise(wanted.pixels, how).ravel(), tensor)
    assert max(worst.values()) <= 1, worst
    # what no decoder rounds is equal
    assert {worst[kind] for kind in ("grey", "palette")} == {0}
