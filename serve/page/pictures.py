"""Test pictures to try a model on: from the data set that it was trained on, never downloaded here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from serve.page.figures import FigureLie, lie_of
from toolkit import zoo
from toolkit.answering import check_classes
from toolkit.artifacts import Artifact
from toolkit.datasets import dataset_of
from toolkit.errors import CnnkitError
from toolkit.images import Pixels, picture_of
from toolkit.inspection.sheet import png_of
from toolkit.unseen import unseen_pictures

PER_CLASS = 3
MOST = 600
# so many pictures say how the figures of their data set lie
LOOKED_AT = 500


@dataclass(frozen=True, kw_only=True)
class SamplePictures:
    """Pictures (C, H, W) uint8 that the network was not trained on, with their true labels in its words.

    The first of each class come first. `lie` is how their figures lie, None where that says nothing.
    """

    images: tuple[Pixels, ...]
    labels: tuple[str, ...]
    source: str
    lie: FigureLie | None = None

    def as_png(self, index: int) -> bytes:
        """Return one picture as a PNG file's bytes."""
        return png_of(picture_of(self.images[index]))


def sample_pictures(artifact: Artifact) -> SamplePictures | str:
    """Return a few test pictures of each class, or a sentence that says why there are none.

    They are of the data set that the artifact was trained on, else of the one that its model is meant for
    where it has those classes.
    """
    trained_on, spec = artifact.passport.dataset, zoo.known(artifact.passport.model)
    name = trained_on.name if trained_on else spec.dataset if spec else None
    if name is None:
        return "no test pictures: the passport does not say which data the network was trained on"
    try:
        # the whole set's pictures need a download, those of a sample ship
        source = dataset_of(name).sample or name
        data = unseen_pictures(artifact.passport, source, beside=artifact.path, fetch=False).dataset
        check_classes(artifact.passport, name, data.classes)
    except CnnkitError as error:
        return f"no test pictures: {error}"
    labels = data.test.labels
    chosen = [i for k in range(len(data.classes)) for i in np.flatnonzero(labels == k)[:PER_CLASS]]
    chosen.sort(key=lambda i: (np.flatnonzero(labels == labels[i]).tolist().index(i), labels[i]))
    grey = artifact.passport.preprocessing is not None and artifact.passport.preprocessing.channels == 1
    first = [data.test.images[i] for i in range(min(LOOKED_AT, len(data.test.images)))] if grey else []
    return SamplePictures(
        images=tuple(data.test.images[i] for i in chosen[:MOST]),
        # as the network names them, which may be by numbers: the page holds its answers against them
        labels=tuple(artifact.passport.classes[int(labels[i])] for i in chosen[:MOST]),
        source=source,
        lie=lie_of([pixels for pixels in first if len(pixels) == 1]),
    )
