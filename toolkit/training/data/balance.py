"""Classes of uneven size: weights of the loss by class, and an order that draws every class equally often."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toolkit.errors import CnnkitError, NotFoundError
from toolkit.recipes import Recipe
from toolkit.training import seeding
from toolkit.training.data.draws import PictureDraws
from toolkit.training.objective import Objective

# the further pictures of a class repeat the first: n of them count for (1 - beta^n) / (1 - beta)
_BETA = 0.999


def objective_of(recipe: Recipe, labels: NDArray[np.int64], classes: Sequence[str]) -> Objective:
    """Return what a recipe's loss is on pictures with these labels. Raises CnnkitError for a bad file."""
    counts = np.bincount(labels, minlength=len(classes))
    shares = counts / counts.sum()
    if recipe.sampling == "balanced":
        shares = (counts > 0) / np.count_nonzero(counts)
    weights = _weights(recipe.class_weights, counts, classes)
    if weights is not None:
        mean = float((weights * shares).sum())
        if mean <= 0:
            raise CnnkitError("--class-weights: no class with training pictures has a weight above 0")
        weights = weights / mean
    return Objective(
        shares=tuple(map(float, shares)),
        smoothing=recipe.label_smoothing,
        weights=None if weights is None else tuple(map(float, weights)),
    )


def _weights(
    how: str | None, counts: NDArray[np.int64], classes: Sequence[str]
) -> NDArray[np.float64] | None:
    """Return the classes' weights, 0 for one without pictures.

    Source of "effective": Cui et al., "Class-balanced loss based on effective number of samples" (2019).
    """
    if how is None:
        return None
    present = np.maximum(counts, 1).astype(np.float64)
    if how == "balanced":
        return np.where(counts > 0, 1 / present, 0.0)
    if how == "effective":
        return np.where(counts > 0, (1 - _BETA) / (1 - _BETA**present), 0.0)
    return _weights_of_file(Path(how), classes)


def _weights_of_file(path: Path, classes: Sequence[str]) -> NDArray[np.float64]:
    try:
        told = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise NotFoundError(
            f"--class-weights {path} cannot be read ({error.strerror or error}); it takes balanced, "
            'effective or a JSON file such as {"cat": 1, "dog": 2.5}'
        ) from None
    except ValueError as error:
        raise CnnkitError(f"{path} is no JSON: {error}") from None
    if not isinstance(told, dict):
        raise CnnkitError(f'{path} holds no object of weights by class, such as {{"{classes[0]}": 1}}')
    lacking, strange = [name for name in classes if name not in told], sorted(set(told) - set(classes))
    if lacking or strange:
        what = f"lacks {', '.join(lacking)}" if lacking else f"names no class by {', '.join(strange)}"
        raise CnnkitError(f"{path} {what}; the classes are {', '.join(classes)}")
    for name, value in told.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
            raise CnnkitError(f"{path}: the weight of {name} is {value!r}; it takes a number from 0")
    return np.array([told[name] for name in classes], dtype=np.float64)


def balanced_order(labels: Tensor, seed: int, epoch: int) -> Tensor:
    """Return an epoch's order of as many pictures as there are labels, with every class equally often.

    A class goes through its pictures in turn, each time in another order; which classes have one more
    changes by epoch. Where a picture comes is drawn by (seed, epoch, picture).
    """
    present = torch.unique(labels)
    share, rest = divmod(len(labels), len(present))
    start = seeding.mix(seed, seeding.ORDER, epoch)
    extra = set(PictureDraws(start, -1 - present).uniform().argsort(stable=True)[:rest].tolist())
    drawn, places = [labels[:0]], [torch.empty(0)]
    for index, label in enumerate(present.tolist()):
        own = (labels == label).nonzero().flatten()
        wanted = share + (index in extra)
        draws, rounds = PictureDraws(start, own), -(-wanted // len(own))
        turns = draws.uniform(rounds).argsort(dim=1, stable=True)
        drawn.append(own[turns].flatten()[:wanted])
        places.append(draws.uniform(rounds).gather(1, turns).flatten()[:wanted])
    return torch.cat(drawn)[torch.cat(places).argsort(stable=True)]
