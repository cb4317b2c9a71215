"""Pictures become the tensor that a network takes, whoever asks, in the order and rank of its input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from toolkit.answering import arranged, inputs_for, inputs_of_fitted, read_picture
from toolkit.datasets import Split, dataset_of
from toolkit.passports import Passport, TensorSpec
from toolkit.preprocessing import Preprocessing, normalise

CROPPED = Preprocessing(
    size=(16, 16), channels=3, resize="crop", crop_share=0.875, interpolation="bicubic", formula="divide"
)


def passport(preprocessing: Preprocessing, takes: TensorSpec) -> Passport:
    return Passport(
        format="onnx",
        model="odd",
        precision="fp32",
        trained=None,
        input=takes,
        output=TensorSpec(name="y", shape=(None, 5)),
        classes=("a", "b", "c", "d", "e"),
        preprocessing=preprocessing,
    )


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for part in ("train", "test"):
        for name in ("left", "right"):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            pixels = random.integers(0, 256, (24, 31, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "a.png")
    return tmp_path


def test_a_folders_pictures_are_cropped_once_and_are_what_a_single_picture_becomes(photographs: Path) -> None:
    known = passport(CROPPED, TensorSpec(name="x", shape=(None, 3, 16, 16), layout="NCHW"))
    test = dataset_of(f"folder:{photographs}").load(f"folder:{photographs}", None, False, CROPPED).test
    together = inputs_for(test, known)[:]
    for index, name in enumerate(("left", "right")):
        shown = read_picture(photographs / "test" / name / "a.png", CROPPED)
        alone = inputs_of_fitted(shown.pixels[None], known)[:]
        np.testing.assert_array_equal(together[index], alone[0])


def test_pictures_of_the_networks_own_size_are_cropped_unless_they_were_already() -> None:
    known = passport(CROPPED, TensorSpec(name="x", shape=(None, 3, 16, 16), layout="NCHW"))
    pixels = np.random.default_rng(1).integers(0, 256, (2, 3, 16, 16), dtype=np.uint8)
    raw = Split(images=pixels, labels=np.zeros(2, np.int64))
    fitted = Split(images=pixels, labels=np.zeros(2, np.int64), fitted=CROPPED)
    assert not np.array_equal(inputs_for(raw, known)[:], inputs_for(fitted, known)[:])
    np.testing.assert_array_equal(
        inputs_for(fitted.take(slice(1, 2)), known)[:], normalise(pixels[1:], CROPPED)
    )


@pytest.mark.parametrize(
    ("takes", "order"),
    [
        (TensorSpec(name="x", shape=(None, 3, 2, 4), layout="NCHW"), (0, 1, 2, 3)),
        (TensorSpec(name="x", shape=(None, 2, 4, 3), layout="NHWC"), (0, 2, 3, 1)),
        (TensorSpec(name="x", shape=(None, 24), layout="NCHW"), (0, 1, 2, 3)),
        (TensorSpec(name="x", shape=(None, 24), layout="NHWC"), (0, 2, 3, 1)),
    ],
)
def test_values_lie_as_the_input_takes_them(takes: TensorSpec, order: tuple[int, ...]) -> None:
    values = np.arange(48).reshape(2, 3, 2, 4)
    wanted = values.transpose(order).reshape(2, *takes.shape[1:])  # type: ignore[arg-type]
    np.testing.assert_array_equal(arranged(values, takes), wanted)


def test_a_grey_network_without_a_channel_axis_gets_none() -> None:
    grey = np.arange(8).reshape(1, 1, 2, 4)
    assert arranged(grey, TensorSpec(name="x", shape=(None, 2, 4))).shape == (1, 2, 4)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16", "float64"])
def test_whole_pixels_go_in_as_the_type_that_the_input_has(dtype: str) -> None:
    raw = Preprocessing(size=(2, 2), channels=3, scale=1.0, formula="divide")
    pixels = np.arange(12, dtype=np.uint8).reshape(1, 3, 2, 2)
    takes = TensorSpec(name="x", shape=(None, 2, 2, 3), dtype=dtype, layout="NHWC")
    found = inputs_of_fitted(pixels, passport(raw, takes))[:]
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, pixels.transpose(0, 2, 3, 1))
