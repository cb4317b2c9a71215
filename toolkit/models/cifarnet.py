"""Small nets for 3×32×32 pictures: two convolutions and three dense layers, and four variants.

Source: the network of PyTorch's "Training a classifier" tutorial; the variants are the experiments of
the write-up cifar10-experiments. Layers carry the write-up's attribute names.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from toolkit.models import ModelSpec, Recipe

if TYPE_CHECKING:
    from torch import nn

PAPER = "PyTorch's classifier tutorial; cifar10-experiments"


def build_cifarnet(
    channels: int,
    classes: int,
    *,
    widths: tuple[int, int] = (6, 16),
    norm: bool = False,
    dropout: float | None = None,
) -> nn.Module:
    """Map (N, channels, 32, 32) float32 to (N, classes) logits.

    `norm` adds batch norm after both pools and after the first dense layer's ReLU, `dropout` a dropout
    of that share behind each of the three.
    """
    from torch import nn

    def behind(index: int, normalise: Callable[[int], nn.Module], size: int) -> dict[str, nn.Module]:
        norms = {f"bn{index}": normalise(size)} if norm else {}
        dropouts = {f"dropout{index}": nn.Dropout(dropout)} if dropout is not None else {}
        return {**norms, **dropouts}

    first, second = widths
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, first, kernel_size=5),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            **behind(1, nn.BatchNorm2d, first),
            conv2=nn.Conv2d(first, second, kernel_size=5),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            **behind(2, nn.BatchNorm2d, second),
            flatten=nn.Flatten(),
            fc1=nn.Linear(second * 5 * 5, 120),
            relu3=nn.ReLU(),
            **behind(3, nn.BatchNorm1d, 120),
            fc2=nn.Linear(120, 84),
            relu4=nn.ReLU(),
            fc3=nn.Linear(84, classes),
        )
    )


# The write-up states 12 epochs and, with a scheduler, lr 0.002; batch, momentum and the rate without
# a scheduler it does not. It reports the last epoch.
_TEXTBOOK = Recipe(
    name="textbook",
    epochs=12,
    batch=64,
    optimizer="sgd",
    lr=0.001,
    momentum=0.9,
    pixels="half",
    validation_fraction=0.0,
    select="last",
    guard=False,
    assumed=("batch", "lr", "momentum", "pixels"),
    source="cifar10-experiments.txt",
)
_ADAM = dataclasses.replace(
    _TEXTBOOK, name="textbook-adam", optimizer="adam", momentum=0.0, assumed=("batch", "lr", "pixels")
)


def _stepped(recipe: Recipe) -> Recipe:
    """Return the recipe with the write-up's StepLR: from 0.002, halved every five epochs."""
    return dataclasses.replace(
        recipe,
        name=f"{recipe.name}-step",
        lr=0.002,
        schedule="step",
        step_epochs=5,
        step_gamma=0.5,
        assumed=tuple(field for field in recipe.assumed if field != "lr"),
    )


_TEXTBOOKS = {recipe.name: recipe for recipe in (_TEXTBOOK, _ADAM, _stepped(_TEXTBOOK), _stepped(_ADAM))}
# cifarnet: 0.676 ± 0.004 of CIFAR-10-JPEG75's test set, five seeds
_DEFAULT = Recipe(
    name="default",
    epochs=12,
    batch=128,
    optimizer="adamw",
    lr=4e-3,
    weight_decay=0.01,
    schedule="one-cycle",
    label_smoothing=0.05,
    flip=True,
    crop_padding=2,
)
_BEST_TEXTBOOK = dataclasses.replace(
    _TEXTBOOK,
    optimizer="adam",
    lr=0.002,
    momentum=0.0,
    weight_decay=1e-4,
    schedule="cosine",
    flip=True,
    crop_padding=2,
    augmix=0.6,
    assumed=("batch",),
)


def _spec(name: str, summary: str, build: partial[nn.Module], recipes: dict[str, Recipe]) -> ModelSpec:
    return ModelSpec(
        name=name,
        family="cifarnet",
        input_shape=(3, 32, 32),
        build=build,
        dataset="cifar10",
        recipes=recipes,
        summary=summary,
        source=PAPER,
    )


MODELS = (
    _spec(
        "cifarnet",
        "two convolutions, three dense layers",
        partial(build_cifarnet),
        {"default": _DEFAULT, **_TEXTBOOKS},
    ),
    _spec(
        "cifarnet-bn",
        "batch norm after both pools and the first dense layer",
        partial(build_cifarnet, norm=True),
        {"default": _DEFAULT, **_TEXTBOOKS},
    ),
    _spec(
        "cifarnet-kaiming",
        "the same net, Kaiming-uniform start (fan-in, a = 0)",
        partial(build_cifarnet),
        {
            name: dataclasses.replace(recipe, init="kaiming-uniform")
            for name, recipe in {"default": _DEFAULT, **_TEXTBOOKS}.items()
        },
    ),
    _spec(
        "cifarnet-wide",
        "12 and 32 channels",
        partial(build_cifarnet, widths=(12, 32)),
        {"default": _DEFAULT, **_TEXTBOOKS},
    ),
    _spec(
        "cifarnet-best",
        "256 and 256 channels, batch norm, dropout 0.1",
        partial(build_cifarnet, widths=(256, 256), norm=True, dropout=0.1),
        # default: 0.8224 of CIFAR-10-JPEG75's test set, seed 0
        {"default": dataclasses.replace(_DEFAULT, lr=3e-3, epochs=15), "textbook": _BEST_TEXTBOOK},
    ),
)
