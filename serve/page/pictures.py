"""Test pictures to try a model on: from the data set that it was trained on, never downloaded here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from toolkit import zoo
from toolkit.answering import Invert
from toolkit.artifacts import Artifact
from toolkit.errors import CnnkitError
from toolkit.images import Pixels, picture_of
from toolkit.inspection.sheet import png_of
from toolkit.unseen import unseen_pictures

PER_CLASS = 3
# the whole set's pictures need a download; the sample of the same pictures ships
SHIPPED = {"fashion-mnist": "fashion-mnist-sample"}


@dataclass(frozen=True, kw_only=True)
class SamplePictures:
    """Pictures (C, H, W) uint8 that the network was not trained on, with their true labels."""

    images: tuple[Pixels, ...]
    labels: tuple[str, ...]
    source: str

    def as_pil(self, index: int) -> Image.Image:
        """Return one picture in mode L or RGB."""
        return picture_of(self.images[index])

    def as_png(self, index: int) -> bytes:
        """Return one picture as a PNG file's bytes."""
        return png_of(self.as_pil(index))


@dataclass(frozen=True, kw_only=True)
class ChosenPicture:
    """The picture that the page is about: a file's bytes, and whether the page itself offered it."""

    data: bytes
    ours: bool = False

    def resolve(self, invert: Invert) -> Invert:
        """Return how the picture is inverted: one that the page offers is like the ones in training."""
        return "no" if self.ours and invert == "auto" else invert


def sample_pictures(artifact: Artifact) -> SamplePictures | str:
    """Return a few test pictures of each class, or a sentence that says why there are none.

    They are of the data set that the artifact was trained on, else of the one that its model is meant for.
    """
    trained_on, spec = artifact.passport.dataset, zoo.known(artifact.passport.model)
    name = trained_on.name if trained_on else spec.dataset if spec else None
    if name is None:
        return "no test pictures: the passport does not say which data the network was trained on"
    name = SHIPPED.get(name, name)
    try:
        data = unseen_pictures(artifact.passport, name, beside=artifact.path, fetch=False).dataset
    except CnnkitError as error:
        return f"no test pictures: {error}"
    labels = data.test.labels
    chosen = [i for k in range(len(data.classes)) for i in np.flatnonzero(labels == k)[:PER_CLASS]]
    chosen.sort(key=lambda i: (np.flatnonzero(labels == labels[i]).tolist().index(i), labels[i]))
    return SamplePictures(
        images=tuple(data.test.images[i] for i in chosen),
        labels=tuple(data.classes[int(labels[i])] for i in chosen),
        source=name,
    )
