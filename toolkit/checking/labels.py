"""Who judges labels: a small network that is trained here, or what a trained network makes of pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolkit.answering import preprocessing_of
from toolkit.artifacts import CHECKPOINT, Artifact, artifacts_root, find_artifacts
from toolkit.backends import openers
from toolkit.checking.pictures import Gallery
from toolkit.checking.survey import Survey
from toolkit.errors import OtherPrecisionError, needs_extra
from toolkit.graphs import GRAPH
from toolkit.opening import Selection, describe, open_model
from toolkit.telling import Step, Tell, counter

_FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class Question:
    """What judges are asked: the M pictures that were seen, their labels (M,) and folds (M,)."""

    pictures: Gallery
    seen: Survey
    labels: NDArray[np.int64]
    folds: NDArray[np.int64]
    seed: int
    on_step: Step


@dataclass(frozen=True, kw_only=True)
class Likelihoods:
    """How likely each class is, (M, K): rows of NaN for pictures that were not judged.

    `refused` tells of those that the judge does not take why, by their row.
    """

    probabilities: NDArray[np.float64]
    refused: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Judge:
    """What says of M pictures how likely each class is, in so many folds."""

    title: str
    folds: int
    likelihoods: Callable[[Question], Likelihoods]


def judge_of(model: str | None, *, root: Path | None, model_file: Path | None, tell: Tell) -> Judge:
    """Return the judge by a model's name, None for a network trained here. Raises CnnkitError."""
    with needs_extra("train"):
        import torch  # noqa: F401  (only to name the extra before any picture is read)
    if model is None:
        from toolkit.checking.learning import FOLDS

        return Judge(title="a small network trained here", folds=FOLDS, likelihoods=_learnt)
    artifact = _opened(
        model, Selection(root=artifacts_root(root), formats=(CHECKPOINT,), model_file=model_file)
    )
    preprocessing_of(artifact)
    tell(f"opened {describe(artifact)}")

    def asked(question: Question) -> Likelihoods:
        from toolkit.checking.features import features_of, held_out_regression

        tell = counter(question.on_step, "looking at pictures", len(question.labels))
        found = features_of(artifact, question.pictures, question.seen, tell, model_file=model_file)
        made = np.full((len(question.labels), len(question.pictures.classes)), np.nan)
        made[found.rows] = held_out_regression(
            found.values, question.labels[found.rows], question.folds[found.rows], classes=made.shape[1]
        )
        return Likelihoods(probabilities=made, refused=found.refused)

    return Judge(title=f"the features of {artifact.path.name}", folds=_FOLDS, likelihoods=asked)


def _opened(model: str, selection: Selection) -> Artifact:
    try:
        return open_model(model, selection)
    except OtherPrecisionError as error:
        here = [
            (known.format != GRAPH, known.precision != "fp32", path)  # a whole graph runs everywhere
            for path, known in find_artifacts(selection.root, model)
            if openers(known.format)
        ]
        if not here:
            raise
        *_, path = min(here)
        advice = f"`--model {path}` judges by what that file answers"
        raise OtherPrecisionError(error.here, advice, error.formats) from None


def _learnt(question: Question) -> Likelihoods:
    from toolkit.checking.learning import FOLDS, epochs_for, held_out_probabilities

    learnt = len(question.labels) * (FOLDS - 1)
    made = held_out_probabilities(
        question.seen.small,
        question.labels,
        question.folds,
        classes=len(question.pictures.classes),
        seed=question.seed,
        on_done=counter(question.on_step, "learning labels", learnt * epochs_for(learnt // FOLDS)),
    )
    return Likelihoods(probabilities=made)
