"""The divergence guard: what a run that has gone wrong looks like, told from its losses and gradients.

Chance is the loss of an answer that ignores the picture: ln(classes), or less where the classes are not
equally frequent, and more where labels are smoothed or classes weighted (toolkit/training/objective.py).
Where one class is nearly all pictures, chance lies so close to the loss of right answers that the loss tells
little: a network whose answers are better than guessing, each class counting alike, is never at chance. The
failures that the guard knows:

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

from toolkit.modules.operations import FunctionCall
from toolkit.schema import Count, Magnitude
from toolkit.training.objective import Objective
from toolkit.training.scoring import wilson

CHECK_STEPS = 20  # losses are looked at so often; reading each one would stall a GPU
WINDOW = 100  # steps that are averaged, so that one hard batch is no divergence
RETRIES = 3
_MARGIN = 0.05
_LEARNED = 0.25  # this far below chance a network has learned something
_FALL = 0.002  # a window's loss this far below the lowest yet is still falling
_DEAD_CHECKS = 3
_PLATEAU_SHARE, _LEAST_PLATEAU_STEPS, _MOST_PLATEAU_STEPS = 0.5, 2 * WINDOW, 2000
_SATURATING_PLATEAU_EPOCHS = 8
_SATURATING = ("sigmoid", "tanh", "softsign")
# of a plateau's steps: a class that stays shut so long does not come back, and costs its share of answers
_SILENT_SHARE = 0.5
# of a scale on which guessing is 0 and only right answers are 1, each class counting alike
_BETTER_THAN_GUESSING, _MOSTLY_RIGHT = 0.1, 0.5
_GUESSING = 0.05  # of the same scale: below it a whole pass over held-out pictures is called guessing
_REMEMBERED = 20  # of each class, so many latest pictures tell at least, and all of the last few looks
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
class ClassAnswers:
    """How many of the latest pictures of each class were answered, and how many of them rightly.

    What came before the last looks fades, but of a rare class some pictures are always remembered.
    """

    seen: dict[str, Magnitude] = field(default_factory=dict)
    right: dict[str, Magnitude] = field(default_factory=dict)

    def take(self, seen: Mapping[str, int], right: Mapping[str, int]) -> None:
        """Take in the answers since the last look, counted by class."""
        for label, count in seen.items():
            kept = 0.5 if self.seen.get(label, 0) > _REMEMBERED else 1.0
            self.seen[label] = kept * self.seen.get(label, 0) + count
            self.right[label] = kept * self.right.get(label, 0) + right.get(label, 0)

    def skill(self, classes: int) -> float | None:
        """Return how much better than guessing the answers are at least: 0 is guessing, 1 all are right.

        Recalls of an answer that ignores the picture sum to 1 over the classes, whatever it is; what a
        few pictures leave uncertain is taken off. None where nothing was answered.
        """
        if not self.seen or classes < 2:
            return None
        recalls = [wilson(min(self.right[label], seen), seen)[0] for label, seen in self.seen.items()]
        return (sum(recalls) - 1) / (classes - 1)


@dataclass(kw_only=True)
class GuardState:
    """What the guard remembers; part of a run's state, so that a resumed run decides alike."""

    losses: list[float] = field(default_factory=list)
    steps: Count = 0
    learned: bool = False
    dead_checks: Count = 0
    # by class: successive looks at pictures of it whose score was shut
    silent: dict[str, Count] = field(default_factory=dict)
    answers: ClassAnswers = field(default_factory=ClassAnswers)
    lowest: float | None = None
    lowest_step: Count = 0
    # multiples of the recipe's rate: the last one that a fresh start died at, and that one idled at
    died_at: Magnitude | None = None
    idled_at: Magnitude | None = None

    def restart(self) -> None:
        """Forget the losses of an attempt that was given up, but not that the kept weights had learned."""
        self.losses, self.steps, self.dead_checks, self.silent = [], 0, 0, {}
        self.answers = ClassAnswers()
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

    objective: Objective
    warmup_steps: int
    plateau_steps: int

    @property
    def chance(self) -> float:
        """Return the loss of guessing."""
        return self.objective.chance

    @property
    def _scale(self) -> float:
        # with few or uneven classes right answers are not far below chance, and the margins for ten even
        # ones would be half of the way to them
        return min(1.0, (self.chance - self.objective.floor) / math.log(10))

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
        if (self._skill(watch) or 0.0) >= _MOSTLY_RIGHT:
            return True
        return sum(watch.losses) / len(watch.losses) < self._learned_below

    def sits_at_chance(self, loss: float, watch: GuardState) -> bool:
        """Tell whether a loss and the answers so far are those of a network that knows nothing.

        A loss far above chance needs answers that are mostly right to make up for it.
        """
        wanted = _BETTER_THAN_GUESSING
        if loss > self.chance + math.log(max(2, len(self.objective.shares))):
            wanted = _MOSTLY_RIGHT
        return not loss < self.at_chance and (self._skill(watch) or 0.0) < wanted

    def guesses(self, balanced_accuracy: float) -> bool:
        """Tell whether a mean of the classes' recalls over held-out pictures is about that of guessing."""
        classes = len(self.objective.present)
        return classes > 1 and (classes * balanced_accuracy - 1) / (classes - 1) < _GUESSING

    def _skill(self, watch: GuardState) -> float | None:
        return watch.answers.skill(len(self.objective.counted))

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
        skill = self._skill(watch)
        # of a rare class a window may hold no picture, and a network that guesses looks better for it
        if full and recent < self._learned_below and (skill is None or skill > 0):
            watch.learned = True
        sits = self.sits_at_chance(recent, watch)
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
    operations: Sequence[FunctionCall],
    objective: Objective,
    *,
    epochs: int,
    warmup_epochs: float,
    epoch_steps: int,
) -> DivergenceGuard:
    """Return the guard that fits a network's operations, its objective and its planned length."""
    patience = plateau_steps(operations, epochs=epochs, epoch_steps=epoch_steps)
    return DivergenceGuard(
        objective=objective,
        warmup_steps=round(warmup_epochs * epoch_steps),
        # where few pictures are not of one class, guessing is nearly right, and what is learned comes slowly
        plateau_steps=math.ceil(patience / max(objective.evenness, 1e-6)),
    )


def plateau_steps(operations: Sequence[FunctionCall], *, epochs: int, epoch_steps: int) -> int:
    """Return how many steps a network may stay where it started before that counts as divergence."""
    if any(operation.name in _SATURATING for operation in operations):
        return max(_MOST_PLATEAU_STEPS, _SATURATING_PLATEAU_EPOCHS * epoch_steps)
    share = round(_PLATEAU_SHARE * epochs * epoch_steps)
    return min(max(share, _LEAST_PLATEAU_STEPS), _MOST_PLATEAU_STEPS)
