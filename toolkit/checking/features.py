"""What a trained network makes of pictures before its last layer, and a regression on that, fold by fold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from toolkit.answering import preprocessing_of
from toolkit.artifacts import CHECKPOINT, Artifact
from toolkit.backends import BACKENDS, EngineOptions, openers
from toolkit.checking.pictures import Gallery
from toolkit.checking.survey import Survey
from toolkit.checkpoints import load_module
from toolkit.errors import ImageError
from toolkit.images import Floats, Pixels
from toolkit.preprocessing import fit_batch, fit_pixels, normalise

if TYPE_CHECKING:
    from torch import nn

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
    """Return what goes into a checkpoint's last layer; of other files their answers."""
    is_checkpoint = artifact.passport.format == CHECKPOINT
    ask = _before_the_end(artifact, model_file) if is_checkpoint else _answers(artifact)
    preprocessing = preprocessing_of(artifact)
    made = [np.empty((0, 1))]
    refused: dict[int, str] = {}
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
            made.append(ask(normalise(np.stack(fitted), preprocessing)).reshape(len(fitted), -1))
        on_done(len(rows))
    return PictureFeatures(
        rows=np.array([at for at in range(len(seen.rows)) if at not in refused], dtype=np.int64),
        values=np.concatenate(made[1:] or made).astype(np.float32),
        refused=refused,
    )


def _before_the_end(artifact: Artifact, model_file: Path | None) -> Callable[[Floats], NDArray[Any]]:
    import torch
    from torch import nn

    module = load_module(artifact, model_file=model_file)
    last: list[nn.Module] = [one for one in module.modules() if isinstance(one, (nn.Linear, nn.Conv2d))]
    met: list[torch.Tensor] = []
    last[-1].register_forward_pre_hook(lambda _, given: met.append(given[0]))

    def ask(batch: Floats) -> NDArray[Any]:
        with torch.inference_mode():
            module(torch.from_numpy(batch))
        found = met.pop()
        met.clear()
        # of a convolution at the end, the mean over its places, as the network's own pooling has it
        return np.asarray((found.mean(dim=(2, 3)) if found.ndim == 4 else found).numpy())

    return ask


def _answers(artifact: Artifact) -> Callable[[Floats], NDArray[Any]]:
    backend = BACKENDS.load(openers(artifact.passport.format)[0].name)
    engine = backend.open(artifact, EngineOptions())
    return engine.logits


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
