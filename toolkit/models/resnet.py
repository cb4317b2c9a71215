"""ResNet-18, with ImageNet's stem or one made for 32×32 pictures.

Source: He, Zhang, Ren, Sun, "Deep residual learning for image recognition" (2015); torchvision's
implementation. The CIFAR stem is the paper's section 4.2: a 3×3 convolution and no first pool.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from toolkit.errors import needs_extra
from toolkit.models import ModelSpec, Recipe
from toolkit.models._library_recipes import RECIPES

if TYPE_CHECKING:
    from torch import nn

PAPER = "He et al. 2015; torchvision"


def build_resnet18(channels: int, classes: int, *, small_stem: bool) -> nn.Module:
    """Map (N, channels, H, W) float32 to (N, classes) logits; any H and W from 32 on.

    With ImageNet's stem a 32×32 picture has one position left before the last stage's end; the small
    stem keeps 4×4.
    """
    with needs_extra("train"):
        from torch import nn
        from torchvision.models import resnet18
    net: nn.Module = resnet18(weights=None, num_classes=classes)
    if small_stem:
        net.conv1 = nn.Conv2d(channels, 64, kernel_size=3, padding=1, bias=False)
        net.maxpool = nn.Identity()
    elif channels != 3:
        net.conv1 = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
    return net


_DEFAULT = Recipe(
    name="default",
    epochs=8,
    batch=128,
    optimizer="adamw",
    lr=3e-3,
    weight_decay=0.05,
    schedule="one-cycle",
    label_smoothing=0.05,
    flip=True,
    crop_padding=4,
)
# resnet18-cifar: 0.8677 of CIFAR-10-JPEG75's test set, seed 0. Eight epochs reach 0.8569, and with AdamW as
# above 0.8566.
_CIFAR = replace(_DEFAULT, epochs=10, optimizer="sgd", lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
# weights that were trained elsewhere, by the recipe of other packages' networks; their passport or
# ImageNet's figures decide the pixels
_FINETUNE = replace(RECIPES["finetune"], pixels="standardise")
_TEXTBOOK = Recipe(
    name="textbook",
    epochs=12,
    batch=64,
    optimizer="adam",
    lr=0.002,
    weight_decay=1e-4,
    schedule="cosine",
    pixels="half",
    flip=True,
    crop_padding=2,
    augmix=0.6,
    validation_fraction=0.0,
    select="last",
    guard=False,
    assumed=("batch",),
    source="cifar10-experiments.txt",
)

MODELS = (
    ModelSpec(
        name="resnet18",
        family="resnet",
        input_shape=(3, 32, 32),
        build=partial(build_resnet18, small_stem=False),
        dataset="cifar10",
        recipes={"default": _DEFAULT, "finetune": _FINETUNE, "textbook": _TEXTBOOK},
        summary="ImageNet's stem, as the write-up used it",
        source=PAPER,
    ),
    ModelSpec(
        name="resnet18-cifar",
        family="resnet",
        input_shape=(3, 32, 32),
        build=partial(build_resnet18, small_stem=True),
        dataset="cifar10",
        recipes={"default": _CIFAR, "finetune": _FINETUNE, "textbook": _TEXTBOOK},
        summary="3×3 stem, no first pool",
        source=PAPER,
    ),
)
