"""Pebble: two convolutions and a dense layer, for pictures of 12×12."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.models import ModelSpec
from toolkit.recipes import Recipe

if TYPE_CHECKING:
    from torch import nn


def build_pebble(channels: int, classes: int) -> nn.Module:
    """Build it with PyTorch's own initial weights."""
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(72, classes),
    )


MODELS = (
    ModelSpec(
        name="pebble",
        family="pebble",
        input_shape=(1, 12, 12),
        build=build_pebble,
        dataset="fashion-mnist-sample",
        recipes={"default": Recipe(name="default", epochs=2, batch=16, lr=4e-3)},
        summary="two convolutions",
        source="of this project",
    ),
)
