"""AugMix on whole batches: several chains of mild operations, mixed with the picture itself.

Source: Hendrycks et al., "AugMix: a simple data processing method to improve robustness and
uncertainty" (2019), with its defaults: severity 3, three chains of one to three operations, all
mixing weights uniform. Its nine operations are either moves (rotate, shear, translate), done for
all pictures by one sampling, or tables of 256 levels (autocontrast, equalize, posterize, solarize).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from toolkit.training.data.draws import PictureDraws
from toolkit.training.data.geometry import whole_levels
from toolkit.training.data.operations import Histograms, move

_SEVERITY, _CHAINS, _DEPTH = 3.0, 3, 3
_ROTATE, _SHEAR_X, _SHEAR_Y, _MOVE_X, _MOVE_Y, _AUTOCONTRAST, _EQUALIZE, _POSTERIZE, _SOLARIZE = range(9)
_MOVES = 5  # operations below this number are moves


def augmix(images: Tensor, share: float, draws: PictureDraws) -> Tensor:
    """Give about `share` of (N, C, H, W) uint8 pictures to AugMix."""
    chosen = torch.nonzero(draws.uniform() < share).flatten()
    draws = draws.of(chosen)  # also of none: what is drawn after AugMix depends on no other picture
    if len(chosen) == 0:
        return images
    plain = images[chosen]
    weights = -torch.log1p(-draws.uniform(_CHAINS))[..., None, None, None]
    weights /= weights.sum(0)  # of exponential draws: a Dirichlet draw with all concentrations 1
    mixed = torch.zeros(plain.shape)
    for weight in weights:
        mixed += weight * _chain(plain, draws).float()
    strength = draws.uniform()[:, None, None, None]
    blended = torch.lerp(plain.float(), mixed, strength)
    return images.index_copy(0, chosen, whole_levels(blended))


def _chain(images: Tensor, draws: PictureDraws) -> Tensor:
    depth = 1 + draws.integers(_DEPTH)
    for position in range(_DEPTH):
        operation = draws.integers(9)
        level = 0.1 + draws.uniform() * (_SEVERITY - 0.1)
        sign = torch.where(draws.uniform() < 0.5, -1.0, 1.0)
        active = depth > position
        for kind, change in ((operation < _MOVES, _move), (operation >= _MOVES, _remap)):
            where = torch.nonzero(active & kind).flatten()
            if len(where):
                changed = change(images[where], operation[where], level[where] / 10, sign[where])
                images = images.index_copy(0, where, changed)
    return images


def _move(images: Tensor, operation: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Rotate by up to 30°, shear by up to 0.3 or translate by up to a third, all times level."""

    def where(kind: int, most: float) -> Tensor:
        return torch.where(operation == kind, sign * level * most, 0.0)

    return move(
        images,
        angle=where(_ROTATE, math.radians(30)),
        shear_x=where(_SHEAR_X, 0.3),
        shear_y=where(_SHEAR_Y, 0.3),
        # a third of the side is two thirds of the way from −1 to 1
        move_x=where(_MOVE_X, 2 / 3),
        move_y=where(_MOVE_Y, 2 / 3),
    )


def _remap(images: Tensor, operation: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Replace each level by a table's entry: autocontrast, equalize, posterize or solarize."""
    found = Histograms(images)
    operation, level = (v.repeat_interleave(found.channels)[:, None] for v in (operation, level))
    # 4 bits at level 0 and one less at a quarter of the way, as the paper's integer arithmetic has it
    bits = 4 + (level * 4).long()
    tables = torch.where(operation == _AUTOCONTRAST, found.autocontrast(), found.steps)
    tables = torch.where(operation == _EQUALIZE, found.equalize(), tables)
    tables = torch.where(operation == _POSTERIZE, found.steps >> bits << bits, tables)
    threshold = 256 - (level * 256).long()
    tables = torch.where((operation == _SOLARIZE) & (found.steps >= threshold), 255 - found.steps, tables)
    return found.look_up(tables)
