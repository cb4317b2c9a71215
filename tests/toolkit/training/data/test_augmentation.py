"""Augmentation of batches, held to what each operation means and to Pillow's own."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

torch = pytest.importorskip("torch")

from toolkit.models import Recipe  # noqa: E402  (after the skip)
from toolkit.training.data import augmix  # noqa: E402
from toolkit.training.data import randaugment as ra  # noqa: E402
from toolkit.training.data.augmentation import (  # noqa: E402
    augment,
    colour,
    crop,
    cutout,
    erase,
    flip,
    rotate,
    shift,
)
from toolkit.training.data.draws import PictureDraws, occurrences  # noqa: E402
from toolkit.training.data.geometry import affine  # noqa: E402
from toolkit.training.data.operations import contrast, move  # noqa: E402
from toolkit.training.data.randaugment import randaugment  # noqa: E402

OPERATIONS = {
    "flip": Recipe(name="x", flip=True),
    "shift": Recipe(name="x", shift_pixels=2),
    "crop": Recipe(name="x", crop_padding=3),
    "rotate": Recipe(name="x", rotate_degrees=15),
    "colour": Recipe(name="x", colour=0.3),
    "cutout": Recipe(name="x", cutout_pixels=5),
    "augmix": Recipe(name="x", augmix=0.7),
    # of the batches below the whole one has a picture that AugMix is given, and the other one has none
    "rare augmix": Recipe(name="x", augmix=0.05, erasing=0.5),
    "crop-area": Recipe(name="x", crop_area=0.2),
    "randaugment": Recipe(name="x", randaugment=3, randaugment_level=20),
    "erasing": Recipe(name="x", erasing=0.5),
    "all": Recipe(
        name="x", flip=True, shift_pixels=1, rotate_degrees=5, colour=0.1, cutout_pixels=3, augmix=0.5
    ),
}


STILL = {word: torch.zeros(1) for word in ("angle", "shear_x", "shear_y", "move_x", "move_y")}


def drawing(images: torch.Tensor, seed: int = 0) -> PictureDraws:
    return PictureDraws(seed, torch.arange(len(images)))


def pictures(count: int = 16, channels: int = 1, side: int = 28, seed: int = 0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=random)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(OPERATIONS)),
    st.integers(1, 9),
    st.sampled_from([1, 3]),
    st.integers(6, 33),
    st.integers(0, 2**62),
)
def test_every_operation_keeps_shape_and_type_and_repeats_from_its_seed(
    name: str, count: int, channels: int, side: int, seed: int
) -> None:
    images = pictures(count, channels, side)
    before = images.clone()
    first = augment(images, OPERATIONS[name], drawing(images, seed))
    assert first.shape == images.shape
    assert first.dtype == torch.uint8
    assert torch.equal(first, augment(images, OPERATIONS[name], drawing(images, seed)))
    assert torch.equal(images, before)  # the data set itself is never written to


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_a_picture_becomes_depends_on_no_other_of_its_batch(name: str) -> None:
    images, numbers = pictures(12, 3), torch.arange(100, 112)
    whole = augment(images, OPERATIONS[name], PictureDraws(7, numbers))
    some = torch.tensor([9, 2, 4])
    assert torch.equal(augment(images[some], OPERATIONS[name], PictureDraws(7, numbers[some])), whole[some])


def test_draws_are_even_and_those_of_neighbours_unlike() -> None:
    numbers = torch.arange(20_000)
    first, second = PictureDraws(0, numbers), PictureDraws(1, numbers)
    even = first.uniform(4)
    assert 0 <= float(even.min()) < 1e-3
    assert 1 - 1e-3 < float(even.max()) < 1
    rows = torch.cat([even, even[:1].roll(1), second.uniform(2), first.of(numbers).uniform(2)])
    assert float((torch.corrcoef(rows) - torch.eye(len(rows))).abs().max()) < 0.03
    for counts in (torch.bincount(first.integers(7)), torch.bincount(first.levels(3).flatten().int())):
        wanted = float(counts.float().mean())
        assert float(((counts - wanted) ** 2 / wanted).sum()) < len(counts) + 5 * (2 * len(counts)) ** 0.5
    assert occurrences(torch.tensor([5, 3, 5, 5, 3])).tolist() == [0, 0, 1, 2, 1]


def test_a_recipe_without_augmentation_changes_nothing() -> None:
    images = pictures()
    assert augment(images, Recipe(name="x"), drawing(images)) is images


def test_flip_mirrors_about_half_and_leaves_the_rest() -> None:
    images = pictures(400, side=7)
    flipped = flip(images, drawing(images))
    mirrored = [torch.equal(after, before.flip(2)) for before, after in zip(images, flipped, strict=True)]
    kept = [torch.equal(after, before) for before, after in zip(images, flipped, strict=True)]
    assert all(a or b for a, b in zip(mirrored, kept, strict=True))
    assert 150 < sum(mirrored) < 250


def test_a_cropped_part_is_enlarged_and_the_whole_area_changes_nothing() -> None:
    ramp = torch.arange(0, 240, 10, dtype=torch.uint8).expand(200, 1, 24, 24).contiguous()
    parts = crop(ramp, 0.25, drawing(ramp)).float()
    spans = (parts[..., 12, -1] - parts[..., 12, 0]).flatten() / 230
    assert 0.4 < float(spans.min()) < 0.6 < 0.9 < float(spans.max()) <= 1.0
    assert torch.equal(crop(ramp, 1.0, drawing(ramp)), ramp)


@pytest.mark.parametrize("least", [0.25, 0.8, 0.97])
def test_a_cropped_part_has_at_least_the_share_that_was_asked_for(least: float) -> None:
    ramp = torch.arange(0, 250, dtype=torch.uint8)
    across = ramp.expand(100, 1, 250, 250).contiguous()
    down = across.transpose(2, 3).contiguous()
    wide, tall = (crop(pictures, least, drawing(pictures)).float() for pictures in (across, down))
    # a level is a place: levels are rounded, and edge pixels reach half a pixel beyond their middles
    shares = (wide[..., 9, -1] - wide[..., 9, 0] + 1) * (tall[..., -1, 9] - tall[..., 0, 9] + 1) / 250**2
    assert least - 0.01 < float(shares.min()) < least + 0.2 * (1 - least)


def test_erasing_fills_rectangles_of_some_pictures_with_noise() -> None:
    blank = torch.zeros(400, 1, 30, 30, dtype=torch.uint8)
    found = erase(blank, 0.3, drawing(blank))
    shares = (found != 0).float().mean((1, 2, 3))
    assert 80 < int((shares > 0).sum()) < 160
    assert 0.005 < float(shares[shares > 0].min()) < 0.06
    assert 0.25 < float(shares.max()) < 0.36


@pytest.mark.parametrize(
    ("kind", "pillow"),
    [
        (ra._BRIGHTNESS, ImageEnhance.Brightness),
        (ra._COLOUR, ImageEnhance.Color),
        (ra._CONTRAST, ImageEnhance.Contrast),
        (ra._SHARPNESS, ImageEnhance.Sharpness),
    ],
)
@pytest.mark.parametrize("strength", [-0.5, 0.6])
def test_randaugments_enhancements_are_pillows(kind: int, pillow: Any, strength: float) -> None:
    images = pictures(3, channels=3, side=16)
    ours = ra._enhance(images, torch.full((3,), kind), torch.full((3,), strength))
    for before, after in zip(images, ours, strict=True):
        picture = Image.fromarray(before.permute(1, 2, 0).numpy())
        theirs = np.asarray(pillow(picture).enhance(1 + 0.9 * strength)).astype(int)
        assert np.abs(after.permute(1, 2, 0).numpy().astype(int) - theirs).max() <= 2


def test_randaugment_draws_all_of_its_operations_and_level_0_only_remaps() -> None:
    images = pictures(2000, channels=3, side=6)
    changed = (randaugment(images, 1, 9.0, drawing(images)) != images).flatten(1).any(1).float().mean()
    assert 0.7 < float(changed) < 0.97  # identity, and what does nothing to noise, leave some as they were


def test_shift_is_a_crop_out_of_the_padded_picture() -> None:
    images = pictures(60, channels=3, side=8)
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    places = set()
    for index, moved in enumerate(shift(images, 2, drawing(images))):
        found = [
            (y, x)
            for y in range(5)
            for x in range(5)
            if torch.equal(moved, padded[index, :, y : y + 8, x : x + 8])
        ]
        assert found
        places.update(found)
    assert len(places) > 20  # of 25: every picture draws its own


def test_rotation_by_a_right_angle_is_exact_and_by_none_is_identity() -> None:
    images = pictures(3, side=9)
    quarter = torch.tensor([[[0.0, -1, 0], [1, 0, 0]]]).expand(3, 2, 3)
    assert torch.equal(affine(images, quarter), torch.rot90(images, 1, (2, 3)))
    assert torch.equal(rotate(images, 0.0, drawing(images)), images)


@pytest.mark.parametrize(("height", "width"), [(18, 30), (30, 18)])
def test_turning_and_shearing_go_by_pixels_in_pictures_that_are_not_square(height: int, width: int) -> None:
    side, rim = max(height, width), abs(width - height) // 2
    inside = torch.zeros(1, 1, side, side, dtype=torch.uint8)
    inside[..., 12:18, 12:18] = pictures(1, side=6)
    cut = (slice(None), slice(None), slice(0, side), slice(rim, side - rim))
    cut = cut if height > width else (*cut[:2], cut[3], cut[2])
    oblong = inside[cut].contiguous()
    assert oblong.shape[2:] == (height, width)
    for turned in (
        lambda images: rotate(images, 80.0, drawing(images)),
        lambda images: move(images, **{**STILL, "shear_x": torch.tensor([0.3])}),
        lambda images: move(images, **{**STILL, "shear_y": torch.tensor([-0.4])}),
    ):
        # what turns within the oblong turns as in the square around it, but for rounding
        difference = turned(oblong).int() - turned(inside)[cut].int()
        assert difference.abs().max() <= 1
        assert not torch.equal(turned(oblong), oblong)


def test_colour_keeps_pictures_near_themselves() -> None:
    images = pictures(32, channels=3).clamp(100, 150)
    change = (colour(images, 0.1, drawing(images)).int() - images.int()).abs()
    assert 0 < change.max() <= 30


def test_cutout_blanks_one_square_at_most() -> None:
    images = torch.full((50, 1, 20, 20), 255, dtype=torch.uint8)
    holes = (cutout(images, 6, drawing(images)) == 0).sum((1, 2, 3))
    assert holes.max() == 36
    assert holes.min() >= 9  # a corner


def test_augmix_mixes_the_share_that_was_asked_for() -> None:
    images = pictures(400, channels=3, side=16)
    touched = (augmix.augmix(images, 0.6, drawing(images)) != images).flatten(1).any(1).float().mean()
    assert 0.5 < touched < 0.7
    assert torch.equal(augmix.augmix(images, 0.0, drawing(images)), images)


@pytest.mark.parametrize(
    ("operation", "by_pillow"),
    [
        (augmix._AUTOCONTRAST, lambda image, level: ImageOps.autocontrast(image)),
        (augmix._EQUALIZE, lambda image, level: ImageOps.equalize(image)),
        (augmix._POSTERIZE, lambda image, level: ImageOps.posterize(image, 4 - int(level * 4))),
        (augmix._SOLARIZE, lambda image, level: ImageOps.solarize(image, 256 - int(level * 256))),
    ],
)
def test_augmix_tables_are_pillows(operation: int, by_pillow: object) -> None:
    images = pictures(6, channels=3, side=12)
    images[0] = 77  # a picture of one colour
    images[1] = images[1].clamp(90, 160)
    levels = torch.tensor([0.01, 0.1, 0.2, 0.25, 0.26, 0.3])
    ours = augmix._remap(images, torch.full((6,), operation), levels, torch.ones(6))
    for picture, answer, level in zip(images, ours, levels, strict=True):
        image = Image.fromarray(np.moveaxis(picture.numpy(), 0, -1))
        wanted = np.moveaxis(np.asarray(by_pillow(image, float(level))), -1, 0)  # type: ignore[operator]
        assert np.abs(answer.numpy().astype(int) - wanted).max() <= 1  # autocontrast rounds its own way


def test_shift_and_crop_margins_add_up() -> None:
    recipe = dataclasses.replace(OPERATIONS["shift"], crop_padding=1)
    images = pictures()
    assert torch.equal(augment(images, recipe, drawing(images)), shift(images, 3, drawing(images)))


def test_contrast_is_the_same_of_one_large_picture_as_of_many_on_any_number_of_threads() -> None:
    random = torch.Generator().manual_seed(1)
    pictures = torch.rand(24, 3, 200, 200, generator=random) * 255
    factors = torch.rand(24, 1, 1, 1, generator=random) + 0.5
    found = {}
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for size in (1, 12):
                parts = zip(pictures.split(size), factors.split(size), strict=True)
                found[threads, size] = torch.cat([contrast(values, factor) for values, factor in parts])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, found[1, 12]) for one in found.values())
