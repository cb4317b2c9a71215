"""The loop: steps, epochs, and the epoch whose weights are kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from toolkit.training import EpochRecord, Watcher, seeding
from toolkit.training.compute import Compute
from toolkit.training.optimisation import Average, clip, make_optimizer, rate_at
from toolkit.training.scoring import Score

if TYPE_CHECKING:
    from torch import Tensor, nn

    from toolkit.models import Recipe
    from toolkit.training.batches import MemoryBatches


@dataclass(kw_only=True)
class Progress:
    """Where a run stands; everything in it is written down for resuming."""

    epoch: int = 0
    step: int = 0
    attempt: int = 0
    rate_scale: float = 1.0
    loss_sum: float = 0.0
    right: int = 0
    seen: int = 0
    trained_images: int = 0
    trained_seconds: float = 0.0
    best_epoch: int | None = None
    best_accuracy: float | None = None
    best_loss: float | None = None
    records: list[EpochRecord] = field(default_factory=list)


class Loop:
    """Trains a module in place. `validate` scores weights after each epoch, or returns None."""

    def __init__(
        self,
        module: nn.Module,
        batches: MemoryBatches,
        *,
        recipe: Recipe,
        compute: Compute,
        seed: int,
        watcher: Watcher,
        validate: Callable[[nn.Module], Score | None],
    ) -> None:
        self.module = module
        self.batches = batches
        self.recipe = recipe
        self.compute = compute
        self.seed = seed
        self.watcher = watcher
        self.validate = validate
        self.progress = Progress()
        self.optimizer = make_optimizer(recipe, module.parameters())
        self.average = Average(module, recipe.ema_decay) if recipe.ema_decay else None

    def epoch(self) -> EpochRecord:
        """Train one epoch from where the run stands, score it and record it."""
        start = time.perf_counter()
        self.module.train()
        rate = self._steps()
        done = self.progress
        done.trained_seconds += time.perf_counter() - start
        checked = self.validate(self.module)
        record = EpochRecord(
            epoch=done.epoch + 1,
            attempt=done.attempt,
            rate=rate,
            train_loss=done.loss_sum / done.seen,
            train_accuracy=done.right / done.seen,
            val_loss=checked.loss if checked else None,
            val_accuracy=checked.accuracy if checked else None,
            seconds=time.perf_counter() - start,
        )
        done.records.append(record)
        done.epoch, done.step = done.epoch + 1, 0
        done.loss_sum, done.right, done.seen = 0.0, 0, 0
        self.watcher.epoch(record)
        return record

    def _steps(self) -> float:
        done = self.progress
        rate = 0.0
        for images, labels in self.batches.epoch(done.epoch, done.step):
            position = done.epoch * self.batches.steps + done.step
            rate = done.rate_scale * rate_at(self.recipe, position, self.batches.steps)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            seeding.reseed(self.compute.device, self.seed, seeding.DROPOUT, done.epoch, done.step)
            loss, right = self._step(images, labels)
            done.loss_sum += loss * len(labels)
            done.right += right
            done.seen += len(labels)
            done.trained_images += len(labels)
            done.step += 1
            self.watcher.images(len(labels))
        return rate

    def _step(self, images: Tensor, labels: Tensor) -> tuple[float, int]:
        from torch.nn import functional

        with self.compute.autocast():
            logits = self.module(images)
        loss = functional.cross_entropy(logits.float(), labels, label_smoothing=self.recipe.label_smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.recipe.clip_norm is not None:
            clip(self.module.parameters(), self.recipe.clip_norm)
        self.optimizer.step()
        if self.average:
            self.average.update(self.module)
        return loss.item(), int((logits.argmax(1) == labels).sum())
