"""A sheet of what a network is shown in training: pictures as they lie in the data set, and augmented."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import unknown_name
from toolkit.images import Pixels
from toolkit.inspection.prediction import Prediction
from toolkit.inspection.sheet import draw_sheet
from toolkit.opening import require_torch
from toolkit.preprocessing import Preprocessing
from toolkit.training import Watcher
from toolkit.training.jobs import make_job
from toolkit.training.recipes import insist_that_layers_thaw, settings

if TYPE_CHECKING:
    from PIL.Image import Image

_PICTURES = 20


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One picture of a step: (C, H, W) uint8 before and after augmentation, its class and label's shares."""

    plain: Pixels
    truth: str
    augmented: Pixels
    shares: tuple[tuple[str, float], ...]


@dataclass(frozen=True, kw_only=True)
class AugmentedPictures:
    """The first pictures of a run's first step under a recipe."""

    model: str
    recipe: str
    pictures: tuple[Shown, ...]

    def image(self) -> Image:
        """Return the sheet: each picture as it is, beside what the network is shown of it."""
        tiles = []
        for shown in self.pictures:
            label = max(shown.shares, key=lambda share: share[1])
            rest = ", ".join(f"{share:.0%} {name}" for name, share in shown.shares if name != label[0])
            tiles.append(Prediction(source="as it is", top=((shown.truth, 1.0),), pixels=shown.plain))
            tiles.append(Prediction(source=rest or "as shown", top=(label,), pixels=shown.augmented))
        return draw_sheet(tiles, f"{self.model}, recipe {self.recipe}: the first pictures of the first step")

    def to_json(self) -> dict[str, Any]:
        """Return what is on the sheet, without the pixels."""
        return {
            "model": self.model,
            "recipe": self.recipe,
            "pictures": [{"class": shown.truth, "shares": dict(shown.shares)} for shown in self.pictures],
        }


def augmented(
    model: str,
    *,
    recipe: str | Path = "default",
    changes: Mapping[str, Any] | None = None,
    root: Path | str | None = None,
    watcher: Watcher | None = None,
    **options: Any,
) -> AugmentedPictures:
    """Return the first pictures that a training of these options sees, exactly as it sees them.

    `changes` are recipe fields, and nothing else (CnnkitError); `options` those of a training (dataset,
    columns, size, fold, pretrained); the `watcher` is told of the data. Raises what `train` raises of these,
    of a teacher and of class weights before it builds its network, MissingExtraError without PyTorch.
    """
    require_torch()
    import torch

    from toolkit.training.data.balance import objective_of
    from toolkit.training.data.batches import InputTransform, MemoryBatches, epoch_order, tensors
    from toolkit.training.data.describing import describe
    from toolkit.training.data.mixing import mixed, mixes
    from toolkit.training.data.prepare import prepare, pretrained_input
    from toolkit.training.teacher import insist_that_it_teaches

    fields = {word.replace("-", "_"): value for word, value in (changes or {}).items()}
    for name in fields.keys() - settings().keys():
        raise unknown_name("recipe field", name, [setting.word for setting in settings().values()])
    job = make_job(model, recipe=recipe, root=root, **options, **fields)
    insist_that_layers_thaw(job.recipe, freeze=job.freeze)
    watcher = watcher or Watcher()
    prepared = prepare(job, watcher)
    insist_that_it_teaches(job, prepared)
    objective_of(job.recipe, prepared.learned.labels, prepared.dataset.classes)  # for its class weights
    for text in (describe(prepared), pretrained_input(job, prepared)):
        if text:
            watcher.say(text)
    transform = InputTransform(preprocessing=prepared.preprocessing, device=torch.device("cpu"))
    labels = torch.from_numpy(prepared.learned.labels)
    order = epoch_order(labels, job.recipe, job.seed, 0)[: job.recipe.batch]
    images, _ = tensors(prepared.learned.take(order[:_PICTURES].numpy()))
    inputs, truth = next(MemoryBatches(prepared.learned, job.recipe, job.seed, transform).epoch(0))
    classes = prepared.dataset.classes
    shares = torch.nn.functional.one_hot(truth, len(classes)).float()
    if mixes(job.recipe):
        inputs, shares = mixed(inputs, truth, job.recipe, classes=len(classes), place=(job.seed, 0, 0))
    plain = transform(images)
    return AugmentedPictures(
        model=job.model.name,
        recipe=job.recipe.name + (f" ({', '.join(job.recipe.changed)})" if job.recipe.changed else ""),
        pictures=tuple(
            Shown(plain=before, truth=classes[label], augmented=after, shares=_named(row.tolist(), classes))
            for before, after, label, row in zip(
                _pixels(plain.numpy(), prepared.preprocessing),
                _pixels(inputs[:_PICTURES].numpy(), prepared.preprocessing),
                truth.tolist(),
                shares,
                strict=False,
            )
        ),
    )


def _named(shares: Sequence[float], classes: Sequence[str]) -> tuple[tuple[str, float], ...]:
    return tuple((name, share) for name, share in zip(classes, shares, strict=True) if share > 0)


def _pixels(inputs: NDArray[np.float32], preprocessing: Preprocessing) -> Pixels:
    """Turn (N, C, H, W) input back into levels from 0 to 255."""
    mean, std = (np.array(f)[:, None, None] for f in (preprocessing.mean, preprocessing.std))
    levels = (inputs * std + mean) / preprocessing.scale
    return np.asarray(np.clip(np.rint(levels), 0, 255).astype(np.uint8))


def sheet_path(model: str) -> Path:
    """Return where a model's sheet is written unless told."""
    return Path(f"{Path(model).stem}-augmented.png")
