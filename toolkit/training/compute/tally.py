"""What steps came to on all ranks: losses and right answers, each summed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.training.compute.ranks import Ranks
from toolkit.training.objective import main_labels, right_answers

# of a right answer, as mixed pictures have: sums of whole ones are exact, in whatever order they are made
_PARTS = 1 << 20


@dataclass(frozen=True, kw_only=True)
class StepAnswers:
    """What a step came to: this rank's part of the loss, its logits with their labels, all labels' number."""

    loss: Tensor
    logits: Tensor
    labels: Tensor
    total: int


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What some steps came to on all ranks: their losses, right answers, and both by class."""

    losses: list[float]
    right: float
    seen: list[int]
    hits: list[int]


def tally_of(steps: Sequence[StepAnswers], classes: int, ranks: Ranks) -> Tally:
    """Return what steps came to, added up over the ranks."""
    losses = torch.stack([step.loss for step in steps]).cpu().double()
    logits = torch.cat([step.logits for step in steps])
    labels = torch.cat([step.labels for step in steps])
    scores, truth = right_answers(logits, labels).cpu().double(), main_labels(labels).cpu()
    scores = scores.mul_(_PARTS).round_().div_(_PARTS)
    right = logits.argmax(1).cpu() == truth
    seen, hits = (torch.bincount(found, minlength=classes) for found in (truth, truth[right]))
    figures = torch.cat([losses, scores.sum()[None], seen.double(), hits.double()])
    ranks.add(figures)
    by_class = figures[len(steps) + 1 :].long().tolist()
    return Tally(
        losses=figures[: len(steps)].tolist(),
        right=float(figures[len(steps)]),
        seen=by_class[:classes],
        hits=by_class[classes:],
    )
