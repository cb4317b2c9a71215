"""The contract of a model file: `MODELS`, a tuple of ModelSpec.

Model files import torch inside their builders, so that listing the zoo costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from toolkit.catalog import Shelf
from toolkit.errors import unknown_name
from toolkit.recipes import Recipe

if TYPE_CHECKING:
    from torch import nn


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


FAMILIES: Shelf[tuple[ModelSpec, ...]] = Shelf("toolkit.models", "MODELS", tuple, "family of models")

__all__ = ["FAMILIES", "ModelSpec", "Recipe"]
