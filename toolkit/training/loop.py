"""The loop: steps and epochs of one module, and everything that its state consists of."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn, optim

from toolkit.errors import CnnkitError
from toolkit.models import Recipe
from toolkit.outputs import logits_of
from toolkit.schema import Count, Magnitude, Positive, Share
from toolkit.training import EpochRecord, Watcher, seeding
from toolkit.training.compute.format import Compute
from toolkit.training.data.batches import Batches
from toolkit.training.data.features import FrozenFeatures, frozen_features
from toolkit.training.data.mixing import mixed, mixes
from toolkit.training.diagnostics import dead_layers, has_finite_weights, heard_classes, rectifies_scores
from toolkit.training.guard import CHECK_STEPS, Divergence, DivergenceGuard, GuardState
from toolkit.training.objective import Objective, main_labels, right_answers
from toolkit.training.optimisation import Average, clip, optimizer_of, rate_at
from toolkit.training.teacher import Teacher
from toolkit.transfer import Frozen, head
from toolkit.weights import give


@dataclass(kw_only=True)
class Progress:
    """Where a run stands; all of it is written down for resuming.

    `ticks` counts every step ever made, also those that a return to an earlier state undid.
    """

    epoch: Count = 0
    step: Count = 0
    ticks: Count = 0
    attempt: Count = 0
    rate_scale: Magnitude = 1.0
    loss_sum: float = 0.0
    right: Magnitude = 0
    seen: Count = 0
    trained_images: Count = 0
    trained_seconds: Magnitude = 0.0
    busy_seconds: Magnitude = 0.0
    seconds: Magnitude = 0.0
    best_epoch: Positive | None = None
    best_accuracy: Share | None = None
    best_loss: float | None = None
    stopped: bool = False
    epoch_began_s: Magnitude = 0.0
    unjudged: list[float] = field(default_factory=list)
    # by class, of the steps that the guard has not looked at yet
    unjudged_seen: dict[str, Count] = field(default_factory=dict)
    unjudged_right: dict[str, Count] = field(default_factory=dict)
    watch: GuardState = field(default_factory=GuardState)
    records: list[EpochRecord] = field(default_factory=list)
    events: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class LoopSetup:
    """What stays the same through a run."""

    recipe: Recipe
    compute: Compute
    seed: int
    batches: Batches
    objective: Objective
    freeze: bool = False
    teacher: Teacher | None = None
    guard: DivergenceGuard | None
    watcher: Watcher


class Loop:
    """A module in training: its optimizer, averaged weights and progress."""

    def __init__(self, module: nn.Module, setup: LoopSetup) -> None:
        self.module = module
        self.setup = setup
        self.progress = Progress()
        recipe = setup.recipe
        self.frozen: Frozen | None = None
        self._features: FrozenFeatures | None = None
        self._learner = module
        self._tried_features = False
        self.optimizer = optimizer_of(recipe, module)
        self.enter_phase()
        self.average = Average(module, recipe.ema_decay) if recipe.ema_decay else None
        self.scaler = setup.compute.scaler()
        self._can_lose_classes = rectifies_scores(module)
        self._pending: list[tuple[Tensor, Tensor, Tensor]] = []
        self._wall = self._busy = 0.0

    def weights(self) -> dict[str, Tensor]:
        """Return the weights to score and keep: the averaged ones where the recipe averages."""
        return self.average.state if self.average else self.module.state_dict()

    def epoch(self, after_step: Callable[[], None]) -> Divergence | None:
        """Train to the epoch's end from where the run stands; return what the guard saw, or None.

        `after_step` runs after each step, when the whole state is sound.
        """
        self.module.train()
        setup, done = self.setup, self.progress
        self.start_clock()
        try:
            for images, labels in self._dealt(after_step).epoch(done.epoch, done.step):
                self._step(*self._mixed(images, labels))
                done.step += 1
                done.ticks += 1
                setup.watcher.images(len(labels))
                if done.step % CHECK_STEPS == 0 or done.step == setup.batches.steps:
                    divergence = self._look()
                    if divergence:
                        return divergence
                after_step()
        finally:
            self.settle()
        return None

    def enter_phase(self) -> None:
        """Freeze or thaw the body as the present epoch has it; what learns from then on starts at rest."""
        setup, last = self.setup, self.setup.recipe.unfreeze_at
        freezes = setup.freeze and (last is None or self.progress.epoch < last)
        if freezes == (self.frozen is not None):
            return
        if freezes:
            self.frozen = Frozen(self.module)
        elif self.frozen is not None:
            setup.watcher.say(self.frozen.thaw())
            self.frozen = None
        self._forget_features()
        self.optimizer = optimizer_of(setup.recipe, self.module)

    def _forget_features(self) -> None:
        """Let what frozen layers answer be computed anew: they are others, or learn."""
        self._features, self._tried_features, self._learner = None, False, self.module

    def _dealt(self, after_step: Callable[[], None]) -> Batches:
        """Return what an epoch deals out: pictures, or what frozen layers make of them, computed once."""
        setup = self.setup
        if self.frozen is None:
            return setup.batches
        if not self._tried_features:
            self._tried_features = True
            self._features = frozen_features(
                self.module,
                setup.batches,
                setup.recipe,
                seed=setup.seed,
                compute=setup.compute,
                alive=after_step,
            )
            if self._features is not None:
                self._learner = head(self.module)
                setup.watcher.say("the frozen layers' answers were computed once, for every epoch")
        return self._features or setup.batches

    def _mixed(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mix a step's pictures where the recipe does, on the training device."""
        setup, done = self.setup, self.progress
        if not mixes(setup.recipe):
            return images, labels
        classes, place = len(setup.objective.shares), (setup.seed, done.epoch, done.step)
        return mixed(images, labels, setup.recipe, classes=classes, place=place)

    def next_epoch(self) -> None:
        """Move the progress from a finished epoch to the start of the next one."""
        done = self.progress
        done.epoch, done.step = done.epoch + 1, 0
        done.loss_sum, done.right, done.seen = 0.0, 0, 0
        done.epoch_began_s = done.trained_seconds
        self.enter_phase()

    def restart(self, weights: dict[str, Tensor]) -> None:
        """Begin again from other weights; nothing of the optimizer or the progress is left."""
        give(self.module, weights)
        self._forget_features()
        self.optimizer = optimizer_of(self.setup.recipe, self.module)
        if self.average:
            self.average = Average(self.module, self.average.decay)
        self.scaler = self.setup.compute.scaler()
        self.progress = Progress()
        self.enter_phase()

    def rate(self, step: int) -> float:
        """Return the learning rate of a step of the present epoch."""
        done, steps = self.progress, self.setup.batches.steps
        return done.rate_scale * rate_at(self.setup.recipe, done.epoch * steps + step, steps)

    def try_step(self, images: Tensor, labels: Tensor, rate: float) -> float:
        """Take one step at a rate of its own; return its loss. Nothing of it is counted."""
        self._step(*self._mixed(images, labels), rate=rate)
        self.progress.step += 1
        loss, _, _ = self._pending.pop()
        return float(loss)

    def _step(self, images: Tensor, labels: Tensor, rate: float | None = None) -> None:
        done = self.progress
        self.optimizer.rate = self.rate(done.step) if rate is None else rate
        seeding.reseed(self.setup.compute.device, self.setup.seed, seeding.DROPOUT, done.epoch, done.step)
        with self.setup.compute.autocast():
            logits = logits_of(self._learner(images))
        loss = self.setup.objective.loss(logits.float(), labels)
        self.optimizer.zero_grad()
        self._backward(self._taught(loss, images, logits))
        if self.average:
            self.average.update(self.module)
        self._pending.append((loss.detach(), logits.detach(), labels))

    def _taught(self, loss: Tensor, images: Tensor, logits: Tensor) -> Tensor:
        """Return what the weights learn from: the labels' loss, and the teacher's in its share."""
        teacher, recipe = self.setup.teacher, self.setup.recipe
        if teacher is None:
            return loss
        with self.setup.compute.autocast():
            told = teacher.loss(images, logits.float(), recipe.teacher_temperature)
        return (1 - recipe.teacher_share) * loss + recipe.teacher_share * told

    def _backward(self, loss: Tensor) -> None:
        norm, scaler = self.setup.recipe.clip_norm, self.scaler
        (loss if scaler is None else scaler.scale(loss)).backward()  # type: ignore[no-untyped-call]
        # the scaler asks an optimizer for no more than ours has
        optimizer = cast("optim.Optimizer", self.optimizer)
        if norm is not None:
            if scaler:
                scaler.unscale_(optimizer)
            clip(self.module.parameters(), norm)
        if scaler is None:
            self.optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()

    def start_clock(self) -> None:
        """Count training time from now on: what went before was scoring or saving."""
        self._wall, self._busy = time.perf_counter(), time.process_time()

    def settle(self) -> None:
        """Bring time, losses and right answers of the last steps into the progress."""
        if not self._pending:
            return  # time without steps is not training
        done = self.progress
        losses = torch.stack([loss for loss, _, _ in self._pending]).tolist()
        for loss, (_, _, labels) in zip(losses, self._pending, strict=True):
            done.loss_sum += loss * len(labels)
        logits, labels = (torch.cat([row[part] for row in self._pending]) for part in (1, 2))
        truth, scores = main_labels(labels), right_answers(logits, labels)
        whole = labels.ndim == 1
        done.right += int(scores.sum()) if whole else round(float(scores.double().sum()), 6)
        self._count_answers(truth, logits.argmax(1) == truth)
        done.seen += len(truth)
        done.trained_images += len(truth)
        done.unjudged += losses
        self._pending.clear()
        wall, busy = time.perf_counter(), time.process_time()
        done.trained_seconds += wall - self._wall
        done.busy_seconds += busy - self._busy
        self._wall, self._busy = wall, busy

    def _count_answers(self, truth: Tensor, right: Tensor) -> None:
        """Count what was answered, and how much of it rightly, by class, until the guard looks."""
        classes = len(self.setup.objective.shares)
        seen, hits = (torch.bincount(found, minlength=classes).tolist() for found in (truth, truth[right]))
        done = self.progress
        for label in range(classes):
            if seen[label]:
                key = str(label)
                done.unjudged_seen[key] = done.unjudged_seen.get(key, 0) + seen[label]
                done.unjudged_right[key] = done.unjudged_right.get(key, 0) + hits[label]

    def _insist_on_numbers(self, losses: list[float]) -> None:
        """End a run that nothing guards once its weights are no numbers: none of them will ever be one again.

        A loss alone may be infinite for a step or two, as when float16 seeks its scale.
        """
        broken = next((loss for loss in losses if not math.isfinite(loss)), None)
        if broken is None or has_finite_weights(self.module):
            return
        done, lr = self.progress, self.setup.recipe.lr
        raise CnnkitError(
            f"the loss became {broken} by epoch {done.epoch + 1}, step {done.step}, and the weights are no "
            f"numbers any more; lower --lr (now {lr:g}), or add --guard, which does that and starts again"
        )

    def _look(self) -> Divergence | None:
        """Show the guard what came of the steps since the last look."""
        _, scores, labels = self._pending[-1]  # the step just made
        self.settle()
        done, guard = self.progress, self.setup.guard
        losses, done.unjudged = done.unjudged, []
        done.watch.answers.take(done.unjudged_seen, done.unjudged_right)
        done.unjudged_seen, done.unjudged_right = {}, {}
        if guard is None:
            self._insist_on_numbers(losses)
            return None
        heard = heard_classes(scores, main_labels(labels)) if self._can_lose_classes else {}
        return guard.verdict(done.watch, losses, dead_layers(self.module), heard)
