"""How often a network is right on a test set, by whichever backend runs it, and where it is most wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from toolkit.answering import answers, fitted, inputs_of, preprocessing_of, probabilities
from toolkit.backends import Engine
from toolkit.datasets import Split
from toolkit.errors import GateError
from toolkit.figures import UNKNOWN, duration_text
from toolkit.images import Pixels
from toolkit.tables import TextTable
from toolkit.training.scoring import Score

MISTAKES_OF_A_CLASS = 12
_MISTAKES = 1200  # of all classes together: a page of them stays one that a browser opens
_SHOWN = 10  # mistakes on the terminal
_JUDGED_AT_ONCE = 8192  # answers made into probabilities, which take several times their memory


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A picture that a network took for another class, and how sure the network was of it.

    `index` is the picture's place in the test part, `likelihood` the probability of its true class.
    """

    index: int
    picture: str
    truth: int
    answer: int
    probability: float
    likelihood: float
    pixels: Pixels


@dataclass(frozen=True, kw_only=True)
class Answered:
    """A score with the mistakes behind it: the surest of each class first, class by class."""

    score: Score
    mistakes: tuple[Mistake, ...]


@dataclass(frozen=True, kw_only=True)
class Evaluation(Score):
    """A score on the test pictures of a data set, by the names of its classes, and the surest mistakes."""

    dataset: str
    classes: tuple[str, ...]
    seconds: float
    mistakes: tuple[Mistake, ...] = ()

    @property
    def summary(self) -> str:
        """The accuracy with its interval, in one line; balanced over the classes where these are uneven."""
        low, high = self.interval
        counts = self.confusion.sum(axis=1)
        uneven = counts.max() > 1.5 * max(1, counts[counts > 0].min())
        balanced = f"; balanced accuracy {self.balanced_accuracy:.4f}" if uneven else ""
        return (
            f"accuracy {self.accuracy:.4f} ({int(self.confusion.trace()):,} of {self.images:,} right; "
            f"95 % interval {low:.4f} to {high:.4f}){balanced} in {duration_text(self.seconds)}"
        )

    def require(self, at_least: float) -> Self:
        """Return an evaluation of this accuracy (0 to 1) or more. Raises GateError below it."""
        if self.accuracy < at_least:
            raise GateError(f"accuracy {self.accuracy:.4f} on {self.dataset} is below --at-least {at_least}")
        return self

    def table(self) -> TextTable:
        """Return each class's recall, precision and F1, and what it is most often taken for, as texts."""
        rows = []
        figures = zip(self.class_accuracy, self.class_precision, self.class_f1, strict=True)
        for index, (name, shares) in enumerate(zip(self.classes, figures, strict=True)):
            row = self.confusion[index]
            others = [other for other in (-row).argsort(kind="stable") if other != index and row[other]]
            wrong = ", ".join(f"{self.classes[other]} ({row[other]})" for other in others[:2])
            shown = [UNKNOWN if share is None else f"{share:.3f}" for share in shares]
            rows.append((name, str(row.sum()) if row.sum() else "no pictures", *shown, wrong or "–"))
        head = ("class", "pictures", "recall", "precision", "F1", "most often taken for")
        return TextTable(head=head, rows=tuple(rows))

    def mistakes_table(self) -> TextTable:
        """Return the surest mistakes of all, surest first, as texts."""
        surest = sorted(self.mistakes, key=lambda one: -one.probability)[:_SHOWN]
        rows = tuple(
            (one.picture, self.classes[one.truth], self.classes[one.answer], f"{one.probability:.1%}")
            for one in surest
        )
        title = "surest mistakes" if rows else ""
        return TextTable(head=("picture", "is", "taken for", "sure"), rows=rows, title=title, figures=1)

    def _repr_html_(self) -> str:
        return replace(self.table(), title=f"{self.dataset}: {self.summary}").html()


def evaluate(
    engine: Engine,
    split: Split,
    *,
    batch: int = 64,
    name: Callable[[int], str] = "picture {}".format,
    on_batch: Callable[[int], None] = lambda done: None,
) -> Answered:
    """Ask an open engine about every picture of a split; `name` says how the picture at a place is called.

    Pictures are read batch by batch, and once more those that are mistaken. Raises CorruptError for answers
    that are no numbers.
    """
    inputs = inputs_of(split, engine.artifact)
    answered = answers(engine, inputs, batch=batch, on_batch=on_batch)
    classes = max(2, answered.shape[1])  # one column stands for two classes
    given = np.empty(len(split), dtype=np.int64)
    sure, true = np.empty(len(split)), np.empty(len(split))
    if not np.isfinite(answered).all():
        probabilities(engine.artifact, answered)  # which says how many are no numbers
    for start in range(0, len(split), _JUDGED_AT_ONCE):
        part = slice(start, start + _JUDGED_AT_ONCE)
        likely = probabilities(engine.artifact, answered[part])
        rows, given[part] = np.arange(len(likely)), likely.argmax(axis=1)
        sure[part], true[part] = likely[rows, given[part]], likely[rows, split.labels[part]]
    pairs = split.labels * classes + given
    score = Score(
        images=len(split),
        loss=float(-np.log(np.maximum(true, np.finfo(np.float64).tiny)).mean()),
        confusion=np.bincount(pairs, minlength=classes * classes).reshape(classes, classes),
    )
    preprocessing = preprocessing_of(engine.artifact)
    mistakes = tuple(
        Mistake(
            index=index,
            picture=name(index),
            truth=int(split.labels[index]),
            answer=int(given[index]),
            probability=float(sure[index]),
            likelihood=float(true[index]),
            pixels=fitted(split.take(slice(index, index + 1)), preprocessing)[0],
        )
        for index in _surest(split.labels, given, sure)
    )
    return Answered(score=score, mistakes=mistakes)


def _surest(labels: NDArray[np.int64], given: NDArray[np.int64], sure: NDArray[np.float64]) -> list[int]:
    """Return the places of the surest mistakes, some of each class, class by class, the surest first."""
    wrong = np.flatnonzero(given != labels)
    counts = np.bincount(labels[wrong], minlength=1)
    room = min(MISTAKES_OF_A_CLASS, max(1, _MISTAKES // max(1, int((counts > 0).sum()))))
    order = wrong[np.lexsort((-sure[wrong], labels[wrong]))]
    ends = np.cumsum(counts)
    chosen = [order[end - count : end][:room] for end, count in zip(ends, counts, strict=True)]
    return [int(place) for places in chosen for place in places]
