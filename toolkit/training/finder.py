"""The rate finder: short steps at ever higher rates, from which the rate to train with can be read.

Source: Smith, "Cyclical learning rates for training neural networks" (2015). Nothing of it is kept but the
curve: the loss, averaged over the last steps, against the rate that rises by a constant factor each step.
"""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.artifacts import ANOTHER_ROOT, artifacts_root, check_name
from toolkit.errors import CnnkitError
from toolkit.machine.threads import compute_with, threads_given_back
from toolkit.named_files import refuse_unwritable
from toolkit.opening import require_torch
from toolkit.schema import Magnitude
from toolkit.tables import TextTable
from toolkit.training import Job, Watcher, recipes
from toolkit.training.data.describing import describe
from toolkit.training.data.prepare import prepare
from toolkit.training.process.failures import explained
from toolkit.training.record import lacks
from toolkit.training.record.charts import draw_rates

if TYPE_CHECKING:
    from torch import Tensor

    from toolkit.training.data.batches import Batches
    from toolkit.training.loop import Loop

_LOWEST, _HIGHEST, _STEPS = 1e-6, 10.0, 200
_MEMORY = 0.9  # of the averaged loss, from a step to the next
_DIVERGED = 4.0  # times the lowest averaged loss: no higher rate needs to be tried
# the first decade of rates, at which nothing learns yet: from its losses comes where the loss starts, and how
# much that differs from batch to batch; behind it the average holds 95 % of its memory
_AT_START = 28
# deviations of single batches' losses below the start: of 2,000 curves of noise alone 0.65 % come as low
_CLEARLY = 1.25


@dataclass(frozen=True, kw_only=True)
class RateCurve:
    """Rates tried, and the averaged loss after each; `suggested` is None where the loss never clearly fell.

    `picture` is the curve as a PNG.
    """

    model: str
    rates: tuple[Magnitude, ...]
    losses: tuple[float, ...]
    suggested: Magnitude | None
    lowest_at: Magnitude
    recipe_lr: Magnitude
    picture: str | None = None

    @property
    def sentence(self) -> str:
        """Say what to train with."""
        if self.suggested is None:
            return (
                "the loss fell at no rate by more than it differs from batch to batch; look at the data, or "
                "try a larger --batch, or another --init or --optimizer"
            )
        return (
            f"suggested --lr {self.suggested:.2g}, where the loss falls fastest; it is lowest at "
            f"{self.lowest_at:.2g}, and the recipe has {self.recipe_lr:g}"
        )

    def table(self) -> TextTable:
        """Return every tenth rate with its loss."""
        rows = list(zip(self.rates, self.losses, strict=True))[::10]
        return TextTable(
            head=("rate", "loss"),
            rows=tuple((f"{rate:.2g}", f"{loss:.4f}") for rate, loss in rows),
            figures=2,
        )


def find_rate(job: Job, watcher: Watcher | None = None) -> RateCurve:
    """Try rates on a job's own batches and return the curve; no run, no checkpoint.

    Where a frozen body is let learn later on, all layers learn here: the head alone takes rates that would
    wreck the body, and one rate is typed for both.

    Raises CnnkitError in words for what can be foreseen.
    """
    require_torch()
    watcher = watcher or Watcher()
    recipes.insist_that_layers_thaw(job.recipe, freeze=job.freeze)
    path = _picture(job)
    at = job.recipe.unfreeze_at
    if at is not None:
        job = replace(job, freeze=False, recipe=replace(job.recipe, unfreeze_at=None))
        watcher.say(f"rates are tried with all layers learning, as they do from --unfreeze-at {at} on")
    with explained(job, begun=False), threads_given_back():
        prepared = prepare(job, watcher)
        watcher.say(describe(prepared))
        from toolkit.training.readiness import make_ready

        compute_with(job.threads)
        rates, singles = _tried(make_ready(job, prepared, watcher).loop)
    if len(rates) < 3:
        raise CnnkitError("the loss is no number at any rate; look at the data, or at --precision fp32")
    losses = averaged(singles)
    suggested, lowest_at = suggest(rates, singles)
    if path is not None:
        title = f"{job.model.name} on {prepared.dataset.name}, recipe {job.recipe.name}"
        draw_rates(path, rates, losses, suggested, title, start=_at_start(singles)[0])
    return RateCurve(
        model=job.model.name,
        rates=tuple(rates),
        losses=tuple(losses),
        suggested=suggested,
        lowest_at=lowest_at,
        recipe_lr=job.recipe.lr,
        picture=None if path is None else str(path.absolute()),
    )


