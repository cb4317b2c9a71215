"""The divergence guard: what a run that has gone wrong looks like, told from its losses and gradients.

Chance is the loss of an answer that ignores the picture: ln(classes), or the labels' entropy where the
classes are not equally frequent. The failures that it knows:

- a loss that is no number;
- dead ReLUs: layers that no gradient reaches, while the loss sits at chance;
- a network that never starts: the loss sits at chance long after warm-up;
- a collapse: the network had learned, and its loss is back at chance or above.

A loss far above chance counts as at chance. A network whose activations saturate (sigmoid, tanh)
may sit on an opening plateau for epochs and then learn, so that is given far more time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

CHECK_STEPS = 20  # losses are looked at so often; reading each one would stall a GPU
WINDOW = 100  # steps that are averaged, so that one hard batch is no divergence
RETRIES = 3
RETRY_FACTOR = 0.1
_MARGIN = 0.05
_LEARNED = 0.25  # this far below chance a network has learned something
_DEAD_CHECKS = 3
_PLATEAU_STEPS, _SATURATING_PLATEAU_EPOCHS = 1000, 8


@dataclass(kw_only=True)
class Watch:
    """What the guard remembers; part of a run's state, so that a resumed run decides alike."""

    losses: list[float] = field(default_factory=list)
    steps: int = 0
    learned: bool = False
    dead_checks: int = 0

    def restart(self) -> None:
        """Forget the losses of an attempt that was given up, but not that the kept weights had learned."""
        self.losses, self.steps, self.dead_checks = [], 0, 0


@dataclass(frozen=True, kw_only=True)
class Guard:
    """Watches one run. `warmup_steps` come before anything but a loss that is no number is judged."""

    chance: float
    warmup_steps: int
    plateau_steps: int

    @property
    def at_chance(self) -> float:
        """Return the loss from which on a run counts as sitting at chance."""
        # with few classes chance itself is low, and half of the way to it would already be margin
        return self.chance - _MARGIN * min(1.0, self.chance / math.log(10))

    def is_sound(self, watch: Watch) -> bool:
        """Tell whether an epoch may be gone back to: something was learned, and is still there."""
        recent = sum(watch.losses) / max(1, len(watch.losses))
        return bool(watch.losses) and recent < self.at_chance

    def verdict(self, watch: Watch, losses: Sequence[float], dead: Sequence[str]) -> str | None:
        """Take in the losses of the last steps and the layers without gradient; say what is wrong, if so."""
        watch.steps += len(losses)
        watch.losses = [*watch.losses, *losses][-WINDOW:]
        if not all(math.isfinite(loss) for loss in losses):
            return f"the loss was {next(loss for loss in losses if not math.isfinite(loss))}"
        recent = sum(watch.losses) / len(watch.losses)
        if len(watch.losses) == WINDOW and recent < self.chance - _LEARNED * self.chance / math.log(10):
            watch.learned = True
        sits = recent >= self.at_chance
        watch.dead_checks = watch.dead_checks + 1 if dead and sits else 0
        if watch.steps <= self.warmup_steps or not sits:
            return None
        if watch.dead_checks >= _DEAD_CHECKS:
            return f"dead ReLUs: no gradient reaches {', '.join(dead)}, and the loss sits at {recent:.2f}"
        if watch.learned and len(watch.losses) == WINDOW:
            return f"the loss collapsed to {recent:.2f} after it had been lower"
        if not watch.learned and watch.steps >= self.warmup_steps + self.plateau_steps:
            return f"the loss still sits at {recent:.2f} after {watch.steps} steps"
        return None


def guard_for(module: nn.Module, labels: NDArray[np.int64], *, warmup_steps: int, epoch_steps: int) -> Guard:
    """Return the guard that fits a network and its training labels."""
    from torch import nn

    shares = np.bincount(labels) / len(labels)
    shares = shares[shares > 0]
    saturates = any(isinstance(layer, (nn.Sigmoid, nn.Tanh, nn.Softsign)) for layer in module.modules())
    patience = _SATURATING_PLATEAU_EPOCHS * epoch_steps if saturates else 0
    return Guard(
        chance=float(-(shares * np.log(shares)).sum()),
        warmup_steps=warmup_steps,
        plateau_steps=max(_PLATEAU_STEPS, patience),
    )


def dead_layers(module: nn.Module) -> tuple[str, ...]:
    """Return the layers whose weights' gradients are exactly zero, from input to output."""
    import torch

    named = [(name, p.grad) for name, p in module.named_parameters() if p.grad is not None and p.dim() > 1]
    if not named:
        return ()
    largest = torch.stack(torch._foreach_norm([grad for _, grad in named], math.inf)).tolist()
    return tuple(name.rpartition(".")[0] for (name, _), size in zip(named, largest, strict=True) if size == 0)
