"""What a network says of single pictures: files, or the first test pictures of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toolkit.answering import (
    Invert,
    answers,
    count_frames,
    first,
    inputs_of,
    preprocessing_of,
    probabilities,
    read_picture,
)
from toolkit.backends import Engine
from toolkit.datasets import Dataset
from toolkit.errors import ImageError
from toolkit.images import Pixels, fit_batch, top_classes


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One picture's answers, likeliest first; `pixels` (C, H, W) uint8 is what the network saw.

    `source` is the file, or in words which picture of which data set; `truth` is None for files.
    `frames` is how many pictures the file holds, of which the first was taken.
    """

    source: Path | str
    top: tuple[tuple[str, float], ...]
    pixels: Pixels
    inverted: bool = False
    truth: str | None = None
    frames: int = 1

    @property
    def right(self) -> bool | None:
        """Tell whether the first answer is the true class; None where that is not known."""
        return None if self.truth is None else self.top[0][0] == self.truth


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A file that is no picture, or none that is read, and why in one line."""

    source: Path
    error: str


def predict_files(
    engine: Engine, files: Sequence[Path], *, top: int = 3, invert: Invert = "auto"
) -> tuple[list[Prediction], list[Refusal]]:
    """Classify files; those that cannot be read are told apart and stop none of the others."""
    preprocessing = preprocessing_of(engine.artifact)
    read, refused = [], []
    for file in files:
        try:
            read.append((file, read_picture(file, preprocessing, invert)))
        except ImageError as error:
            refused.append(Refusal(source=file, error=str(error)))
    if not read:
        return [], refused
    tops = _tops(engine, np.stack([picture.pixels for _, picture in read]), top)
    made = [
        Prediction(
            source=file,
            top=row,
            pixels=picture.pixels,
            inverted=picture.inverted,
            frames=count_frames(file),
        )
        for (file, picture), row in zip(read, tops, strict=True)
    ]
    return made, refused


def predict_dataset(engine: Engine, data: Dataset, *, count: int, top: int = 3) -> list[Prediction]:
    """Classify the first test pictures of a data set, whose classes are the network's."""
    split = first(data.test, count)
    pixels = fit_batch(split.images, preprocessing_of(engine.artifact))
    return [
        Prediction(
            source=f"{data.name} test {index}", top=row, pixels=pixels[index], truth=data.classes[int(label)]
        )
        for index, (row, label) in enumerate(zip(_tops(engine, pixels, top), split.labels, strict=True))
    ]


def _tops(engine: Engine, pixels: Pixels, top: int) -> list[tuple[tuple[str, float], ...]]:
    classes = engine.artifact.passport.classes
    likely = probabilities(engine.artifact, answers(engine, inputs_of(pixels, engine.artifact)))
    return [tuple(top_classes(row, classes, top)) for row in likely]
