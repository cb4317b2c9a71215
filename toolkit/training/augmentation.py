"""Augmentation of whole batches: (N, C, H, W) uint8 in, the same shape and type out.

Each function draws once a picture from the generator it is given and touches all pictures at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from toolkit.models import Recipe


def augment(images: Tensor, recipe: Recipe, random: Generator) -> Tensor:
    """Apply what the recipe asks for, in the order in which a camera would see it."""
    if recipe.flip:
        images = flip(images, random)
    margin = recipe.shift_pixels + recipe.crop_padding
    if margin:
        images = shift(images, margin, random)
    return images


def flip(images: Tensor, random: Generator) -> Tensor:
    """Mirror each picture left to right with probability one half."""
    import torch

    chosen = torch.rand(len(images), generator=random) < 0.5
    return torch.where(chosen[:, None, None, None], images.flip(3), images)


def shift(images: Tensor, margin: int, random: Generator) -> Tensor:
    """Move each picture by up to `margin` pixels each way, black moving in.

    Cropping the original size out of a picture padded by `margin` is the same thing.
    """
    import torch
    from torch.nn import functional

    count, _, height, width = images.shape
    span = 2 * margin + 1
    padded = functional.pad(images, (margin,) * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    moves = torch.randint(span * span, (count,), generator=random)
    return windows[torch.arange(count), :, moves // span, moves % span]
