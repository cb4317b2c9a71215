"""Mixup and cutmix: two pictures of a batch become one, and its label is shared out between theirs.

What is drawn depends on (seed, epoch, step) alone. Where a recipe has both, each batch gets one of them.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional

from toolkit.recipes import Recipe
from toolkit.training import seeding

_LEAST = 1e-300  # of a gamma: a sum of two is no 0


def mixes(recipe: Recipe) -> bool:
    """Tell whether a recipe mixes pictures."""
    return bool(mixing(recipe))


def mixing(recipe: Recipe) -> tuple[str, ...]:
    """Return the words of the fields by which a recipe mixes pictures."""
    return tuple(word for word, alpha in (("mixup", recipe.mixup), ("cutmix", recipe.cutmix)) if alpha > 0)


def mixed(
    images: Tensor, labels: Tensor, recipe: Recipe, *, classes: int, place: tuple[int, int, int]
) -> tuple[Tensor, Tensor]:
    """Mix (N, C, H, W) pictures of a place (seed, epoch, step); return them with (N, classes) labels."""
    seed, epoch, step = place
    random = seeding.generator(seed, seeding.MIX, epoch, step)
    both = [(way, alpha) for way, alpha in ((mixup, recipe.mixup), (cutmix, recipe.cutmix)) if alpha]
    way, alpha = both[int(torch.randint(len(both), (), generator=random))]
    partner = torch.randperm(len(images), generator=random)
    images, share = way(images, partner.to(images.device), alpha, random)
    whole = functional.one_hot(labels, classes).float()
    share = share.to(whole)[:, None]
    return images, share * whole + (1 - share) * whole[partner.to(labels.device)]


def mixup(images: Tensor, partner: Tensor, alpha: float, random: Generator) -> tuple[Tensor, Tensor]:
    """Average each picture with its partner; return them and the (N,) shares of their own.

    Source: Zhang et al., "mixup: beyond empirical risk minimization" (2017); a share for each picture.
    """
    share = beta(alpha, len(images), random)
    own = share.to(images)[:, None, None, None]
    return own * images + (1 - own) * images[partner], share


def cutmix(images: Tensor, partner: Tensor, alpha: float, random: Generator) -> tuple[Tensor, Tensor]:
    """Paste a rectangle of each picture's partner over it; return them and the (N,) shares left of their own.

    Source: Yun et al., "CutMix: regularization strategy to train strong classifiers with localizable
    features" (2019). The rectangle's middle is anywhere; what of it lies outside is cut off.
    """
    count, _, height, width = images.shape
    side = (1 - beta(alpha, count, random)).sqrt()
    middles = torch.rand(2, count, generator=random)
    inside = []
    for size, middle in zip((height, width), middles, strict=True):
        places = (torch.arange(size) + 0.5) / size
        inside.append((places - middle[:, None]).abs() < side[:, None] / 2)
    pasted = inside[0][:, :, None] & inside[1][:, None]
    left = 1 - pasted.float().mean((1, 2))
    return torch.where(pasted[:, None].to(images.device), images[partner], images), left


def beta(alpha: float, count: int, random: Generator) -> Tensor:
    """Draw from Beta(alpha, alpha), from 0 to 1, with a generator, which torch's own distribution lacks.

    Of an alpha of thousandths both gammas may be too small for float64, which one was the greater is lost,
    and the share would be 0 or 1 but for rounding: it is then 1, which leaves the picture unmixed.
    """
    gammas = torch._standard_gamma(torch.full((2, count), alpha, dtype=torch.float64), generator=random)
    lost = (gammas <= _LEAST).all(0)
    first, second = gammas.clamp_(min=_LEAST)
    shares: Tensor = first / (first + second)
    return shares.masked_fill_(lost, 1).float()
