"""Augmentation of whole batches: (N, C, H, W) uint8 in, the same shape and type out.

Each function draws for each picture from the generator it is given and touches all pictures at once;
what moves in from outside a picture is black.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional

from toolkit.models import Recipe
from toolkit.training.data.augmix import augmix
from toolkit.training.data.geometry import affine, turn, whole_levels


def augment(images: Tensor, recipe: Recipe, random: Generator) -> Tensor:
    """Apply what the recipe asks for, geometry before colour before holes."""
    if recipe.flip:
        images = flip(images, random)
    if recipe.rotate_degrees:
        images = rotate(images, recipe.rotate_degrees, random)
    margin = recipe.shift_pixels + recipe.crop_padding
    if margin:
        images = shift(images, margin, random)
    if recipe.augmix:
        images = augmix(images, recipe.augmix, random)
    if recipe.colour:
        images = colour(images, recipe.colour, random)
    if recipe.cutout_pixels:
        images = cutout(images, recipe.cutout_pixels, random)
    return images


def flip(images: Tensor, random: Generator) -> Tensor:
    """Mirror each picture left to right with probability one half."""
    chosen = (torch.rand(len(images), generator=random) < 0.5).nonzero().flatten()
    # whole pictures are copied at once, which a choice byte by byte is ten times slower than
    return images.index_copy(0, chosen, images.index_select(0, chosen).flip(3))


def shift(images: Tensor, margin: int, random: Generator) -> Tensor:
    """Move each picture by up to `margin` pixels each way.

    Cropping the original size out of a picture padded by `margin` is the same thing.
    """
    count, _, height, width = images.shape
    span = 2 * margin + 1
    padded = functional.pad(images, (margin,) * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    moves = torch.randint(span * span, (count,), generator=random)
    return windows[torch.arange(count), :, moves // span, moves % span]


def rotate(images: Tensor, degrees: float, random: Generator) -> Tensor:
    """Turn each picture about its middle by up to so many degrees each way."""
    angle = (torch.rand(len(images), generator=random) * 2 - 1) * math.radians(degrees)
    return affine(images, turn(angle))


def colour(images: Tensor, strength: float, random: Generator) -> Tensor:
    """Change each picture's brightness, contrast and, with three channels, saturation, in this order.

    Each factor is drawn from 1 − strength to 1 + strength.
    """
    factors = 1 + (torch.rand(3, len(images), 1, 1, 1, generator=random) * 2 - 1) * strength
    values = (images.float() * factors[0]).clamp_(0, 255)
    grey = _grey(values).mean((2, 3), keepdim=True)
    values = (grey + (values - grey) * factors[1]).clamp_(0, 255)
    if images.shape[1] == 3:
        grey = _grey(values)
        values = grey + (values - grey) * factors[2]
    return whole_levels(values)


def _grey(values: Tensor) -> Tensor:
    """Return (N, 1, H, W) luma by ITU-R BT.601, as Pillow does; one channel is its own."""
    if values.shape[1] == 1:
        return values
    return 0.299 * values[:, :1] + 0.587 * values[:, 1:2] + 0.114 * values[:, 2:]


def cutout(images: Tensor, side: int, random: Generator) -> Tensor:
    """Blank a square around a random pixel of each picture; near an edge it is cut off.

    Source: DeVries, Taylor, "Improved regularization of convolutional neural networks with cutout" (2017).
    """
    count, _, height, width = images.shape
    rows = torch.randint(height, (count, 1), generator=random) - side // 2
    columns = torch.randint(width, (count, 1), generator=random) - side // 2
    down, across = torch.arange(height), torch.arange(width)
    row_inside = (down >= rows) & (down < rows + side)
    column_inside = (across >= columns) & (across < columns + side)
    return images.masked_fill((row_inside[:, :, None] & column_inside[:, None])[:, None], 0)
