"""LeNet and its variants: two convolutions and three dense layers on 28×28 pictures.

Source: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition"
(1998), in the form of "Dive into Deep Learning", chapter 7.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Literal

from toolkit.models import ModelSpec, Recipe

if TYPE_CHECKING:
    from torch import nn

PAPER = "LeCun et al. 1998, as in Dive into Deep Learning"


def build_lenet(
    channels: int,
    classes: int,
    *,
    activation: Literal["sigmoid", "relu"],
    pool: Literal["avg", "max"],
) -> nn.Module:
    """Map (N, channels, 28, 28) float32 to (N, classes) logits."""
    from torch import nn

    act = nn.Sigmoid if activation == "sigmoid" else nn.ReLU
    down = nn.AvgPool2d if pool == "avg" else nn.MaxPool2d
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 6, kernel_size=5, padding=2),
            act1=act(),
            pool1=down(2),
            conv2=nn.Conv2d(6, 16, kernel_size=5),
            act2=act(),
            pool2=down(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(16 * 5 * 5, 120),
            act3=act(),
            fc2=nn.Linear(120, 84),
            act4=act(),
            fc3=nn.Linear(84, classes),
        )
    )


def _textbook(lr: float, epochs: int) -> Recipe:
    return Recipe(
        name="textbook",
        epochs=epochs,
        batch=64,
        optimizer="sgd",
        lr=lr,
        init="xavier-uniform",
        pixels="unit",
        validation_fraction=0.0,
        select="last",
        guard=False,
        source="lenet-fashion-mnist.txt",
    )


_DEFAULT = Recipe(
    name="default",
    epochs=15,
    batch=64,
    optimizer="adamw",
    lr=4e-3,
    weight_decay=0.01,
    schedule="one-cycle",
    label_smoothing=0.05,
    flip=True,
    shift_pixels=1,
)

MODELS = (
    ModelSpec(
        name="lenet",
        family="lenet",
        input_shape=(1, 28, 28),
        build=partial(build_lenet, activation="sigmoid", pool="avg"),
        recipes={"default": _DEFAULT, "textbook": _textbook(0.9, 5)},
        summary="sigmoid, average pooling",
        source=PAPER,
    ),
    ModelSpec(
        name="lenet-relu",
        family="lenet",
        input_shape=(1, 28, 28),
        build=partial(build_lenet, activation="relu", pool="avg"),
        recipes={"default": _DEFAULT, "textbook": _textbook(0.1, 10)},
        summary="ReLU, average pooling",
        source=PAPER,
    ),
    ModelSpec(
        name="lenet-maxpool",
        family="lenet",
        input_shape=(1, 28, 28),
        build=partial(build_lenet, activation="relu", pool="max"),
        recipes={"default": _DEFAULT, "textbook": _textbook(0.05, 10)},
        summary="ReLU, max pooling",
        source=PAPER,
    ),
)
