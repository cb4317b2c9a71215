"""The loop: steps and epochs of one module, and everything that its state consists of."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn, optim

from toolkit.errors import DivergedError
from toolkit.models import Recipe
from toolkit.modules.operations import FunctionCall
from toolkit.outputs import logits_of
from toolkit.training import Watcher, seeding
from toolkit.training.compute.format import Compute
from toolkit.training.compute.ranks import Ranks
from toolkit.training.compute.seats import BatchPart
from toolkit.training.compute.step import SharedStep
from toolkit.training.compute.tally import StepAnswers, Tally, tally_of
from toolkit.training.data.batches import Batches
from toolkit.training.data.features import FrozenFeatures, frozen_features
from toolkit.training.data.mixing import mixed, mixes
from toolkit.training.diagnostics import dead_layers, has_finite_weights, heard_classes, rectifies_scores
from toolkit.training.guard import CHECK_STEPS, Divergence, DivergenceGuard
from toolkit.training.objective import Objective, insist_that_it_learns, main_labels
from toolkit.training.optimisation import Average, average_share, averages, clip, optimizer_of, rate_at
from toolkit.training.progress import Progress
from toolkit.training.teacher import Teacher, distance
from toolkit.transfer import Frozen
from toolkit.weights import give


@dataclass(frozen=True, kw_only=True)
class LoopSetup:
    """What stays the same through a run.

    `operations` are those that the network computes its scores with, `by_classes` the weights whose shape
    goes by the number of classes, where heads are asked for.
    """

    recipe: Recipe
    compute: Compute
    seed: int
    batches: Batches
    objective: Objective
    operations: tuple[FunctionCall, ...] = ()
    by_classes: frozenset[str] = frozenset()
    freeze: bool = False
    teacher: Teacher | None = None
    guard: DivergenceGuard | None
    watcher: Watcher
    ranks: Ranks = field(default_factory=Ranks)
    sync_batch_norm: bool = False


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
        self._shared = SharedStep(setup.ranks, shares_norms=setup.sync_batch_norm)
        self.accord = self._shared.accord
        self._begin_optimizer()
        self.enter_phase()
        self.average = Average(module) if averages(recipe) else None
        self.scaler = setup.compute.scaler()
        self._can_lose_classes = rectifies_scores(setup.operations)
        self._pending: list[StepAnswers] = []
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
            with contextlib.closing(self._dealt(after_step).epoch(done.epoch, done.step)) as dealt:
                for images, labels in dealt:
                    self._step(*self._mixed(images, labels))
                    done.step += 1
                    done.ticks += 1
                    setup.watcher.images(len(labels))
                    if done.step % CHECK_STEPS == 0 or done.step == setup.batches.steps:
                        divergence = self._look()
                        if divergence:
                            return divergence
                    after_step()
        except BaseException:
            if setup.ranks.alone:  # others would have to settle, too, and may not have failed
                self.settle()
            raise
        self.settle()
        return None

    def _begin_optimizer(self) -> None:
        """Make an optimizer at rest for what learns, and what sums its gradients over ranks.

        No gradient is left: one of what does not learn any more would be clipped with all later ones.
        """
        self.module.zero_grad()
        self.optimizer = optimizer_of(self.setup.recipe, self.module, self.setup.by_classes)
        self._shared.follow(self.module)

    def enter_phase(self) -> None:
        """Freeze or thaw the body as the present epoch has it; what learns from then on starts at rest."""
        setup, last = self.setup, self.setup.recipe.unfreeze_at
        freezes = setup.freeze and (last is None or self.progress.epoch < last)
        if freezes == (self.frozen is not None):
            return
        if freezes:
            self.frozen = Frozen(self.module, setup.by_classes)
        elif self.frozen is not None:
            setup.watcher.say(self.frozen.thaw())
            self.frozen = None
        self._forget_features()
        self._begin_optimizer()

    def _forget_features(self) -> None:
        """Let what frozen layers answer be computed anew: they are others, or learn."""
        self._features, self._tried_features, self._learner = None, False, self.module

    def _dealt(self, after_step: Callable[[], None]) -> Batches | FrozenFeatures:
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
                by_classes=setup.by_classes,
                alive=after_step,
                tell=setup.watcher.say,
            )
            if self._features is not None:
                self._learner = self._features.learner
        return self._features or setup.batches

    def _mixed(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mix a step's pictures where the recipe does, on the training device; return a rank's own."""
        setup, done = self.setup, self.progress
        if not mixes(setup.recipe):
            return images, labels
        classes, place = len(setup.objective.shares), (setup.seed, done.epoch, done.step)
        images, labels = mixed(images, labels, setup.recipe, classes=classes, place=place)
        return images[setup.ranks.share(len(labels)).rows], labels

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
        self._begin_optimizer()
        if self.average:
            self.average = Average(self.module)
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
        return float(self._pending.pop().loss)

    def _step(self, images: Tensor, labels: Tensor, rate: float | None = None) -> None:
        """Take a step; `images` are this rank's, `labels` those of the whole batch."""
        done = self.progress
        share = self.setup.ranks.share(len(labels))
        own = labels[share.rows]
        self.optimizer.rate = self.rate(done.step) if rate is None else rate
        wanted = self._wanted(images)  # before the student runs, which may change its input in place
        self._reseed()
        with self.setup.compute.autocast(), self._shared.as_one(share):
            logits = logits_of(self._learner(images))
        if self.frozen is not None:
            self.frozen.insist_on(logits)
        insist_that_it_learns(self.module, logits)
        loss = self.setup.objective.loss(_wide(logits), own)
        self.optimizer.zero_grad()
        self._backward(_part(self._taught(loss, wanted, logits), share), share)
        if self.average:
            steps = self.setup.batches.steps
            recipe, place = self.setup.recipe, done.epoch * steps + done.step
            self.average.update(self.module, average_share(recipe, place, steps))
        counted = slice(None) if share.counts else slice(0)
        self._pending.append(
            StepAnswers(
                loss=_part(loss.detach(), share),
                logits=logits.detach()[counted],
                labels=own[counted],
                total=share.total,
            )
        )

    def _reseed(self) -> None:
        """Have what a network draws in the present step depend on the run's seed and the step alone."""
        done = self.progress
        seeding.reseed(self.setup.compute.device, self.setup.seed, seeding.DROPOUT, done.epoch, done.step)

    def _wanted(self, images: Tensor) -> Tensor | None:
        """Return the teacher's answers to a step's pictures; None without a teacher."""
        if self.setup.teacher is None:
            return None
        self._reseed()  # a teacher may draw in eval mode, too
        return self.setup.teacher.answers(images)

    def _taught(self, loss: Tensor, wanted: Tensor | None, logits: Tensor) -> Tensor:
        """Return what the weights learn from: the labels' loss, and the teacher's in its share."""
        recipe = self.setup.recipe
        if wanted is None:
            return loss
        told = distance(_wide(logits), wanted, recipe.teacher_temperature)
        return (1 - recipe.teacher_share) * loss + recipe.teacher_share * told

    def _backward(self, loss: Tensor, share: BatchPart) -> None:
        norm, scaler = self.setup.recipe.clip_norm, self.scaler
        (loss if scaler is None else scaler.scale(loss)).backward()  # type: ignore[no-untyped-call]
        # what does not compute learns no running figures: frozen layers whose answers were computed once
        self._shared.add_up(self._learner, share)
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
        tally = tally_of(self._pending, len(self.setup.objective.shares), self.setup.ranks)
        for loss, step in zip(tally.losses, self._pending, strict=True):
            done.loss_sum += loss * step.total
        whole = self._pending[0].labels.ndim == 1
        done.right += int(tally.right) if whole else tally.right
        self._count_answers(tally)
        images = sum(step.total for step in self._pending)
        done.seen += images
        done.trained_images += images
        done.unjudged += tally.losses
        self._pending.clear()
        wall, busy = time.perf_counter(), time.process_time()
        done.trained_seconds += wall - self._wall
        done.busy_seconds += busy - self._busy
        self._wall, self._busy = wall, busy

    def _count_answers(self, tally: Tally) -> None:
        """Count what was answered, and how much of it rightly, by class, until the guard looks.

        Nothing makes a network answer a class that the loss does not count.
        """
        done, counted = self.progress, self.setup.objective.counted
        for label, (seen, hits) in enumerate(zip(tally.seen, tally.hits, strict=True)):
            if seen and label in counted:
                key = str(label)
                done.unjudged_seen[key] = done.unjudged_seen.get(key, 0) + seen
                done.unjudged_right[key] = done.unjudged_right.get(key, 0) + hits

    def _insist_on_numbers(self, losses: list[float]) -> None:
        """End a run that nothing guards once its weights are no numbers: none of them will ever be one again.

        A loss alone may be infinite for a step or two, as when float16 seeks its scale.
        """
        broken = next((loss for loss in losses if not math.isfinite(loss)), None)
        if broken is None or has_finite_weights(self.module):
            return
        done, lr = self.progress, self.setup.recipe.lr
        raise DivergedError(
            f"the loss became {broken} by epoch {done.epoch + 1}, step {done.step}, and the weights are no "
            f"numbers any more; lower --lr (now {lr:g}), or add --guard, which does that and starts again"
        )

    def _look(self) -> Divergence | None:
        """Show the guard what came of the steps since the last look."""
        last = self._pending[-1]  # the step just made
        self.settle()
        done, guard = self.progress, self.setup.guard
        losses, done.unjudged = done.unjudged, []
        done.watch.answers.take(done.unjudged_seen, done.unjudged_right)
        done.unjudged_seen, done.unjudged_right = {}, {}
        if guard is None:
            self._insist_on_numbers(losses)
            return None
        heard: dict[int, bool] = {}
        if self._can_lose_classes:
            for found in self.setup.ranks.gather(heard_classes(last.logits, main_labels(last.labels))):
                heard |= {label: is_open or heard.get(label, False) for label, is_open in found.items()}
            counted = self.setup.objective.counted
            heard = {label: is_open for label, is_open in heard.items() if label in counted}
        return guard.verdict(done.watch, losses, dead_layers(self.module), heard)


def _part(loss: Tensor, share: BatchPart) -> Tensor:
    """Return what a rank's mean loss adds to that of the whole batch."""
    return loss if share.weight == 1 else loss * share.weight


def _wide(logits: Tensor) -> Tensor:
    """Return logits in a format that a loss is computed in: fp32, or the wider one that they have."""
    return logits if logits.dtype == torch.float64 else logits.float()
