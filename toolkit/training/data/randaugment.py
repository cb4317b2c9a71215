"""RandAugment on whole batches: so many operations on each picture, drawn of 14, all equally strong.

Source: Cubuk et al., "RandAugment: practical automated data augmentation with a reduced search space" (2019),
with torchvision's ranges. Brightness, colour, contrast and sharpness change by up to 0.9 either way,
moves by up to 30°, 0.3 and 150/331 of a side; what moves in from outside a picture is black.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from toolkit.training.data.draws import PictureDraws
from toolkit.training.data.geometry import whole_levels
from toolkit.training.data.operations import Histograms, brighten, contrast, move, saturate, sharpen

_MOST = 30
_IDENTITY, _SHEAR_X, _SHEAR_Y, _MOVE_X, _MOVE_Y, _ROTATE = range(6)
_BRIGHTNESS, _COLOUR, _CONTRAST, _SHARPNESS = range(6, 10)
_POSTERIZE, _SOLARIZE, _AUTOCONTRAST, _EQUALIZE = range(10, 14)
_KINDS = 14


def randaugment(images: Tensor, operations: int, level: float, draws: PictureDraws) -> Tensor:
    """Do so many operations of a level from 0 to 30 on (N, C, H, W) uint8 pictures."""
    for _ in range(operations):
        kind = draws.integers(_KINDS)
        sign = torch.where(draws.uniform() < 0.5, -1.0, 1.0)
        strength = sign * (level / _MOST)
        for first, last, change in (
            (_SHEAR_X, _ROTATE, _move),
            (_BRIGHTNESS, _SHARPNESS, _enhance),
            (_POSTERIZE, _EQUALIZE, _remap),
        ):
            where = torch.nonzero((kind >= first) & (kind <= last)).flatten()
            if len(where):
                images = images.index_copy(0, where, change(images[where], kind[where], strength[where]))
    return images


def _move(images: Tensor, kind: Tensor, strength: Tensor) -> Tensor:
    def where(wanted: int, most: float) -> Tensor:
        return torch.where(kind == wanted, strength * most, 0.0)

    return move(
        images,
        angle=where(_ROTATE, math.radians(30)),
        shear_x=where(_SHEAR_X, 0.3),
        shear_y=where(_SHEAR_Y, 0.3),
        move_x=where(_MOVE_X, 2 * 150 / 331),
        move_y=where(_MOVE_Y, 2 * 150 / 331),
    )


def _enhance(images: Tensor, kind: Tensor, strength: Tensor) -> Tensor:
    values = images.float()
    for wanted, change in (
        (_BRIGHTNESS, brighten),
        (_COLOUR, saturate),
        (_CONTRAST, contrast),
        (_SHARPNESS, sharpen),
    ):
        factor = torch.where(kind == wanted, 1 + 0.9 * strength, 1.0)[:, None, None, None]
        values = torch.where((kind == wanted)[:, None, None, None], change(values, factor), values)
    return whole_levels(values)


def _remap(images: Tensor, kind: Tensor, strength: Tensor) -> Tensor:
    found = Histograms(images)
    kind, share = (v.repeat_interleave(found.channels)[:, None] for v in (kind, strength.abs()))
    dropped = (share * 4).round().long()  # of 8 bits, 4 are left at the most
    tables = torch.where(kind == _AUTOCONTRAST, found.autocontrast(), found.steps)
    tables = torch.where(kind == _EQUALIZE, found.equalize(), tables)
    tables = torch.where(kind == _POSTERIZE, found.steps >> dropped << dropped, tables)
    threshold = (255 * (1 - share)).long()
    tables = torch.where((kind == _SOLARIZE) & (found.steps >= threshold), 255 - found.steps, tables)
    return found.look_up(tables)
