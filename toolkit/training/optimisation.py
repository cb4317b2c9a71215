"""Starting weights, optimizers, learning-rate schedules and averaged weights.

A rate is a pure function of the recipe and the step: no scheduler object that could stay unstepped.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn, optim

    from toolkit.models import Recipe

# torch's own OneCycleLR: 30 % of the way up from lr / 25, then down to a 10,000th of that
_RISE, _START, _END = 0.3, 1 / 25, 1 / 25 / 1e4


def rate_at(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of a step, counted from 0 over the whole run."""
    total = max(1, recipe.epochs * steps_per_epoch)
    if recipe.schedule == "one-cycle":
        return recipe.lr * _one_cycle(step, total)
    warmup = recipe.warmup_epochs * steps_per_epoch
    rising = min(1.0, (step + 1) / warmup) if warmup else 1.0
    if recipe.schedule == "cosine":
        done = max(0.0, step - warmup) / max(1.0, total - warmup)
        return recipe.lr * rising * _fall(done)
    if recipe.schedule == "step":
        drops = step // steps_per_epoch // recipe.step_epochs
        return recipe.lr * rising * recipe.step_gamma**drops
    return recipe.lr * rising


def _one_cycle(step: int, total: int) -> float:
    peak, last = _RISE * total - 1, total - 1
    if step < peak:
        return 1 + (_START - 1) * _fall(step / peak)
    return _END + (1 - _END) * _fall((step - peak) / max(1.0, last - peak))


def _fall(done: float) -> float:
    """Return half a cosine's way from 1 to 0."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def make_optimizer(recipe: Recipe, parameters: Iterable[nn.Parameter]) -> optim.Optimizer:
    """Return the recipe's optimizer over the parameters."""
    from torch import optim

    trained = [p for p in parameters if p.requires_grad]
    # one kernel for all parameters: for small nets the Python loop over tensors costs more than the sums
    fused = all(p.device.type in ("cpu", "cuda") for p in trained)
    if recipe.optimizer == "sgd":
        return optim.SGD(
            trained,
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
            fused=fused,
        )
    kind = optim.Adam if recipe.optimizer == "adam" else optim.AdamW
    return kind(trained, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=fused)


def initialise(module: nn.Module, recipe: Recipe) -> None:
    """Start the weights of convolutions and dense layers as the recipe says; draws from torch's generator.

    `default` keeps what the layers drew themselves: PyTorch's uniform start.
    """
    from torch import nn

    if recipe.init == "default":
        return
    for layer in module.modules():
        if not isinstance(layer, (nn.Conv2d, nn.Linear)):
            continue
        if recipe.init == "xavier-uniform":
            nn.init.xavier_uniform_(layer.weight)
        else:
            nn.init.kaiming_uniform_(layer.weight, a=0, mode="fan_in", nonlinearity="relu")


class Average:
    """An exponential moving average of a module's state; integers are copied."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {name: value.detach().clone() for name, value in module.state_dict().items()}

    def update(self, module: nn.Module) -> None:
        """Move the average a step towards the module's state."""
        import torch

        with torch.no_grad():
            for name, value in module.state_dict().items():
                if value.is_floating_point():
                    self.state[name].lerp_(value, 1 - self.decay)
                else:
                    self.state[name].copy_(value)


def clip(parameters: Iterable[nn.Parameter], norm: float) -> Tensor:
    """Scale the gradients down to a joint 2-norm of at most `norm`; return the norm they had."""
    from torch import nn

    return nn.utils.clip_grad_norm_([p for p in parameters if p.grad is not None], norm)
