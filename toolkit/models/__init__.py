"""The contract of a model file: `MODELS`, a tuple of ModelSpec; and Recipe, how a model is trained.

Model files import torch inside their builders, so that listing the zoo costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from toolkit.errors import unknown_name

if TYPE_CHECKING:
    from torch import nn

Optimizer = Literal["sgd", "adam", "adamw"]
Schedule = Literal["constant", "step", "cosine", "one-cycle"]
Init = Literal["default", "xavier-uniform", "kaiming-uniform"]
Pixels = Literal["standardise", "unit", "half"]
Select = Literal["best", "last"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is trained. Every field can be set on the command line or in a TOML file.

    `pixels`: `standardise` subtracts the training set's mean and divides by its deviation, `unit`
    is pixels / 255 and nothing more, `half` is (pixels / 255 − 0.5) / 0.5. `select` says which
    epoch's weights become the checkpoint: the `best` on the validation split, or the `last`.
    `assumed` names the fields that a textbook recipe's source does not state.
    """

    name: str
    epochs: int = 10
    batch: int = 64
    optimizer: Optimizer = "adamw"
    lr: float = 1e-3
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    schedule: Schedule = "constant"
    step_epochs: int = 5
    step_gamma: float = 0.5
    warmup_epochs: float = 0.0
    label_smoothing: float = 0.0
    clip_norm: float | None = None
    ema_decay: float | None = None
    patience_epochs: int | None = None
    init: Init = "default"
    pixels: Pixels = "standardise"
    flip: bool = False
    shift_pixels: int = 0
    crop_padding: int = 0
    rotate_degrees: float = 0.0
    colour: float = 0.0
    cutout_pixels: int = 0
    augmix: float = 0.0
    validation_fraction: float = 0.1
    select: Select = "best"
    guard: bool = True
    assumed: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """One network: how it is built, the pictures it takes and how it is trained.

    `build(channels, classes)` returns a fresh torch module that maps (N, channels, H, W) float32 to
    (N, classes) logits; it picks neither device nor dtype. `input_shape` is (C, H, W) by default.
    """

    name: str
    family: str
    input_shape: tuple[int, int, int]
    build: Callable[[int, int], nn.Module]
    dataset: str = "fashion-mnist"
    classes: int = 10
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    summary: str = ""
    source: str = ""

    def recipe(self, name: str) -> Recipe:
        """Return the recipe of that name. Raises NotFoundError with the nearest match."""
        if name not in self.recipes:
            raise unknown_name(f"recipe of {self.name}", name, self.recipes)
        return self.recipes[name]
