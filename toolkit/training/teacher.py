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

from toolkit.artifacts import CHECKPOINT
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


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A trained network in eval mode on the training device, and how a student's input becomes its own.

    It computes in a format of its own: one that a small student gains nothing by may halve its time.
    """

    module: nn.Module
    compute: Compute
    scale: Tensor
    shift: Tensor

    def loss(self, images: Tensor, logits: Tensor, temperature: float) -> Tensor:
        """Return how far a student's logits are from the teacher's, softened: their divergence times T²."""
        with torch.no_grad(), self.compute.autocast():
            wanted = logits_of(self.module(images * self.scale + self.shift)).float()
        told = functional.log_softmax(logits / temperature, 1)
        asked = functional.log_softmax(wanted / temperature, 1)
        return temperature**2 * functional.kl_div(told, asked, reduction="batchmean", log_target=True)


def teacher_for(job: Job, prepared: PreparedData, ranks: Ranks | None = None) -> Teacher | None:
    """Open a job's teacher, in the format that the rule names on the first rank; None where it has none.

    Raises CnnkitError where it cannot teach this student.
    """
    if job.teacher is None:
        return None
    artifact = open_model(job.teacher, Selection(root=job.root, formats=(CHECKPOINT,)))
    passport, own = artifact.passport, prepared.preprocessing
    known = passport.preprocessing
    if passport.classes != prepared.dataset.classes:
        raise CnnkitError(f"{artifact.path} tells other classes apart than {prepared.dataset.name} has")
    if known is None or (known.size, known.channels) != (own.size, own.channels):
        size = "unknown" if known is None else f"{known.size[0]}×{known.size[1]}×{known.channels}"
        raise CnnkitError(
            f"{artifact.path} takes pictures of {size}, and the student {own.size[0]}×{own.size[1]}×"
            f"{own.channels}: --size makes them equal"
        )
    module = load_module(artifact, model_file=job.model_file).requires_grad_(False).eval()
    shape = (job.recipe.batch, own.channels, *own.size)
    compute = (ranks or Ranks()).lead(lambda: by_rule(job, module, shape))
    scale, shift = (figures.to(job.device) for figures in _conversion(own, known))
    return Teacher(module=compute.place(module), compute=compute, scale=scale, shift=shift)


def teacher_hash(job: Job) -> str | None:
    """Return the hash of a job's teacher, which makes a run what it is; None where it has none."""
    if job.teacher is None:
        return None
    return open_model(job.teacher, Selection(root=Path(job.root), formats=(CHECKPOINT,))).passport.sha256


def _conversion(own: Preprocessing, known: Preprocessing) -> tuple[Tensor, Tensor]:
    """Return scale and shift, (C, 1, 1), that turn a student's input into the teacher's."""
    mean, std, scale = _figures(own)
    other_mean, other_std, other_scale = _figures(known)
    levels = other_scale / scale
    factor, offset = std * levels / other_std, (mean * levels - other_mean) / other_std
    return factor[:, None, None].float(), offset[:, None, None].float()


def _figures(preprocessing: Preprocessing) -> tuple[Tensor, Tensor, float]:
    mean, std = (torch.tensor(f, dtype=torch.float64) for f in (preprocessing.mean, preprocessing.std))
    return mean, std, preprocessing.scale
