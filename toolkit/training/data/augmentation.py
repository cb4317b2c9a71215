"""Augmentation of whole batches: (N, C, H, W) uint8 in, the same shape and type out.

Each function draws by picture and touches all pictures at once; what moves in from outside a picture is
black.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from toolkit.models import Recipe
from toolkit.training.data.augmix import augmix
from toolkit.training.data.draws import PictureDraws
from toolkit.training.data.geometry import affine, turn, whole_levels
from toolkit.training.data.operations import brighten, contrast, saturate
from toolkit.training.data.randaugment import randaugment


def augments(recipe: Recipe) -> bool:
    """Tell whether a recipe changes pictures at random."""
    return bool(augmenting(recipe))


def augmenting(recipe: Recipe) -> tuple[str, ...]:
    """Return the words of the fields by which a recipe changes pictures at random."""
    fields = {
        "crop-area": recipe.crop_area is not None,
        "flip": recipe.flip,
        "rotate-degrees": recipe.rotate_degrees,
        "shift-pixels": recipe.shift_pixels,
        "crop-padding": recipe.crop_padding,
        "augmix": recipe.augmix,
        "randaugment": recipe.randaugment,
        "colour": recipe.colour,
        "cutout-pixels": recipe.cutout_pixels,
        "erasing": recipe.erasing,
    }
    return tuple(word for word, asked in fields.items() if asked)


def augment(images: Tensor, recipe: Recipe, draws: PictureDraws) -> Tensor:
    """Apply what the recipe asks for, geometry before colour before holes."""
    if recipe.crop_area is not None:
        images = crop(images, recipe.crop_area, draws)
    if recipe.flip:
        images = flip(images, draws)
    if recipe.rotate_degrees:
        images = rotate(images, recipe.rotate_degrees, draws)
    margin = recipe.shift_pixels + recipe.crop_padding
    if margin:
        images = shift(images, margin, draws)
    if recipe.augmix:
        images = augmix(images, recipe.augmix, draws)
    if recipe.randaugment:
        images = randaugment(images, recipe.randaugment, recipe.randaugment_level, draws)
    if recipe.colour:
        images = colour(images, recipe.colour, draws)
    if recipe.cutout_pixels:
        images = cutout(images, recipe.cutout_pixels, draws)
    if recipe.erasing:
        images = erase(images, recipe.erasing, draws)
    return images


def crop(images: Tensor, least: float, draws: PictureDraws) -> Tensor:
    """Enlarge a part of each picture to the whole: of `least` to all of its area, of 3:4 to 4:3.

    Of nearly all of the area it is less wide or tall than that: no side is longer than the picture's. Source:
    Szegedy et al., "Going deeper with convolutions" (2014); bilinear.
    """
    area, aspect, down, across = draws.uniform(4)
    area = least + area * (1 - least)
    ratio = torch.exp((aspect * 2 - 1) * (-area.log()).clamp(max=math.log(4 / 3)))
    width, height = ((area * r).sqrt().clamp(max=1) for r in (ratio, 1 / ratio))  # but for rounding
    matrices = torch.zeros(len(images), 2, 3)
    for axis, (size, place) in enumerate(((width, across), (height, down))):
        matrices[:, axis, axis] = size
        matrices[:, axis, 2] = (2 * place - 1) * (1 - size)
    return affine(images, matrices, outside="border")  # a part at the edge is not darker there


def erase(images: Tensor, share: float, draws: PictureDraws) -> Tensor:
    """Fill a rectangle of about `share` of the pictures with noise: 2 to 33 % of the area, 3:10 to 10:3.

    Source: Zhong et al., "Random erasing data augmentation" (2017), with its defaults.
    """
    height, width = images.shape[2:]
    chosen, area, aspect, down, across = draws.uniform(5)
    erased = (chosen < share).nonzero().flatten()
    noise = images.index_copy(0, erased, draws.of(erased).levels(*images.shape[1:]))
    area = 0.02 + area * 0.31
    ratio = torch.exp((aspect * 2 - 1) * math.log(10 / 3))
    tall = ((area * ratio).sqrt() * height).round().clamp(1, height)
    wide = ((area / ratio).sqrt() * width).round().clamp(1, width)
    first_row, first_column = ((height - tall + 1) * down).floor(), ((width - wide + 1) * across).floor()
    rows, columns = torch.arange(height), torch.arange(width)
    row_inside = (rows >= first_row[:, None]) & (rows < (first_row + tall)[:, None])
    column_inside = (columns >= first_column[:, None]) & (columns < (first_column + wide)[:, None])
    inside = row_inside[:, :, None] & column_inside[:, None]
    return torch.where(inside[:, None], noise, images)


def flip(images: Tensor, draws: PictureDraws) -> Tensor:
    """Mirror each picture left to right with probability one half."""
    chosen = (draws.uniform() < 0.5).nonzero().flatten()
    # whole pictures are copied at once, which a choice byte by byte is ten times slower than
    return images.index_copy(0, chosen, images.index_select(0, chosen).flip(3))


def shift(images: Tensor, margin: int, draws: PictureDraws) -> Tensor:
    """Move each picture by up to `margin` pixels each way.

    Cropping the original size out of a picture padded by `margin` is the same thing.
    """
    count, _, height, width = images.shape
    span = 2 * margin + 1
    padded = functional.pad(images, (margin,) * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    moves = draws.integers(span * span)
    return windows[torch.arange(count), :, moves // span, moves % span]


def rotate(images: Tensor, degrees: float, draws: PictureDraws) -> Tensor:
    """Turn each picture about its middle by up to so many degrees each way."""
    angle = (draws.uniform() * 2 - 1) * math.radians(degrees)
    return affine(images, turn(angle))


def colour(images: Tensor, strength: float, draws: PictureDraws) -> Tensor:
    """Change each picture's brightness, contrast and, with three channels, saturation, in this order.

    Each factor is drawn from 1 − strength to 1 + strength.
    """
    factors = (1 + (draws.uniform(3) * 2 - 1) * strength)[..., None, None, None]
    values = contrast(brighten(images.float(), factors[0]), factors[1])
    return whole_levels(saturate(values, factors[2]))


def cutout(images: Tensor, side: int, draws: PictureDraws) -> Tensor:
    """Blank a square around a random pixel of each picture; near an edge it is cut off.

    Source: DeVries, Taylor, "Improved regularization of convolutional neural networks with cutout" (2017).
    """
    height, width = images.shape[2:]
    rows = draws.integers(height)[:, None] - side // 2
    columns = draws.integers(width)[:, None] - side // 2
    down, across = torch.arange(height), torch.arange(width)
    row_inside = (down >= rows) & (down < rows + side)
    column_inside = (across >= columns) & (across < columns + side)
    return images.masked_fill((row_inside[:, :, None] & column_inside[:, None])[:, None], 0)
