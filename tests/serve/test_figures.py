"""Where figures lie, and small ones brought to lie as training pictures do: known boxes, known frames."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from serve.page.figures import FRAME_PIXELS, FigureLie, centred, figure_of, is_one_colour, lie_of

MIDDLE = FigureLie(extent=0.5, middle=(0.5, 0.5), by_mass=False)


def paper(box: tuple[int, int, int, int], side: int = 100, mode: str = "L") -> Image.Image:
    image = Image.new(mode, (side, side), "white")
    image.paste("black", box)
    return image


def test_the_lie_is_the_median_of_what_the_pictures_have() -> None:
    pictures = [np.zeros((1, 20, 20), dtype=np.uint8) for _ in range(30)]
    for at, pixels in enumerate(pictures):
        pixels[0, 5:15, 8 : 12 + at % 2] = 200
    lie = lie_of(pictures)
    assert lie is not None
    assert lie.extent == 0.5
    assert lie.middle == pytest.approx((0.5, 0.5125), abs=0.013)
    assert lie_of(pictures[:10]) is None
    assert lie_of([np.zeros((1, 20, 20), dtype=np.uint8)] * 30) is None


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_small_figure_in_a_corner_is_enlarged_and_moved_to_the_middle(mode: str) -> None:
    found = centred(paper((10, 20, 30, 40), mode=mode), MIDDLE, (28, 28))
    assert found is not None
    assert (found.image.size, found.image.mode) == ((40, 40), mode)
    assert found.enlarged == 2.5
    assert found.moved
    box = figure_of(found.image)
    assert box is not None
    assert (box.top, box.bottom, box.left, box.right) == (0.25, 0.75, 0.25, 0.75)
    assert found.image.convert("L").getpixel((0, 0)) == 255


def test_a_figure_that_lies_so_already_is_left_alone() -> None:
    assert centred(paper((25, 25, 75, 75)), MIDDLE, (28, 28)) is None
    assert centred(paper((0, 0, 0, 0)), MIDDLE, (28, 28)) is None


def test_a_large_figure_is_made_smaller() -> None:
    found = centred(paper((0, 0, 0, 0)).resize((100, 100)), MIDDLE, (28, 28))
    assert found is None
    found = centred(paper((10, 10, 90, 90)), MIDDLE, (28, 28))
    assert found is not None
    assert found.enlarged == pytest.approx(0.625)
    assert not found.moved


def test_a_middle_by_weight_differs_from_that_of_the_box() -> None:
    image = paper((40, 40, 60, 50))
    image.paste("black", (40, 50, 44, 60))
    by_box = centred(image, MIDDLE, (28, 28))
    by_mass = centred(image, FigureLie(extent=0.5, middle=(0.5, 0.5), by_mass=True), (28, 28))
    assert by_box is not None
    assert by_mass is not None
    assert np.asarray(by_box.image).tolist() != np.asarray(by_mass.image).tolist()


@pytest.mark.parametrize(
    ("image", "blank"),
    [
        (Image.new("L", (5, 5), 7), True),
        (Image.new("RGB", (5, 5), "red"), True),
        (paper((0, 0, 1, 1)), False),
        (paper((0, 0, 1, 1), mode="RGB"), False),
    ],
)
def test_one_colour_all_over_is_blank(image: Image.Image, blank: bool) -> None:
    assert is_one_colour(image) is blank


def test_a_long_thin_pictures_frame_is_no_larger_than_that_of_any_other() -> None:
    image = Image.new("L", (10_000, 400), "white")
    image.paste("black", (500, 100, 9_500, 300))
    found = centred(image, MIDDLE, (28, 28))
    assert found is not None
    assert found.image.width == found.image.height
    assert found.image.width * found.image.height <= FRAME_PIXELS
    assert found.enlarged == pytest.approx(0.5 * 10_000 / 9_000, rel=0.01)
    box = figure_of(found.image)
    assert box is not None
    assert (box.left, box.right) == pytest.approx((0.25, 0.75), abs=0.01)
