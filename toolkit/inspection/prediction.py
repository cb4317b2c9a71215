"""What a network says of single pictures: files, pictures in memory, or the first of a data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toolkit.answering import (
    Invert,
    answers,
    first,
    fitted,
    inputs_of_fitted,
    preprocessing_of,
    probabilities,
    read_picture,
)
from toolkit.backends import Engine
from toolkit.datasets import Dataset
from toolkit.errors import ImageError
from toolkit.images import PictureSource, Pixels, count_frames, top_classes
from toolkit.tables import TextTable


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One picture's answers, likeliest first; `pixels` (C, H, W) uint8 is what the network saw.

    `source` is the file, or in words which picture it is; `truth` is None where that is not known.
    `frames` is how many pictures the source holds, of which the first was taken.
    """

    source: Path | str
    top: tuple[tuple[str, float], ...]
    pixels: Pixels
    inverted: bool = False
    truth: str | None = None
    frames: int = 1

    @property
    def label(self) -> str:
        """The likeliest class."""
        return self.top[0][0]

    @property
    def probability(self) -> float:
        """The likeliest class's probability."""
        return self.top[0][1]

    @property
    def right(self) -> bool | None:
        """Tell whether the first answer is the true class; None where that is not known."""
        return None if self.truth is None else self.label == self.truth

    def _repr_html_(self) -> str:
        return Predictions((self,))._repr_html_()


class Predictions(tuple[Prediction, ...]):
    """Predictions in the order of their pictures."""

    @property
    def right(self) -> int | None:
        """How many first answers are the true class; None where no truth is known."""
        return sum(bool(one.right) for one in self) if any(one.truth is not None for one in self) else None

    def table(self) -> TextTable:
        """Return the answers as texts, with what each picture is where that is known."""
        known = self.right is not None
        rows = []
        for one in self:
            mark = {True: " ✓", False: " ✗", None: ""}[one.right]
            rest = ", ".join(f"{name} {value:.1%}" for name, value in one.top[1:])
            truth = [one.truth or ""] if known else []
            rows.append((str(one.source), *truth, f"{one.label} {one.probability:.1%}{mark}", rest))
        return TextTable(head=("picture", *(["is"] if known else []), "answer", "then"), rows=tuple(rows))

    def _repr_html_(self) -> str:
        from toolkit.inspection.sheet import inline, tile
        from toolkit.markup import html_table

        table = self.table()
        rows = ((inline(tile(one.pixels, 56)), *row) for one, row in zip(self, table.rows, strict=True))
        return html_table(("", *table.head), rows)


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A source that is no picture, or none that is read, and why in one line."""

    source: Path | str
    error: str


def predict_pictures(
    engine: Engine,
    pictures: Sequence[PictureSource],
    *,
    top: int = 3,
    invert: Invert = "auto",
    on_refusal: Callable[[Refusal], None] | None = None,
) -> Predictions:
    """Classify pictures; `on_refusal` is told of each that cannot be read, and the others are answered.

    Raises ImageError for the first of those where nobody is to be told.
    """
    preprocessing = preprocessing_of(engine.artifact)
    read = []
    for number, picture in enumerate(pictures, 1):
        source = picture if isinstance(picture, Path) else f"picture {number}"
        try:
            shown = read_picture(picture, preprocessing, invert, name=str(source))
            read.append((source, shown, count_frames(picture)))
        except ImageError as error:
            if on_refusal is None:
                raise
            on_refusal(Refusal(source=source, error=str(error)))
    if not read:
        return Predictions()
    tops = _tops(engine, np.stack([shown.pixels for _, shown, _ in read]), top)
    return Predictions(
        Prediction(source=source, top=row, pixels=shown.pixels, inverted=shown.inverted, frames=frames)
        for (source, shown, frames), row in zip(read, tops, strict=True)
    )


def predict_dataset(engine: Engine, data: Dataset, *, count: int, top: int = 3) -> Predictions:
    """Classify the first test pictures of a data set, whose classes are the network's."""
    split = first(data.test, count)
    pixels = fitted(split, preprocessing_of(engine.artifact))
    return Predictions(
        Prediction(
            source=f"{data.name} test {index}", top=row, pixels=pixels[index], truth=data.classes[int(label)]
        )
        for index, (row, label) in enumerate(zip(_tops(engine, pixels, top), split.labels, strict=True))
    )


def _tops(engine: Engine, pixels: Pixels, top: int) -> list[tuple[tuple[str, float], ...]]:
    known = engine.artifact.passport
    likely = probabilities(engine.artifact, answers(engine, inputs_of_fitted(pixels, known)))
    return [tuple(top_classes(row, known.classes, top)) for row in likely]
