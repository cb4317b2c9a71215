"""Network in Network: convolutions followed by 1×1 convolutions, and no dense layer at all.

Source: Lin, Chen, Yan, "Network In Network" (2013), in the form of "Dive into Deep Learning", chapter 8.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from toolkit.models import ModelSpec, Recipe

if TYPE_CHECKING:
    from torch import nn


def nin_block(before: int, after: int, kernel: int, stride: int, padding: int) -> nn.Sequential:
    """Build a k×k convolution and two 1×1 ones, a ReLU behind each: (N, before, …) → (N, after, …)."""
    from torch import nn

    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(before, after, kernel, stride, padding),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(after, after, kernel_size=1),
            relu2=nn.ReLU(),
            conv3=nn.Conv2d(after, after, kernel_size=1),
            relu3=nn.ReLU(),
        )
    )


def build_nin(channels: int, classes: int) -> nn.Module:
    """Map (N, channels, 224, 224) float32 to (N, classes) scores that are never negative.

    The last block ends in a ReLU, as published: a class whose 25 pre-activations are below 0 on every
    picture has score 0 and no gradient, so it can never be answered again; nor can what needs a shut one of
    the ten channels before it. The divergence guard notices, and where it starts afresh it opens them all.
    """
    from torch import nn

    return nn.Sequential(
        OrderedDict(
            block1=nin_block(channels, 96, 11, 4, 0),
            pool1=nn.MaxPool2d(3, 2),
            block2=nin_block(96, 256, 5, 1, 2),
            pool2=nn.MaxPool2d(3, 2),
            block3=nin_block(256, 384, 3, 1, 1),
            pool3=nn.MaxPool2d(3, 2),
            dropout=nn.Dropout(0.5),
            block4=nin_block(384, classes, 3, 1, 1),
            average=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
        )
    )


MODELS = (
    ModelSpec(
        name="nin",
        family="nin",
        input_shape=(1, 224, 224),
        build=build_nin,
        recipes={
            # 0.9109 of Fashion-MNIST's test set, seed 0
            "default": Recipe(
                name="default",
                epochs=6,
                batch=128,
                optimizer="adamw",
                lr=1e-3,
                weight_decay=0.01,
                schedule="one-cycle",
                label_smoothing=0.05,
                clip_norm=1.0,
                init="kaiming-uniform",
                flip=True,
            ),
            "textbook": Recipe(
                name="textbook",
                epochs=10,
                batch=256,
                optimizer="sgd",
                lr=0.1,
                init="xavier-uniform",
                pixels="unit",
                validation_fraction=0.0,
                select="last",
                guard=False,
                source="nin-fashion-mnist.txt",
            ),
        },
        summary="1×1 convolutions instead of dense layers",
        source="Lin et al. 2013, as in Dive into Deep Learning",
    ),
)
