"""Preprocessing gives torchvision's and timm's pixels and tensors bit for bit, the same in every place."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from toolkit.preprocessing import (
    Formula,
    Interpolation,
    Preprocessing,
    Resize,
    fit_batch,
    fit_pixels,
    normalise,
)

IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def picture(width: int, height: int, *, grey: bool = False) -> Image.Image:
    shape = (height, width) if grey else (height, width, 3)
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def theirs(image: Image.Image, network: Preprocessing) -> NDArray[np.uint8]:
    """Return what torchvision's transforms make of a picture, put together as timm's for evaluation."""
    transforms = pytest.importorskip("torchvision.transforms")
    modes = transforms.InterpolationMode
    mode = {"bilinear": modes.BILINEAR, "bicubic": modes.BICUBIC, "nearest": modes.NEAREST}[
        network.interpolation
    ]
    height, width = network.size
    wanted: int | tuple[int, int] = (
        math.floor(height / network.crop_share),
        math.floor(width / network.crop_share),
    )
    if network.resize == "crop":
        wanted = wanted[0]
    steps = [transforms.Resize(wanted, mode, antialias=True), transforms.CenterCrop(network.size)]
    made: NDArray[np.uint8] = np.asarray(transforms.Compose(steps)(image.convert("RGB")))
    return np.moveaxis(made, -1, 0)


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(["crop", "squash"]),
    st.sampled_from(["bilinear", "bicubic", "nearest"]),
    st.tuples(st.integers(5, 300), st.integers(5, 300)),
    st.sampled_from([16, 31, 32, 64]),
    st.sampled_from([1.0, 0.875, 0.9, 0.95, 0.5]),
)
def test_crop_and_squash_give_the_pixels_of_torchvision(
    resize: Resize, interpolation: Interpolation, sides: tuple[int, int], size: int, share: float
) -> None:
    network = Preprocessing(
        size=(size, size), channels=3, resize=resize, interpolation=interpolation, crop_share=share
    )
    image = picture(*sides)
    np.testing.assert_array_equal(fit_pixels(image, network), theirs(image, network))


def test_a_squashed_picture_may_have_two_sides() -> None:
    network = Preprocessing(size=(20, 50), channels=3, resize="squash", interpolation="bicubic")
    image = picture(70, 33)
    np.testing.assert_array_equal(fit_pixels(image, network), theirs(image, network))


@pytest.mark.parametrize("sides", [(224, 160), (50, 300), (300, 50), (7, 9)])
@pytest.mark.parametrize("share", [1.0, 0.8])
def test_a_cropped_picture_covers_a_network_whose_sides_differ(sides: tuple[int, int], share: float) -> None:
    network = Preprocessing(
        size=(48, 192), channels=3, resize="crop", interpolation="bilinear", crop_share=share
    )
    image = Image.new("RGB", sides, (10, 200, 30))
    assert fit_pixels(image, network).shape == (3, 48, 192)
    # nothing beside the picture is seen
    assert (fit_pixels(image, network) == np.array([10, 200, 30])[:, None, None]).all()


@pytest.mark.parametrize(
    ("mean", "std"), [(IMAGENET["mean"], IMAGENET["std"]), ((0.5,) * 3, (0.5,) * 3), ((0.0,) * 3, (1.0,) * 3)]
)
def test_divide_gives_the_tensors_of_torchvision_bit_for_bit(mean: Any, std: Any) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    image = picture(32, 32)
    network = Preprocessing(size=(32, 32), channels=3, mean=mean, std=std, formula="divide")
    wanted = transforms.Normalize(mean, std)(transforms.ToTensor()(image)).numpy()
    np.testing.assert_array_equal(normalise(fit_pixels(image, network), network), wanted)


def test_a_passport_without_a_formula_keeps_the_one_that_it_was_made_with() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    known = Preprocessing(size=(16, 16), channels=1, mean=(0.2859,), std=(0.353,))
    assert known.formula == "multiply"
    factor, offset = np.float32(1 / 255) / np.float32(0.353), np.float32(0.2859) / np.float32(0.353)
    np.testing.assert_array_equal(normalise(pixels, known), pixels.astype(np.float32) * factor - offset)


@pytest.mark.parametrize("formula", get_args(Formula))
def test_colours_in_the_order_bgr_are_the_others_turned_round(formula: Formula) -> None:
    pixels = fit_pixels(picture(8, 8), Preprocessing(size=(8, 8), channels=3))
    rgb = Preprocessing(size=(8, 8), channels=3, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), formula=formula)
    bgr = Preprocessing(
        size=(8, 8), channels=3, order="bgr", mean=(0.3, 0.2, 0.1), std=(0.6, 0.5, 0.4), formula=formula
    )
    np.testing.assert_array_equal(normalise(pixels, bgr), normalise(pixels, rgb)[::-1])


@pytest.mark.parametrize(("scale", "white"), [(1 / 255, 1.0), (1.0, 255.0), (2 / 255, 2.0)])
def test_a_scale_of_one_keeps_levels_from_0_to_255(scale: float, white: float) -> None:
    network = Preprocessing(size=(1, 1), channels=1, scale=scale, formula="divide")
    assert normalise(np.full((1, 1, 1), 255, np.uint8), network).item() == pytest.approx(white)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(get_args(Resize)),
    st.sampled_from(get_args(Interpolation)),
    st.sampled_from([1.0, 0.875]),
    st.sampled_from([1, 3]),
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.sampled_from([1, 3]),
    st.sampled_from([(28, 28), (30, 20), (5, 7)]),
)
def test_a_batch_is_fitted_exactly_as_its_pictures_one_by_one(
    resize: Resize,
    interpolation: Interpolation,
    share: float,
    have: int,
    extent: tuple[int, int],
    want: Literal[1, 3],
    size: tuple[int, int],
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, have, *extent), dtype=np.uint8)
    network = Preprocessing(
        size=size, channels=want, resize=resize, interpolation=interpolation, crop_share=share
    )
    frames = [Image.fromarray(p[0] if have == 1 else np.moveaxis(p, 0, -1)) for p in pixels]
    singly = np.stack([fit_pixels(frame, network) for frame in frames])
    np.testing.assert_array_equal(fit_batch(pixels, network), singly)


@pytest.mark.parametrize("interpolation", get_args(Interpolation))
def test_a_long_thin_picture_is_covered_at_its_centre_only(
    interpolation: Interpolation, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Preprocessing(size=(31, 40), channels=3, resize="crop", interpolation=interpolation)
    image = picture(301, 3)
    whole = fit_pixels(image, network)
    monkeypatch.setattr("toolkit.preprocessing._COVERING_PIXELS", 0)
    part = fit_pixels(image, network)
    assert np.abs(part.astype(int) - whole).max() <= 1


def test_a_line_of_pixels_covers_a_network() -> None:
    line = Image.new("L", (10_000_000, 1))
    line.paste(255, (5_000_000, 0, 10_000_000, 1))
    network = Preprocessing(size=(224, 224), channels=1, resize="crop", interpolation="nearest")
    pixels = fit_pixels(line, network)
    assert pixels[0, :, :112].max() == 0
    assert pixels[0, :, 112:].min() == 255
