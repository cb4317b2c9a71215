"""Batches are resized as single pictures are, so that training, evaluation and serving see the same."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from toolkit.preprocessing import FIXED_POINT, Preprocessing, fit_pixels, resize_batch, resize_weights


@pytest.mark.parametrize(
    ("old", "new"), [(28, 224), (28, 80), (32, 224), (28, 14), (23, 14), (63, 10), (28, 28)]
)
def test_a_batch_is_resized_as_its_pictures_would_be_one_by_one(old: int, new: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, old, old), dtype=np.uint8)
    preprocessing = Preprocessing(size=(new, new), channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)
    singly = [fit_pixels(Image.fromarray(np.moveaxis(picture, 0, -1)), preprocessing) for picture in pixels]
    np.testing.assert_array_equal(np.stack(singly), resize_batch(pixels, (new, new)))


def test_weights_of_every_new_pixel_sum_to_one() -> None:
    for old, new in ((28, 224), (224, 28), (33, 20)):
        assert np.allclose(resize_weights(old, new).sum(axis=1) / FIXED_POINT, 1.0)
