"""Operations on whole batches of pictures that AugMix and RandAugment draw from.

(N, C, H, W) uint8 in and out. Each takes figures for each picture: moves are done by one sampling, tables of
256 levels by one look-up.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from toolkit.training.data.geometry import affine, turn


def move(
    images: Tensor, *, angle: Tensor, shear_x: Tensor, shear_y: Tensor, move_x: Tensor, move_y: Tensor
) -> Tensor:
    """Turn by (N,) radians, shear, and move by shares of half a side; 0 leaves a picture as it is."""
    matrices = turn(angle)
    matrices[:, 0, 1] += shear_x
    matrices[:, 1, 0] += shear_y
    matrices[:, 0, 2] += move_x
    matrices[:, 1, 2] += move_y
    return affine(images, matrices)


class Histograms:
    """The levels of each channel of each picture, and the pictures looked up in tables made of them."""

    def __init__(self, images: Tensor) -> None:
        self._shape = images.shape
        count, channels = images.shape[:2]
        self.channels = channels
        self._flat = images.reshape(count * channels, -1).long()
        self.steps = torch.arange(256).expand(count * channels, 256)
        counts = torch.zeros(count * channels, 256, dtype=torch.int64)
        self.counts = counts.scatter_add_(1, self._flat, torch.ones_like(self._flat))

    def look_up(self, tables: Tensor) -> Tensor:
        """Replace each level by the entry of its channel's (256,) table."""
        return tables.gather(1, self._flat).to(torch.uint8).reshape(self._shape)

    def autocontrast(self) -> Tensor:
        """Return tables that stretch each channel's darkest level to 0 and its lightest to 255."""
        steps = torch.arange(256)
        present = self.counts > 0
        low = torch.where(present, steps, 255).amin(1, keepdim=True)
        high = torch.where(present, steps, 0).amax(1, keepdim=True)
        stretched = (steps - low).float() * 255 / (high - low).clamp(min=1)
        return torch.where(high > low, stretched.clamp(0, 255).long(), steps)

    def equalize(self) -> Tensor:
        """Return tables that even out each channel's histogram, as Pillow's ImageOps.equalize does."""
        histogram = self.counts
        last_present = torch.where(histogram > 0, torch.arange(256), 0).amax(1, keepdim=True)
        last = (histogram * (torch.arange(256) == last_present)).sum(1, keepdim=True)
        step = (histogram.sum(1, keepdim=True) - last) // 255
        below = histogram.cumsum(1) - histogram
        tables = ((below + step // 2) // step.clamp(min=1)).clamp(0, 255)
        return torch.where(step > 0, tables, torch.arange(256))


def brighten(values: Tensor, factor: Tensor) -> Tensor:
    """Multiply float (N, C, H, W) levels by (N, 1, 1, 1) factors."""
    return (values * factor).clamp_(0, 255)


def contrast(values: Tensor, factor: Tensor) -> Tensor:
    """Move levels from or towards their picture's mean grey."""
    greys = grey(values)
    if len(greys) == 1:  # torch would sum a single large picture in as many parts as it has threads
        greys = greys.expand(2, *greys.shape[1:]).contiguous()
    mean = greys.mean((2, 3), keepdim=True)[: len(values)]
    return (mean + (values - mean) * factor).clamp_(0, 255)


def saturate(values: Tensor, factor: Tensor) -> Tensor:
    """Move colours from or towards grey; pictures of one channel have none."""
    if values.shape[1] == 1:
        return values
    own = grey(values)
    return own + (values - own) * factor


def sharpen(values: Tensor, factor: Tensor) -> Tensor:
    """Move levels from or towards the picture smoothed, as Pillow's ImageEnhance.Sharpness; edges stay."""
    if min(values.shape[2:]) < 3:
        return values
    kernel = torch.tensor([[1.0, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
    count, channels = values.shape[:2]
    inner = functional.conv2d(values.flatten(0, 1)[:, None], kernel[None, None])
    inner = inner.view(count, channels, *inner.shape[2:])
    smooth = values.clone()
    smooth[:, :, 1:-1, 1:-1] = inner.round()
    return (smooth + (values - smooth) * factor).clamp_(0, 255)


def grey(values: Tensor) -> Tensor:
    """Return (N, 1, H, W) luma by ITU-R BT.601, as Pillow does; one channel is its own."""
    if values.shape[1] == 1:
        return values
    return 0.299 * values[:, :1] + 0.587 * values[:, 1:2] + 0.114 * values[:, 2:]
