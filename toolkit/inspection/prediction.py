"""What a network says of single pictures: files, pictures in memory, or the first of a data set."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolkit.answering import (
    Invert,
    answers,
    first,
    fitted,
    inputs_of_fitted,
    numbered,
    preprocessing_of,
    probabilities,
    read_picture,
)
from toolkit.backends import Engine
from toolkit.datasets import Dataset
from toolkit.errors import ImageError
from toolkit.images import PictureSource, Pixels, count_frames, read_bytes
from toolkit.listings.looking import readable
from toolkit.probabilities import top_classes
from toolkit.tables import TextTable

_ANSWER = ("label", "probability")


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One picture's answers, likeliest first; `pixels` (C, H, W) uint8 is what the network saw.

    `source` is the file, or in words which picture it is. `truth` names the true class, and `right` tells
    whether the first answer is that one; both are None where that is not known. `frames` is how many
    pictures the source holds, of which the first was taken.
    """

    source: Path | str
    top: tuple[tuple[str, float], ...]
    pixels: Pixels
    inverted: bool = False
    truth: str | None = None
    right: bool | None = None
    frames: int = 1

    @property
    def label(self) -> str:
        """The likeliest class."""
        return self.top[0][0]

    @property
    def probability(self) -> float:
        """The likeliest class's probability."""
        return self.top[0][1]

    def _repr_html_(self) -> str:
        return Predictions((self,))._repr_html_()


class Predictions(tuple[Prediction, ...]):
    """Predictions in the order of their pictures."""

    @property
    def right(self) -> int | None:
        """How many first answers are the true class; None where no truth is known."""
        known = [one.right for one in self if one.right is not None]
        return sum(known) if known else None

    def table(self) -> TextTable:
        """Return the answers as texts, with what each picture is where that is known."""
        known = self.right is not None
        rows = []
        for one in self:
            mark = {True: " ✓", False: " ✗", None: ""}[one.right]
            rest = ", ".join(f"{name} {value:.1%}" for name, value in one.top[1:])
            truth = [one.truth or ""] if known else []
            rows.append((readable(str(one.source)), *truth, f"{one.label} {one.probability:.1%}{mark}", rest))
        return TextTable(head=("picture", *(["is"] if known else []), "answer", "then"), rows=tuple(rows))

    def counts(self) -> TextTable:
        """Return how often each answer was given, most often first, and how sure it was on average."""
        by_label: dict[str, list[float]] = {}
        for one in self:
            by_label.setdefault(one.label, []).append(one.probability)
        ordered = sorted(by_label.items(), key=lambda item: (-len(item[1]), item[0]))
        rows = tuple((name, f"{len(sure):,}", f"{sum(sure) / len(sure):.1%}") for name, sure in ordered)
        return TextTable(head=("answer", "pictures", "sure on average"), rows=rows, figures=2)

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


def without_pixels(one: Prediction) -> Prediction:
    """Return a prediction without what the network saw, which takes most of its memory."""
    return replace(one, pixels=one.pixels[:, :0, :0].copy())


def as_csv(made: Predictions, refused: Sequence[Refusal] = ()) -> str:
    """Return predictions as CSV, one row a picture; the pictures that were refused come last, with why."""
    most = max((len(one.top) for one in made), default=1)
    answers_head = [f"{word}{'' if n == 1 else f'_{n}'}" for n in range(1, most + 1) for word in _ANSWER]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("file", "truth", *answers_head, "inverted", "frames", "error"))
    for one in made:
        told = [each for label, share in one.top for each in (label, f"{share:.6f}")]
        writer.writerow((one.source, one.truth or "", *told, one.inverted, one.frames, ""))
    for entry in refused:
        writer.writerow((entry.source, *[""] * (len(answers_head) + 3), entry.error))
    return text.getvalue()


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
            # read once: a pipe gives its bytes to the first who asks
            given: PictureSource = read_bytes(picture, str(source)) if isinstance(picture, Path) else picture
            shown = read_picture(given, preprocessing, invert, name=str(source))
            read.append((source, shown, count_frames(given)))
        except ImageError as error:
            if on_refusal is None:
                raise
            on_refusal(Refusal(source=source, error=str(error)))
    if not read:
        return Predictions()
    likely = _likely(engine, np.stack([shown.pixels for _, shown, _ in read]))
    classes = engine.artifact.passport.classes
    return Predictions(
        Prediction(
            source=source,
            top=tuple(top_classes(row, classes, top)),
            pixels=shown.pixels,
            inverted=shown.inverted,
            frames=frames,
        )
        for (source, shown, frames), row in zip(read, likely, strict=True)
    )


def predict_dataset(engine: Engine, data: Dataset, *, count: int, top: int = 3) -> Predictions:
    """Classify the first test pictures of a data set, whose classes are the network's, in the same order.

    Answers are judged by their places: two classes may have one name. A network that has numbers for names
    answers in the data set's.
    """
    split = first(data.test, count)
    pixels = fitted(split, preprocessing_of(engine.artifact))
    own = engine.artifact.passport.classes
    names = data.classes if numbered(own) and len(own) == len(data.classes) else own
    return Predictions(
        Prediction(
            source=picture_name(data, index),
            top=tuple(top_classes(row, names, top)),
            pixels=pixels[index],
            truth=data.classes[int(label)],
            right=int(row.argmax()) == int(label),
        )
        for index, (row, label) in enumerate(zip(_likely(engine, pixels), split.labels, strict=True))
    )


def picture_name(data: Dataset, index: int) -> str:
    """Return what a test picture is called: by its file, of people's own, else by its number."""
    held = data.test.members
    return f"{data.name} test {index}" if held is None else held[index].entry.name


def _likely(engine: Engine, pixels: Pixels) -> NDArray[np.float64]:
    return probabilities(engine.artifact, answers(engine, inputs_of_fitted(pixels, engine.artifact.passport)))
