"""Optimizers, learning-rate schedules and averaged weights.

A rate is a pure function of the recipe and the step: no scheduler object that could stay unstepped.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

import torch
from torch import Tensor, nn

from toolkit.heads import depths
from toolkit.recipes import Recipe

# torch's own OneCycleLR: 30 % of the way up from lr / 25, then down to a 10,000th of that
_RISE, _START, _END = 0.3, 1 / 25, 1 / 25 / 1e4


def rate_at(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of a step, counted from 0 over the whole run.

    The schedule runs twice where layers are let learn in the middle: what starts to learn at rest would
    else know its fall alone. It runs as often as there are cycles; only the first one warms up.
    """
    first, epochs = _stretch(recipe, step // steps_per_epoch)
    warmup = 0.0 if first and recipe.cycles > 1 else recipe.warmup_epochs * steps_per_epoch
    step, total = step - first * steps_per_epoch, max(1, epochs * steps_per_epoch)
    if recipe.schedule == "one-cycle":
        return recipe.lr * _one_cycle(step, total)
    rising = min(1.0, (step + 1) / warmup) if warmup else 1.0
    if recipe.schedule == "cosine":
        done = max(0.0, step - warmup) / max(1.0, total - warmup)
        return recipe.lr * rising * _fall(done)
    if recipe.schedule == "step":
        drops = step // steps_per_epoch // recipe.step_epochs
        return recipe.lr * rising * recipe.step_gamma**drops
    return recipe.lr * rising


def _stretch(recipe: Recipe, epoch: int) -> tuple[int, int]:
    """Return the first epoch, and how many there are, of the stretch that the schedule runs over once."""
    thawed = recipe.unfreeze_at
    if thawed is not None:
        return (0, thawed) if epoch < thawed else (thawed, max(1, recipe.epochs - thawed))
    ends = [recipe.epochs * cycle // recipe.cycles for cycle in range(recipe.cycles + 1)]
    first = max(end for end in ends[:-1] if end <= epoch)
    return first, next((end for end in ends if end > epoch), recipe.epochs) - first


def _one_cycle(step: int, total: int) -> float:
    peak, last = _RISE * total - 1, total - 1
    if step < peak:
        return 1 + (_START - 1) * _fall(step / peak)
    return _END + (1 - _END) * _fall((step - peak) / max(1.0, last - peak))


def _fall(done: float) -> float:
    """Return half a cosine's way from 1 to 0."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


class Optimizer:
    """SGD, Adam or AdamW over a module's parameters, by the kernels that torch.optim itself calls.

    torch.optim's classes are not used because making one imports torch's compiler: 1.5 s of start-up
    and 150 MB (torch 2.15, x86-64), as much as a short training takes. GradScaler asks only for
    `param_groups` and `step`, which are here.
    """

    def __init__(
        self, recipe: Recipe, parameters: Iterable[nn.Parameter], scales: Iterable[float] | None = None
    ) -> None:
        """Optimise those of the parameters that learn; `scales` are their rates' factors, None for 1."""
        self.rate = recipe.lr
        given = list(parameters)
        factors = list(scales) if scales is not None else [1.0] * len(given)
        learning = [(p, f) for p, f in zip(given, factors, strict=True) if p.requires_grad]
        self.param_groups = [{"params": [p for p, _ in learning]}]
        self._scales = [factor for _, factor in learning]
        self._recipe = recipe
        names: tuple[str, ...] = ("mean", "square")
        if recipe.optimizer == "sgd":
            names = ("momentum",) if recipe.momentum else ()
        # moments lie as their parameters lie: the kernels walk both by memory, not by index
        self._moments = {name: [torch.zeros_like(p) for p in self._parameters] for name in names}
        device = self._parameters[0].device if self._parameters else None
        self._steps = torch.zeros((), device=device)

    @property
    def _parameters(self) -> list[nn.Parameter]:
        return self.param_groups[0]["params"]

    def zero_grad(self) -> None:
        """Drop the gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    def step(self) -> None:
        """Move the parameters against their gradients by `rate`; those without a gradient stay."""
        rows = zip(self._scales, self._parameters, *self._moments.values(), strict=True)
        moved = [(scale, p.grad, p, *states) for scale, p, *states in rows if p.grad is not None]
        if not moved:
            return
        adapts = self._recipe.optimizer != "sgd"
        if adapts:
            self._steps += 1
        with torch.no_grad():
            for scale in dict.fromkeys(row[0] for row in moved):
                columns = zip(*(row[1:] for row in moved if row[0] == scale), strict=True)
                gradients, weights, *moments = (list(column) for column in columns)
                step = self._adapt if adapts else self._descend
                step(weights, gradients, moments, self.rate * scale)

    def _descend(
        self, weights: list[Tensor], gradients: list[Tensor], moments: list[list[Tensor]], rate: float
    ) -> None:
        torch._fused_sgd_(
            weights,
            gradients,
            moments[0] if moments else [],
            weight_decay=self._recipe.weight_decay,
            momentum=self._recipe.momentum,
            lr=rate,
            dampening=0.0,
            nesterov=self._recipe.nesterov,
            maximize=False,
            is_first_step=False,
        )

    def _adapt(
        self, weights: list[Tensor], gradients: list[Tensor], moments: list[list[Tensor]], rate: float
    ) -> None:
        kernel = torch._fused_adam_ if self._recipe.optimizer == "adam" else torch._fused_adamw_
        kernel(
            weights,
            gradients,
            moments[0],
            moments[1],
            [],
            [self._steps] * len(weights),
            lr=rate,
            beta1=0.9,
            beta2=0.999,
            weight_decay=self._recipe.weight_decay,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return the whole state by name."""
        named = {
            f"{name}.{index}": value
            for name, values in self._moments.items()
            for index, value in enumerate(values)
        }
        return {"steps": self._steps, **named}

    def load(self, found: dict[str, Tensor]) -> None:
        """Take a saved state over, in place. Raises KeyError and RuntimeError when it does not fit."""
        for name, value in self.tensors().items():
            value.copy_(found[name])


def optimizer_of(recipe: Recipe, module: nn.Module, by_classes: Collection[str] = ()) -> Optimizer:
    """Return the optimizer of what learns in a module, with rates that fall with depth as the recipe says.

    `by_classes` are the weights that tell which layer is the head (toolkit/heads.py).
    """
    if recipe.layer_decay == 1:
        return Optimizer(recipe, module.parameters())
    depth = depths(module, by_classes)
    scales = [recipe.layer_decay ** depth[name] for name, _ in module.named_parameters()]
    return Optimizer(recipe, module.parameters(), scales)


def averages(recipe: Recipe) -> bool:
    """Tell whether a recipe uses an average of the weights."""
    return bool(recipe.ema_decay) or recipe.average_from is not None


def average_share(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Return the share that the weights after a step, counted from 0, have in the average then.

    A decaying average begins short, so that the random start is forgotten in a short run, too: after t steps
    it decays by (1 + t) / (10 + t) at most, as TensorFlow's ExponentialMovingAverage does. An equal one
    (Izmailov et al., "Averaging weights leads to wider optima and better generalization", 2018) takes the
    weights of the last epochs' ends, or of the last cycles', and is the weights themselves before.
    """
    if recipe.ema_decay:
        return 1 - min(recipe.ema_decay, (1 + step) / (10 + step))
    epoch, rest = divmod(step + 1, steps_per_epoch)
    if rest or not judged_anew(recipe, epoch):
        return 0.0
    return 1 / max(1, averaged_epochs(recipe, epoch))


def averaged_epochs(recipe: Recipe, epoch: int) -> int:
    """Return how many epochs' ends an equal average holds after so many epochs."""
    if recipe.average_from is None:
        return 0
    learning = recipe.unfreeze_at or 0
    begun = learning + (recipe.epochs - learning) * recipe.average_from
    ends = (end for end in range(1, epoch + 1) if end > begun)
    return sum(recipe.cycles == 1 or sum(_stretch(recipe, end - 1)) == end for end in ends)


def judged_anew(recipe: Recipe, epoch: int) -> bool:
    """Tell whether an epoch, counted from 1, ends with other weights to judge than the one before it.

    An equal average over cycles stays as it is until the next one ends.
    """
    taken = averaged_epochs(recipe, epoch)
    return taken == 0 or taken > averaged_epochs(recipe, epoch - 1)


class Average:
    """A running average of a module's state; integers are copied."""

    def __init__(self, module: nn.Module) -> None:
        self.state = {name: value.detach().clone() for name, value in module.state_dict().items()}

    def update(self, module: nn.Module, share: float) -> None:
        """Move the average by a share of the way to the module's state."""
        if share == 0:
            return
        with torch.no_grad():
            for name, value in module.state_dict().items():
                if value.is_floating_point() and share < 1:
                    self.state[name].lerp_(value, share)
                else:
                    self.state[name].copy_(value)


def clip(parameters: Iterable[nn.Parameter], norm: float) -> Tensor:
    """Scale the gradients down to a joint 2-norm of at most `norm`; return the norm they had."""
    return nn.utils.clip_grad_norm_([p for p in parameters if p.grad is not None], norm)
