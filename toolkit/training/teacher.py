"""A teacher: a trained network whose answers another one learns from, beside the labels.

Source: Hinton, Vinyals, Dean, "Distilling the knowledge in a neural network" (2015). The teacher sees the
very pictures that the student sees, augmented and mixed, normalised as it knows them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from toolkit.artifacts import CHECKPOINT, Artifact
from toolkit.checkpoints import load_module
from toolkit.errors import CnnkitError
from toolkit.opening import Selection, open_model
from toolkit.outputs import logits_of
from toolkit.preprocessing import Preprocessing
from toolkit.training import Job
from toolkit.training.compute.format import Compute
from toolkit.training.compute.ranks import Ranks
from toolkit.training.compute.rule import by_rule
from toolkit.training.data.prepare import PreparedData
from toolkit.transfer import KnownInput, input_of


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A trained network in eval mode on the training device, and how a student's input becomes its own.

    It computes in a format of its own: one that a small student gains nothing by may halve its time.
    `turned` tells that it takes blue first, where training gives red first.
    """

    module: nn.Module
    compute: Compute
    scale: Tensor
    shift: Tensor
    turned: bool = False

    def answers(self, images: Tensor) -> Tensor:
        """Return its (N, K) logits for a student's input, of which it takes a copy."""
        with torch.no_grad(), self.compute.autocast():
            seen = images * self.scale + self.shift
            answered = logits_of(self.module(seen.flip(1) if self.turned else seen))
        return _of_classes(answered.float())


def distance(logits: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    """Return how far a student's logits are from the teacher's, softened: their divergence times T²."""
    told = functional.log_softmax(logits / temperature, 1)
    asked = functional.log_softmax(wanted / temperature, 1)
    return temperature**2 * functional.kl_div(told, asked, reduction="batchmean", log_target=True)


def teacher_for(
    job: Job, prepared: PreparedData, ranks: Ranks | None = None, *, begun: Compute | None = None
) -> Teacher | None:
    """Open a job's teacher; None where it has none.

    It computes as a run that goes on was `begun`, else in what the rule names on the first rank. Raises
    CnnkitError where it cannot teach this student.
    """
    if job.teacher is None:
        return None
    artifact = _opened(job, job.teacher)
    own = prepared.preprocessing
    known = input_of(_fitting_input(artifact, prepared))
    module = load_module(artifact, model_file=job.model_file).requires_grad_(False).eval()
    shape = (job.recipe.batch, own.channels, *own.size)
    compute = (ranks or Ranks()).lead(lambda: begun or by_rule(job, module, shape))
    scale, shift = (figures.to(job.device) for figures in _conversion(input_of(own), known))
    return Teacher(
        module=compute.place(module), compute=compute, scale=scale, shift=shift, turned=known.turned
    )


def teacher_hash(job: Job) -> str | None:
    """Return the hash of a job's teacher, which makes a run what it is; None where it has none."""
    if job.teacher is None:
        return None
    return _opened(job, job.teacher).passport.sha256


def insist_that_it_teaches(job: Job, prepared: PreparedData) -> None:
    """Raise NotFoundError where a job's teacher is not there, CnnkitError where it cannot teach it."""
    if job.teacher is not None:
        _fitting_input(_opened(job, job.teacher), prepared)


def _opened(job: Job, teacher: str) -> Artifact:
    return open_model(teacher, Selection(root=job.root, formats=(CHECKPOINT,)))


def _fitting_input(artifact: Artifact, prepared: PreparedData) -> Preprocessing:
    """Return a teacher's preprocessing. Raises CnnkitError where a student's input cannot become its own."""
    passport, own = artifact.passport, prepared.preprocessing
    known = passport.preprocessing
    if passport.classes != prepared.dataset.classes:
        raise CnnkitError(f"{artifact.path} tells other classes apart than {prepared.dataset.name} has")
    scores, classes = passport.columns, len(prepared.dataset.classes)
    if scores != classes and (scores, classes) != (1, 2):
        raise CnnkitError(
            f"{artifact.path} gives a picture {scores} score{'s' if scores > 1 else ''}, and "
            f"{prepared.dataset.name} has {classes} classes: take a --teacher with one score a class"
        )
    if known is None or (known.size, known.channels) != (own.size, own.channels):
        size = "unknown" if known is None else f"{known.size[0]}×{known.size[1]}×{known.channels}"
        raise CnnkitError(
            f"{artifact.path} takes pictures of {size}, and the student {own.size[0]}×{own.size[1]}×"
            f"{own.channels}: --size makes them equal"
        )
    if known.invert:
        raise CnnkitError(
            f"{artifact.path} reads pictures inverted, and training does not: take a --teacher that reads "
            "them as they are"
        )
    if known.levels != own.levels:
        raise CnnkitError(_other_levels(artifact.path, known, own))
    return known


def _of_classes(scores: Tensor) -> Tensor:
    """Return (N, K) logits of scores; a single column is the second of two classes, by its sigmoid."""
    return torch.cat([torch.zeros_like(scores), scores], 1) if scores.shape[1] == 1 else scores


def _other_levels(path: Path, known: Preprocessing, own: Preprocessing) -> str:
    """Say that pictures of more than 8 bits become other pixels for a teacher, and what to do."""
    its, student = (_levels_text(one) for one in (known, own))
    advice = f"--levels {its} makes them equal"
    if known.levels is None:
        advice = "take a --teacher of such pictures"
    told = f"{path} reads pictures of more than 8 bits by the levels {its}, and the student by {student}"
    return f"{told}: {advice}"


def _levels_text(preprocessing: Preprocessing) -> str:
    levels = preprocessing.levels
    return "none" if levels is None else ",".join(f"{level:.15g}" for level in levels)


def _conversion(own: KnownInput, known: KnownInput) -> tuple[Tensor, Tensor]:
    """Return scale and shift, (C, 1, 1), that turn a student's input into the teacher's, red first."""
    (mean, std), (other_mean, other_std) = _figures(own), _figures(known)
    factor, offset = std / other_std, (mean - other_mean) / other_std
    return factor[:, None, None].float(), offset[:, None, None].float()


def _figures(known: KnownInput) -> tuple[Tensor, Tensor]:
    return torch.tensor(known.mean, dtype=torch.float64), torch.tensor(known.std, dtype=torch.float64)
