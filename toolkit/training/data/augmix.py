"""AugMix on whole batches: several chains of mild operations, mixed with the picture itself.

Source: Hendrycks et al., "AugMix: a simple data processing method to improve robustness and
uncertainty" (2019), with its defaults: severity 3, three chains of one to three operations, all
mixing weights uniform. Its nine operations are either moves (rotate, shear, translate), done for
all pictures by one sampling, or tables of 256 levels (autocontrast, equalize, posterize, solarize).
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from toolkit.training.data.geometry import affine, turn, whole_levels

_SEVERITY, _CHAINS, _DEPTH = 3.0, 3, 3
_ROTATE, _SHEAR_X, _SHEAR_Y, _MOVE_X, _MOVE_Y, _AUTOCONTRAST, _EQUALIZE, _POSTERIZE, _SOLARIZE = range(9)
_MOVES = 5  # operations below this number are moves


def augmix(images: Tensor, share: float, random: Generator) -> Tensor:
    """Give about `share` of (N, C, H, W) uint8 pictures to AugMix."""
    chosen = torch.nonzero(torch.rand(len(images), generator=random) < share).flatten()
    if len(chosen) == 0:
        return images
    plain = images[chosen]
    weights = torch.empty(_CHAINS, len(plain), 1, 1, 1).exponential_(generator=random)
    weights /= weights.sum(0)  # equals a Dirichlet draw with all concentrations 1
    mixed = torch.zeros(plain.shape)
    for weight in weights:
        mixed += weight * _chain(plain, random).float()
    strength = torch.rand(len(plain), 1, 1, 1, generator=random)
    blended = torch.lerp(plain.float(), mixed, strength)
    return images.index_copy(0, chosen, whole_levels(blended))


def _chain(images: Tensor, random: Generator) -> Tensor:
    depth = torch.randint(1, _DEPTH + 1, (len(images),), generator=random)
    for position in range(_DEPTH):
        # drawn for every picture, so that the numbers do not depend on what other pictures drew
        operation = torch.randint(9, (len(images),), generator=random)
        level = 0.1 + torch.rand(len(images), generator=random) * (_SEVERITY - 0.1)
        sign = torch.where(torch.rand(len(images), generator=random) < 0.5, -1.0, 1.0)
        active = depth > position
        for kind, change in ((operation < _MOVES, _move), (operation >= _MOVES, _remap)):
            where = torch.nonzero(active & kind).flatten()
            if len(where):
                changed = change(images[where], operation[where], level[where] / 10, sign[where])
                images = images.index_copy(0, where, changed)
    return images


def _move(images: Tensor, operation: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Rotate by up to 30°, shear by up to 0.3 or translate by up to a third, all times level."""
    matrices = turn(torch.where(operation == _ROTATE, sign * level * math.radians(30), 0.0))
    matrices[:, 0, 1] += torch.where(operation == _SHEAR_X, sign * level * 0.3, 0.0)
    matrices[:, 1, 0] += torch.where(operation == _SHEAR_Y, sign * level * 0.3, 0.0)
    # a third of the side is two thirds of the way from −1 to 1
    matrices[:, 0, 2] += torch.where(operation == _MOVE_X, sign * level * 2 / 3, 0.0)
    matrices[:, 1, 2] += torch.where(operation == _MOVE_Y, sign * level * 2 / 3, 0.0)
    return affine(images, matrices)


def _remap(images: Tensor, operation: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Replace each level by a table's entry: autocontrast, equalize, posterize or solarize."""
    count, channels = images.shape[:2]
    flat = images.reshape(count * channels, -1).long()
    steps = torch.arange(256).expand(count * channels, 256)
    histogram = torch.zeros(count * channels, 256, dtype=torch.int64)
    histogram.scatter_add_(1, flat, torch.ones_like(flat))
    operation, level = (v.repeat_interleave(channels)[:, None] for v in (operation, level))
    # 4 bits at level 0 and one less at a quarter of the way, as the paper's integer arithmetic has it
    bits = 4 + (level * 4).long()
    tables = torch.where(operation == _AUTOCONTRAST, _autocontrast(histogram), steps)
    tables = torch.where(operation == _EQUALIZE, _equalize(histogram), tables)
    tables = torch.where(operation == _POSTERIZE, steps >> bits << bits, tables)
    threshold = 256 - (level * 256).long()
    tables = torch.where((operation == _SOLARIZE) & (steps >= threshold), 255 - steps, tables)
    return tables.gather(1, flat).to(torch.uint8).reshape(images.shape)


def _autocontrast(histogram: Tensor) -> Tensor:
    """Return tables that stretch each channel's darkest level to 0 and its lightest to 255."""
    steps = torch.arange(256)
    present = histogram > 0
    low = torch.where(present, steps, 255).amin(1, keepdim=True)
    high = torch.where(present, steps, 0).amax(1, keepdim=True)
    stretched = (steps - low).float() * 255 / (high - low).clamp(min=1)
    return torch.where(high > low, stretched.clamp(0, 255).long(), steps)


def _equalize(histogram: Tensor) -> Tensor:
    """Return tables that even out each channel's histogram, as Pillow's ImageOps.equalize does."""
    last = (histogram * (torch.arange(256) == _last_present(histogram))).sum(1, keepdim=True)
    step = (histogram.sum(1, keepdim=True) - last) // 255
    below = histogram.cumsum(1) - histogram
    tables = ((below + step // 2) // step.clamp(min=1)).clamp(0, 255)
    return torch.where(step > 0, tables, torch.arange(256))


def _last_present(histogram: Tensor) -> Tensor:
    return torch.where(histogram > 0, torch.arange(256), 0).amax(1, keepdim=True)
