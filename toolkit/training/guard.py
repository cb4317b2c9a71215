"""The divergence guard: what a run that has gone wrong looks like, told from its losses and gradients.

Chance is the loss of an answer that ignores the picture: ln(classes), or the labels' entropy where the
classes are not equally frequent. The failures that it knows:

- a loss that is no number;
- dead ReLUs: layers that no gradient reaches, while the loss sits at chance;
- a network that never starts: the loss sits at chance, and has not fallen for long;
- lost classes, where scores come out of a ReLU: a network that has learned others, and for long none of
  their own pictures has had a score above 0, so that nothing can raise it;
- a collapse: the network had learned, and its loss is back at chance or above.

A loss far above chance counts as at chance. A network that has not started is given half of the steps
that its run plans, two thousand at most: what starts later has too little of a short run left to end well,
and an attempt that follows has the whole run before it. A network whose activations saturate (sigmoid,
tanh) may sit on an opening plateau for epochs and then learn, so that is given far more time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from torch import nn

from toolkit.schema import Count, Magnitude

CHECK_STEPS = 20  # losses are looked at so often; reading each one would stall a GPU
WINDOW = 100  # steps that are averaged, so that one hard batch is no divergence
RETRIES = 3
_MARGIN = 0.05
_LEARNED = 0.25  # this far below chance a network has learned something
_FALL = 0.002  # a window's loss this far below the lowest yet is still falling
_DEAD_CHECKS = 3
_PLATEAU_SHARE, _LEAST_PLATEAU_STEPS, _MOST_PLATEAU_STEPS = 0.5, 2 * WINDOW, 2000
_SATURATING_PLATEAU_EPOCHS = 8
# of a plateau's steps: a class that stays shut so long does not come back, and costs its share of answers
_SILENT_SHARE = 0.5
# A rate at which nothing ever starts is far too high; one at which things went well for a while, a little.
_FAR, _LITTLE = 0.1, 0.3


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """What is wrong with a run, and by what its rate should be multiplied before it goes on.

    An `idle` network moves and does not start: its rate may be too low as well as too high.
    """

    what: str
    factor: float
    idle: bool = False


@dataclass(kw_only=True)
class GuardState:
    """What the guard remembers; part of a run's state, so that a resumed run decides alike."""

    losses: list[float] = field(default_factory=list)
    steps: Count = 0
    learned: bool = False
    dead_checks: Count = 0
    # by class: successive looks at pictures of it whose score was shut
    silent: dict[str, Count] = field(default_factory=dict)
    lowest: float | None = None
    lowest_step: Count = 0
    # multiples of the recipe's rate: the last one that a fresh start died at, and that one idled at
    died_at: Magnitude | None = None
    idled_at: Magnitude | None = None

    def restart(self) -> None:
        """Forget the losses of an attempt that was given up, but not that the kept weights had learned."""
        self.losses, self.steps, self.dead_checks, self.silent = [], 0, 0, {}
        self.lowest, self.lowest_step = None, 0

    def fresh_scale(self, scale: float, divergence: Divergence) -> float:
        """Return the multiple of the recipe's rate for a fresh start, after `scale` led to divergence.

        Between a rate at which the network died and a lower one at which it did not start lies their
        geometric mean; until both are known, the rate falls.
        """
        if divergence.idle:
            self.idled_at = scale
        else:
            self.died_at = scale
        if self.died_at is None or self.idled_at is None or self.idled_at >= self.died_at:
            return scale * divergence.factor
        return math.sqrt(self.died_at * self.idled_at)

    def take(self, losses: Sequence[float]) -> float:
        """Take in the losses of the last steps; return the window's mean."""
        self.steps += len(losses)
        self.losses = [*self.losses, *losses][-WINDOW:]
        return sum(self.losses) / len(self.losses)