def _tried(loop: Loop) -> tuple[list[float], list[float]]:
    """Take steps at rising rates; return those at which the loss was still sensible, and each step's loss."""
    setup = loop.setup
    factor = (_HIGHEST / _LOWEST) ** (1 / (_STEPS - 1))
    setup.watcher.start(epochs=1, images=_STEPS * setup.recipe.batch, done=0)
    loop.module.train()
    rates: list[float] = []
    losses: list[float] = []
    lowest = math.inf
    with contextlib.closing(_dealt(setup.batches)) as dealt:
        for step, (images, labels) in zip(range(_STEPS), dealt, strict=False):
            rate = _LOWEST * factor**step
            loss = loop.try_step(images, labels, rate)
            setup.watcher.images(len(labels))
            average = averaged([*losses, loss])[-1]
            if not math.isfinite(average) or average > _DIVERGED * max(lowest, 1e-3):
                break
            lowest = min(lowest, average)
            rates.append(rate)
            losses.append(loss)
    return rates, losses


def averaged(losses: Sequence[float]) -> list[float]:
    """Return the average over the last steps after each: of the first ones over as many as there were."""
    found: list[float] = []
    average = 0.0
    for step, loss in enumerate(losses, 1):
        average = _MEMORY * average + (1 - _MEMORY) * loss
        found.append(average / (1 - _MEMORY**step))
    return found


def _dealt(batches: Batches) -> Generator[tuple[Tensor, Tensor], None, None]:
    """Yield the batches of one epoch after the other."""
    for epoch in count():
        yield from batches.epoch(epoch)


def _picture(job: Job) -> Path | None:
    """Return where the curve is drawn; None without matplotlib. Raises CnnkitError where it cannot be."""
    if lacks("matplotlib"):
        return None
    root = artifacts_root(job.root)
    path = root / check_name(job.artifact_name) / f"{job.artifact_name}.rates.png"
    refuse_unwritable(path, instead=ANOTHER_ROOT)
    return path


def suggest(rates: Sequence[float], singles: Sequence[float]) -> tuple[float | None, float]:
    """Return the rate at which the averaged loss falls fastest by its logarithm, and that of the lowest loss.

    `singles` are the losses of the steps, one at each rate. The first is looked for where the average is
    below the losses of the start by more than these differ, and by more than a hundredth; None where it never
    is. A wobble between two batches would else be the fastest fall of networks whose loss falls little.
    """
    losses = averaged(singles)
    first = min(_AT_START, len(losses) - 1)
    best = min(range(first, len(losses)), key=losses.__getitem__)
    start, spread = _at_start(singles)
    clearly = start - max(_CLEARLY * spread, 0.01 * start)
    fallen = [at for at in range(first, best + 1) if losses[at] < clearly]
    if not fallen:
        return None, rates[best]
    steps_a_decade = (len(rates) - 1) / math.log10(rates[-1] / rates[0])
    reach = max(1, round(steps_a_decade / 3))  # two thirds of a decade, so that no few batches decide

    def fall(at: int) -> float:
        low, high = max(first, at - reach), min(len(losses) - 1, at + reach)
        return (losses[low] - losses[high]) / max(1, high - low)

    return rates[max(fallen, key=fall)], rates[best]


def _at_start(singles: Sequence[float]) -> tuple[float, float]:
    """Return mean and deviation of single batches' losses before anything is learned."""
    first = singles[:_AT_START]
    return statistics.fmean(first), statistics.pstdev(first)
