"""The contract of a model file: `MODELS`, a tuple of ModelSpec, or a Library of another package's networks.

Model files import torch inside their builders, so that listing the zoo costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.catalog import Shelf
from toolkit.errors import unknown_name
from toolkit.preprocessing import Preprocessing
from toolkit.recipes import Recipe

if TYPE_CHECKING:
    from torch import Tensor, nn


# the recipe that takes the default one's place where training starts from weights
FINETUNE = "finetune"


@dataclass(frozen=True, kw_only=True)
class Published:
    """What was published of a network: how its pictures are prepared, its classes and its weights.

    `classes` are names in order, None where nobody wrote them down. `files()` are the places where this
    machine's caches would keep the weights, the likeliest first; nothing is ever fetched. `load(weights)`
    returns the network, with its own channels and classes, that these weights, as they were published,
    belong to; what does not fit raises RuntimeError or KeyError. `note` is what is known beside: a licence,
    or how the preparation here differs from theirs. `training_only` are what the names of weights begin with
    that the network is built without, since nothing but training reads them.
    """

    preprocessing: Preprocessing
    classes: tuple[str, ...] | None
    files: Callable[[], Sequence[Path]]
    load: Callable[[dict[str, Tensor]], nn.Module]
    note: str = ""
    training_only: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """One network: how it is built, the pictures it takes and how it is trained.

    `build(channels, classes)` returns a fresh torch module that maps (N, channels, H, W) float32 to
    (N, classes) logits; it picks neither device nor dtype. `input_shape` is (C, H, W) by default. `dataset`
    is what it is trained on where nobody names another; None where there is none of its own. The recipe
    `default` trains from the start, `finetune` takes its place where training begins with weights from
    elsewhere: a network without one has its default at a tenth of the rate. `published` is None where
    nothing was.
    """

    name: str
    family: str
    input_shape: tuple[int, int, int]
    build: Callable[[int, int], nn.Module]
    dataset: str | None = "fashion-mnist"
    classes: int = 10
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    summary: str = ""
    source: str = ""
    published: Published | None = None

    def recipe(self, name: str) -> Recipe:
        """Return the recipe of that name. Raises NotFoundError with the nearest match."""
        start = self.recipes.get("default")
        if name == FINETUNE and name not in self.recipes and start:
            return replace(start, name=FINETUNE, lr=start.lr / 10)
        if name not in self.recipes:
            raise unknown_name(f"recipe of {self.name}", name, self.recipes)
        return self.recipes[name]


@dataclass(frozen=True, kw_only=True)
class Library:
    """The networks of another package, each typed `<scheme>:NAME`; too many to be listed unasked.

    `names(pattern)` are those that a pattern with * and ? fits, `find(name)` is one of them, without the
    scheme. Both import the package and raise MissingExtraError where it is not installed; `find` raises
    NotFoundError with the nearest match.
    """

    scheme: str
    summary: str
    names: Callable[[str], Sequence[str]]
    find: Callable[[str], ModelSpec]


FAMILIES: Shelf[tuple[ModelSpec, ...] | Library] = Shelf(
    "toolkit.models", "MODELS", (tuple, Library), "family of models"
)

__all__ = ["FAMILIES", "FINETUNE", "Library", "ModelSpec", "Published", "Recipe"]
