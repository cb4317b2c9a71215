"""Geometry of whole batches of pictures, for the augmentations that turn, shear or move them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def turn(angle: Tensor) -> Tensor:
    """Return (N, 2, 3) matrices that turn by (N,) angles in radians."""
    cosine, sine, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    return torch.stack([torch.stack([cosine, -sine, zero], 1), torch.stack([sine, cosine, zero], 1)], 1)


def affine(images: Tensor, matrices: Tensor, *, outside: str = "zeros") -> Tensor:
    """Map pictures by (N, 2, 3) matrices from new to old places, from −1 to 1 along each side; bilinear.

    What a place takes from the other side, as by turning and shearing, it takes pixel for pixel. `outside`
    is black, or with "border" what the nearest pixel is.
    """
    height, width = images.shape[2:]
    matrices = matrices.clone()
    matrices[:, 0, 1] *= height / width
    matrices[:, 1, 0] *= width / height
    grid = functional.affine_grid(matrices, list(images.shape), align_corners=False)
    moved = functional.grid_sample(images.float(), grid, padding_mode=outside, align_corners=False)
    return whole_levels(moved)


def whole_levels(values: Tensor) -> Tensor:
    """Round float levels to uint8 ones, from 0 to 255."""
    return values.round_().clamp_(0, 255).to(torch.uint8)
