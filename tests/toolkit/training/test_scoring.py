"""Figures over all images: intervals, confusion, classes, and what the mirror image adds."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from toolkit.datasets import Split  # noqa: E402  (after the skip)
from toolkit.preprocessing import Formula, Preprocessing, fit_batch, normalise  # noqa: E402  (after the skip)
from toolkit.training.data.batches import InputTransform  # noqa: E402
from toolkit.training.scoring import Score, score, wilson  # noqa: E402


def test_wilson_intervals_are_the_published_ones() -> None:
    # Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(29, 29) == pytest.approx((0.8830, 1.0), abs=5e-5)


class Brightness(torch.nn.Module):
    """Answers class 1 for pictures that are lighter on the left than on the right, else class 0."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        half = x.shape[3] // 2
        lead = (x[..., :half].mean((1, 2, 3)) - x[..., half:].mean((1, 2, 3)))[:, None]
        return torch.cat([-lead, lead], 1)


def transform(size: tuple[int, int] = (4, 4)) -> InputTransform:
    return InputTransform(preprocessing=Preprocessing(size=size, channels=1), device=torch.device("cpu"))


def test_confusion_counts_every_image_once_also_in_a_last_small_batch() -> None:
    images = torch.zeros(7, 1, 4, 4, dtype=torch.uint8)
    images[:3, :, :, :2] = 255
    images[3:, :, :, 2:] = 255
    data = Split(images=images.numpy(), labels=np.array([1, 1, 0, 0, 0, 0, 1]))
    module = Brightness().train()
    found = score(module, data, classes=3, transform=transform(), batch=2)
    assert found.confusion.tolist() == [[3, 1, 0], [1, 2, 0], [0, 0, 0]]
    assert found.confusion.sum() == 7
    assert found.accuracy == pytest.approx(5 / 7)
    assert found.class_accuracy == (0.75, pytest.approx(2 / 3), None)
    assert module.training  # left as it was
    assert found.class_precision == (0.75, pytest.approx(2 / 3), None)
    assert found.balanced_accuracy == pytest.approx((0.75 + 2 / 3) / 2)


def test_precision_recall_and_f1_are_those_of_the_textbook() -> None:
    # of 6 true cats 4 found, one dog called a cat; nobody answered "fox", and no fox was shown
    found = Score(images=10, loss=0.0, confusion=np.array([[4, 2, 0], [1, 3, 0], [0, 0, 0]]))
    assert found.class_accuracy == (pytest.approx(4 / 6), 0.75, None)
    assert found.class_precision == (0.8, 0.6, None)
    assert found.class_f1 == (pytest.approx(8 / 11), pytest.approx(6 / 9), None)
    assert found.balanced_accuracy == pytest.approx((4 / 6 + 0.75) / 2)


def test_a_class_that_is_never_answered_has_no_precision_and_an_f1_of_0() -> None:
    found = Score(images=5, loss=0.0, confusion=np.array([[3, 0], [2, 0]]))
    assert found.class_precision == (0.6, None)
    assert found.class_f1 == (0.75, 0.0)


def test_the_mirror_image_is_averaged_in_only_when_asked() -> None:
    images = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    images[:, :, :, :2] = 255
    data = Split(images=images.numpy(), labels=np.array([1, 1]))
    plain = score(Brightness(), data, classes=2, transform=transform(), batch=2)
    mirrored = score(Brightness(), data, classes=2, transform=transform(), batch=2, flip=True)
    assert plain.accuracy == 1.0
    # left and right cancel, so both classes are equally likely
    assert mirrored.loss == pytest.approx(np.log(2))


@pytest.mark.parametrize("formula", get_args(Formula))
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(28, 28), (40, 40), (12, 12)])
def test_what_is_trained_on_is_what_is_served_bit_for_bit(
    formula: Formula, channels: int, size: tuple[int, int]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, channels, 28, 28), dtype=np.uint8)
    preprocessing = Preprocessing(
        size=size,
        channels=channels,
        mean=(0.3, 0.4, 0.5)[:channels],
        std=(0.35, 0.25, 0.15)[:channels],
        formula=formula,
    )
    ours = InputTransform(preprocessing=preprocessing, device=torch.device("cpu"))(torch.from_numpy(pixels))
    served = normalise(fit_batch(pixels, preprocessing), preprocessing)
    np.testing.assert_array_equal(ours.numpy(), served)
