"""Batches depend on (seed, epoch, step) alone, and every image is seen once an epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from toolkit.datasets import Split, split_off  # noqa: E402
from toolkit.errors import CnnkitError, CorruptError  # noqa: E402
from toolkit.listings.rows import PictureRows  # noqa: E402
from toolkit.models import Recipe  # noqa: E402
from toolkit.preprocessing import Preprocessing  # noqa: E402
from toolkit.splits import evenly  # noqa: E402
from toolkit.training.data.batches import (  # noqa: E402
    InputTransform,
    MemoryBatches,
    exact_device,
    steps_in,
    tensors,
)
from toolkit.training.data.prepare import preprocessing_for  # noqa: E402
from toolkit.training.data.workers import WorkerBatches  # noqa: E402

FINISH = InputTransform(preprocessing=Preprocessing(size=(6, 6), channels=1), device=torch.device("cpu"))
RECIPE = Recipe(name="x", batch=8, flip=True, shift_pixels=1)
EVERYTHING = Recipe(
    **{"name": "x", "batch": 8, "flip": True, "shift_pixels": 1, "rotate_degrees": 5.0, "augmix": 0.5},
    **{"colour": 0.2, "cutout_pixels": 2},  # type: ignore[arg-type]
)


def data(count: int = 50, classes: int = 5, channels: int = 1) -> Split:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, channels, 6, 6), dtype=np.uint8)
    return Split(images=images, labels=np.arange(count, dtype=np.int64) % classes)


def all_of(batches: MemoryBatches | WorkerBatches, epoch: int, first: int = 0) -> list[tuple[object, object]]:
    return [(images.tolist(), labels.tolist()) for images, labels in batches.epoch(epoch, first)]


def memory(seed: int = 0) -> MemoryBatches:
    return MemoryBatches(data(), RECIPE, seed, FINISH)


def test_an_epoch_sees_every_image_once_in_an_order_of_its_own() -> None:
    plain = MemoryBatches(data(), Recipe(name="x", batch=8), 0, FINISH)
    first, second = (torch.cat([images for images, _ in plain.epoch(epoch)]) for epoch in (0, 1))
    assert not torch.equal(first, second)
    for seen in (first, second):
        levels = sorted(map(tuple, (seen * 255).round().int().flatten(1).tolist()))
        assert levels == sorted(map(tuple, data().images.reshape(50, -1).tolist()))


def test_an_epoch_taken_up_in_its_middle_goes_on_as_it_would_have() -> None:
    assert all_of(memory(), 3, first=4) == all_of(memory(), 3)[4:]


def test_another_seed_gives_other_batches_and_the_same_one_the_same() -> None:
    assert all_of(memory(1), 0) == all_of(memory(1), 0)
    assert all_of(memory(1), 0) != all_of(memory(2), 0)


@pytest.mark.parametrize(
    ("images", "batch", "steps"), [(64, 8, 8), (65, 8, 8), (66, 8, 9), (1, 8, 1), (5, 8, 1)]
)
def test_a_last_batch_of_one_picture_is_left_out_for_batch_norms_sake(
    images: int, batch: int, steps: int
) -> None:
    assert steps_in(images, batch) == steps
    found = MemoryBatches(data(images), Recipe(name="x", batch=batch), 0, FINISH)
    assert len(all_of(found, 0)) == steps
    assert found.images == sum(len(labels) for _, labels in found.epoch(0))


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_loader_deals_out_what_one_process_does_bit_for_bit(workers: int) -> None:
    dealt = WorkerBatches(data(), EVERYTHING, 7, FINISH, workers=workers)
    alone = MemoryBatches(data(), EVERYTHING, 7, FINISH)
    assert (dealt.steps, dealt.images) == (alone.steps, alone.images)
    for epoch in (1, 0):
        assert all_of(dealt, epoch) == all_of(alone, epoch)
    abandoned = dealt.epoch(2)
    next(abandoned)
    abandoned.close()  # as an epoch that the guard ends
    assert all_of(dealt, 1, first=3) == all_of(alone, 1)[3:]


def test_an_error_in_a_loaders_process_is_told_as_it_is() -> None:
    class Broken(PictureRows):
        def read(self, places: Any) -> Any:
            raise CorruptError("cat.jpg changed while it was read")

        def identities(self) -> list[str]:
            return []

    broken = Split(images=Broken((1, 6, 6), np.arange(50)), labels=data().labels)
    with pytest.raises(CorruptError, match=r"^cat.jpg changed while it was read$"):
        all_of(WorkerBatches(broken, RECIPE, 7, FINISH, workers=1), 0)


def test_validation_takes_its_share_of_every_class_and_nothing_is_in_both() -> None:
    learned, held = split_off(data(500), 0.1)
    assert held is not None
    assert (len(learned), len(held)) == (450, 50)
    assert np.bincount(held.labels).tolist() == [10] * 5
    together = np.concatenate([learned.images, held.images]).reshape(500, -1)
    assert len(np.unique(together, axis=0)) == len(np.unique(data(500).images.reshape(500, -1), axis=0))
    assert split_off(data(), 0.0)[1] is None


def test_a_class_with_one_picture_keeps_it_and_all_such_are_refused() -> None:
    lone = Split(images=data(9).images, labels=np.array([0] * 8 + [1]))
    learned, held = split_off(lone, 0.5)
    assert held is not None
    assert 1 in learned.labels
    assert 1 not in held.labels
    with pytest.raises(CnnkitError, match="--validation-fraction 0 --select last"):
        split_off(data(5), 0.1)


def test_fewer_images_are_taken_evenly_over_the_classes() -> None:
    few = evenly(data(500), 52)
    assert len(few) == 52
    assert set(np.bincount(few.labels)) == {10, 11}
    assert len(evenly(data(20), 999)) == 20


@pytest.mark.parametrize("channels", [1, 3])
def test_standardised_pixels_have_mean_0_and_deviation_1(channels: int) -> None:
    split = data(200, channels=channels)
    preprocessing = preprocessing_for(Recipe(name="x"), split, (6, 6))
    values = InputTransform(preprocessing=preprocessing, device=torch.device("cpu"))(
        torch.from_numpy(split.images)
    )
    assert values.mean((0, 2, 3)).tolist() == pytest.approx([0] * channels, abs=1e-4)
    assert values.std((0, 2, 3), correction=0).tolist() == pytest.approx([1] * channels, abs=1e-4)


def test_unit_and_half_pixels_have_the_ranges_of_their_names() -> None:
    split = Split(images=np.array([0, 255], dtype=np.uint8).reshape(1, 1, 1, 2), labels=np.zeros(1, np.int64))
    for pixels, wanted in (("unit", [0.0, 1.0]), ("half", [-1.0, 1.0])):
        preprocessing = preprocessing_for(Recipe(name="x", pixels=pixels), split, (1, 2))  # type: ignore[arg-type]
        transform = InputTransform(preprocessing=preprocessing, device=torch.device("cpu"))
        assert transform(torch.from_numpy(split.images)).flatten().tolist() == pytest.approx(wanted)


def test_pictures_of_one_colour_are_not_divided_by_nothing() -> None:
    flat = Split(images=np.full((4, 1, 6, 6), 9, np.uint8), labels=np.arange(4))
    assert preprocessing_for(Recipe(name="x"), flat, (6, 6)).std == (1.0,)


@pytest.mark.parametrize(("shade", "channels", "ground"), [(0, 1, "dark"), (240, 1, "light"), (240, 3, None)])
def test_the_ground_of_grey_training_pictures_is_noted(shade: int, channels: int, ground: str | None) -> None:
    split = Split(images=np.full((4, channels, 6, 6), shade, np.uint8), labels=np.arange(4))
    assert preprocessing_for(Recipe(name="x"), split, (6, 6)).ground == ground


def test_one_channel_is_not_taken_for_channels_last() -> None:
    grey = np.zeros((6, 5, 4), dtype=np.uint8)[:, None][np.array([1, 3, 5])]
    images, _ = tensors(Split(images=grey, labels=np.zeros(3, dtype=np.int64)))
    odd = np.lib.stride_tricks.as_strided(grey, (3, 1, 5, 4), (20, 1, 4, 1))
    for array in (grey, odd):
        images, _ = tensors(Split(images=array, labels=np.zeros(3, dtype=np.int64)))
        assert images.stride() == (20, 20, 4, 1)


def test_pictures_are_resized_where_there_is_float64() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda", 1)
    assert [exact_device(device) for device in (cpu, cuda, torch.device("mps", 0))] == [cpu, cuda, cpu]