@dataclass(frozen=True, kw_only=True)
class DivergenceGuard:
    """Watches one run. `warmup_steps` come before anything but a loss that is no number is judged."""

    chance: float
    warmup_steps: int
    plateau_steps: int

    @property
    def _scale(self) -> float:
        # with few classes chance itself is low, and the margins for ten would be half of the way to 0
        return min(1.0, self.chance / math.log(10))

    @property
    def at_chance(self) -> float:
        """Return the loss from which on a run counts as sitting at chance."""
        return self.chance - _MARGIN * self._scale

    @property
    def _learned_below(self) -> float:
        return self.chance - _LEARNED * self._scale

    def is_sound(self, watch: GuardState) -> bool:
        """Tell whether an epoch may be gone back to: something was learned, and is still there.

        A loss just below chance is no such thing: from there NiN died three times, at ever lower rates.
        Nor is a network that may have lost a class: it would be lost again.
        """
        if not watch.losses or any(looks >= _DEAD_CHECKS for looks in watch.silent.values()):
            return False
        return sum(watch.losses) / len(watch.losses) < self._learned_below

    def verdict(
        self,
        watch: GuardState,
        losses: Sequence[float],
        dead: Sequence[str],
        heard: Mapping[int, bool] = MappingProxyType({}),
    ) -> Divergence | None:
        """Take in what came of the last steps; say what is wrong, if something is.

        `losses` are theirs, `dead` the layers without gradient, and `heard` tells for each class in the
        last batch whether its score is open, where scores can be shut.
        """
        if not losses:
            return None
        broken = [loss for loss in losses if not math.isfinite(loss)]
        if broken:
            return Divergence(what=f"the loss was {broken[0]}", factor=_FAR)
        recent = watch.take(losses)
        full = len(watch.losses) == WINDOW
        if full and (watch.lowest is None or recent < watch.lowest - _FALL):
            watch.lowest, watch.lowest_step = recent, watch.steps
        if full and recent < self._learned_below:
            watch.learned = True
        sits = recent >= self.at_chance
        watch.dead_checks = watch.dead_checks + 1 if dead and sits else 0
        for label, is_open in heard.items():
            watch.silent[str(label)] = 0 if is_open else watch.silent.get(str(label), 0) + 1
        if watch.steps <= self.warmup_steps:
            return None
        return self._sitting(watch, recent, dead) if sits else self._losing(watch)

    def _losing(self, watch: GuardState) -> Divergence | None:
        """Judge a network whose loss is below chance: it may have lost classes for good."""
        looks = math.ceil(_SILENT_SHARE * self.plateau_steps / CHECK_STEPS)
        lost = sorted(int(label) for label, silent in watch.silent.items() if silent >= looks)
        if not watch.learned or not lost:
            return None
        which = f"class{'es' if len(lost) > 1 else ''} {', '.join(map(str, lost))}"
        what = f"lost {which}: its last ReLU is shut on every picture of {'these' if len(lost) > 1 else 'it'}"
        return Divergence(what=what, factor=_LITTLE)

    def _sitting(self, watch: GuardState, recent: float, dead: Sequence[str]) -> Divergence | None:
        """Judge a loss that sits at chance or above."""
        if watch.dead_checks >= _DEAD_CHECKS:
            where = f"no gradient reaches {', '.join(dead)}, and the loss sits at {recent:.2f}"
            return Divergence(what=f"dead ReLUs: {where}", factor=_LITTLE if watch.learned else _FAR)
        if watch.learned and len(watch.losses) == WINDOW:
            return Divergence(what=f"the loss is at {recent:.2f} after it had been lower", factor=_LITTLE)
        waited = watch.steps - max(self.warmup_steps, watch.lowest_step)
        if not watch.learned and waited >= self.plateau_steps:
            what = f"the loss still sits at {recent:.2f} after {watch.steps} steps"
            return Divergence(what=what, factor=_FAR, idle=True)
        return None


def guard_for(
    module: nn.Module, labels: NDArray[np.int64], *, epochs: int, warmup_epochs: float, epoch_steps: int
) -> DivergenceGuard:
    """Return the guard that fits a network, its training labels and its planned length."""
    shares = np.bincount(labels) / len(labels)
    shares = shares[shares > 0]
    return DivergenceGuard(
        chance=float(-(shares * np.log(shares)).sum()),
        warmup_steps=round(warmup_epochs * epoch_steps),
        plateau_steps=plateau_steps(module, epochs=epochs, epoch_steps=epoch_steps),
    )


def plateau_steps(module: nn.Module, *, epochs: int, epoch_steps: int) -> int:
    """Return how many steps a network may stay where it started before that counts as divergence."""
    if any(isinstance(layer, (nn.Sigmoid, nn.Tanh, nn.Softsign)) for layer in module.modules()):
        return max(_MOST_PLATEAU_STEPS, _SATURATING_PLATEAU_EPOCHS * epoch_steps)
    share = round(_PLATEAU_SHARE * epochs * epoch_steps)
    return min(max(share, _LEAST_PLATEAU_STEPS), _MOST_PLATEAU_STEPS)
