"""What a trained network makes of pictures before its last layer, and a regression on that, fold by fold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.answering import answers, inputs_of_fitted, preprocessing_of
from toolkit.artifacts import CHECKPOINT, Artifact
from toolkit.backends import EngineOptions, opener
from toolkit.checking.pictures import Gallery
from toolkit.checking.survey import Survey
from toolkit.checkpoints import load_module
from toolkit.errors import ImageError
from toolkit.images import Floats, Pixels
from toolkit.outputs import logits_of
from toolkit.preprocessing import fit_batch, fit_pixels, normalise

# (N, C, H, W) uint8 pixels at the network's size → what it makes of them, (N, …)
_Ask = Callable[[Pixels], NDArray[Any]]
_AT_ONCE = 64
_STEPS, _PENALTY = 60, 1e-3


@dataclass(frozen=True, kw_only=True)
class PictureFeatures:
    """Of M pictures that were seen, `rows` are those that the network takes, `values` (N, D) float32 theirs.

    `refused` are the others, with the reason.
    """

    rows: NDArray[np.int64]
    values: Floats
    refused: Mapping[int, str]


def features_of(
    artifact: Artifact,
    pictures: Gallery,
    seen: Survey,
    on_done: Callable[[int], None] = lambda done: None,
    *,
    model_file: Path | None = None,
) -> PictureFeatures:
    """Return what goes into a checkpoint's last layer; of other files their answers.

    The last layer is the linear one or convolution that ran last; a checkpoint that has none gives its
    answers, too.
    """
    preprocessing = preprocessing_of(artifact)
    is_checkpoint = artifact.passport.format == CHECKPOINT
    made = [np.empty((0, 1))]
    refused: dict[int, str] = {}
    with _before_the_end(artifact, model_file) if is_checkpoint else _answers(artifact) as ask:
        for start in range(0, len(seen.rows), _AT_ONCE):
            rows = seen.rows[start : start + _AT_ONCE]
            fitted: list[Pixels] = []
            if pictures.held is not None:
                fitted = list(fit_batch(pictures.held[rows], preprocessing))
            else:
                for at, row in enumerate(rows, start):
                    try:
                        fitted.append(fit_pixels(pictures.open(int(row), preprocessing.wide), preprocessing))
                    except ImageError as error:
                        refused[at] = str(error)
            if fitted:
                made.append(ask(np.stack(fitted)).reshape(len(fitted), -1))
            on_done(len(rows))
    return PictureFeatures(
        rows=np.array([at for at in range(len(seen.rows)) if at not in refused], dtype=np.int64),
        values=np.concatenate(made[1:] or made).astype(np.float32),
        refused=refused,
    )


@contextmanager
def _before_the_end(artifact: Artifact, model_file: Path | None) -> Iterator[_Ask]:
    import torch
    from torch import nn

    module = load_module(artifact, model_file=model_file)
    preprocessing = preprocessing_of(artifact)
    met: list[torch.Tensor] = []

    def meet(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        met[:] = [given[0] if given else named["input"]]

    # a network declares its layers in any order, and some run in training alone: all are listened to
    for one in module.modules():
        if isinstance(one, (nn.Linear, nn.Conv2d)):
            one.register_forward_pre_hook(meet, with_kwargs=True)

    def ask(pixels: Pixels) -> NDArray[Any]:
        met.clear()
        with torch.inference_mode():
            answered = logits_of(module(torch.from_numpy(normalise(pixels, preprocessing))))
        found = met.pop() if met else answered
        # of a convolution at the end, the mean over its places, as the network's own pooling has it
        return np.asarray((found.mean(dim=(2, 3)) if found.ndim == 4 else found).numpy())

    yield ask


@contextmanager
def _answers(artifact: Artifact) -> Iterator[_Ask]:
    with opener(artifact.passport.format).open(artifact, EngineOptions()) as engine:
        yield lambda pixels: answers(engine, inputs_of_fitted(pixels, artifact.passport))


def held_out_regression(
    features: Floats, labels: NDArray[np.int64], folds: NDArray[np.int64], *, classes: int
) -> NDArray[np.float64]:
    """Return (N, K) probabilities of (N, D) features, each by a logistic regression on the other folds.

    NaN where the other folds hold nothing.
    """
    import torch
    from torch.nn.functional import cross_entropy

    if not len(labels):
        return np.empty((0, classes))
    spread = features.std(axis=0) + 1e-6
    given = torch.from_numpy((features - features.mean(axis=0)) / spread)
    truth = torch.from_numpy(labels)
    made = np.full((len(labels), classes), np.nan)
    for fold in np.unique(folds):
        learnt, asked = (torch.from_numpy(np.flatnonzero(part)) for part in (folds != fold, folds == fold))
        if not len(learnt):
            continue
        weight = torch.zeros(given.shape[1] + 1, classes, requires_grad=True)
        optimizer = torch.optim.LBFGS([weight], max_iter=_STEPS, line_search_fn="strong_wolfe")
        one, right = given[learnt], truth[learnt]

        def closure(one: Any = one, right: Any = right, weight: Any = weight, by: Any = optimizer) -> Any:
            by.zero_grad()
            loss = cross_entropy(one @ weight[:-1] + weight[-1], right)
            loss = loss + _PENALTY * (weight[:-1] ** 2).sum()
            loss.backward()
            return loss

        optimizer.step(closure)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            found = (given[asked] @ weight[:-1] + weight[-1]).double().softmax(dim=1)
        made[asked.numpy()] = found.numpy()
    return made
