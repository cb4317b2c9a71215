"""How often a network is right on a test set, by whichever backend runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from toolkit.answering import answers, inputs_of, probabilities
from toolkit.backends import Engine
from toolkit.datasets import Split
from toolkit.tables import TextTable
from toolkit.training.scoring import Score


@dataclass(frozen=True, kw_only=True)
class Evaluation(Score):
    """A score on the test pictures of a data set, by the names of its classes."""

    dataset: str
    classes: tuple[str, ...]
    seconds: float

    @property
    def summary(self) -> str:
        """The accuracy with its interval, in one line."""
        low, high = self.interval
        return (
            f"accuracy {self.accuracy:.4f} ({int(self.confusion.trace()):,} of {self.images:,} right; "
            f"95 % interval {low:.4f} to {high:.4f}) in {self.seconds:.1f} s"
        )

    def table(self) -> TextTable:
        """Return each class's accuracy, and what its pictures are most often taken for, as texts."""
        rows = []
        for index, name in enumerate(self.classes):
            row, share = self.confusion[index], self.class_accuracy[index]
            others = [other for other in (-row).argsort(kind="stable") if other != index and row[other]]
            wrong = ", ".join(f"{self.classes[other]} ({row[other]})" for other in others[:2])
            shown = "no pictures" if share is None else f"{share:.3f}"
            rows.append((name, str(row.sum()), shown, wrong or "–"))
        return TextTable(head=("class", "pictures", "accuracy", "most often taken for"), rows=tuple(rows))

    def _repr_html_(self) -> str:
        return replace(self.table(), title=f"{self.dataset}: {self.summary}").html()


def evaluate(
    engine: Engine, split: Split, *, batch: int = 64, on_batch: Callable[[int], None] = lambda done: None
) -> Score:
    """Ask an open engine about every picture of a split.

    Raises CorruptError for answers that are no numbers.
    """
    inputs = inputs_of(split, engine.artifact)
    likely = probabilities(engine.artifact, answers(engine, inputs, batch=batch, on_batch=on_batch))
    classes = likely.shape[1]
    pairs = split.labels * classes + likely.argmax(axis=1)
    true = likely[np.arange(len(split)), split.labels]
    return Score(
        images=len(split),
        loss=float(-np.log(np.maximum(true, np.finfo(np.float64).tiny)).mean()),
        confusion=np.bincount(pairs, minlength=classes * classes).reshape(classes, classes),
    )


def confused(score: Score, count: int) -> list[tuple[int, int, int]]:
    """Return the most frequent mistakes as (true class, answer, how often), most frequent first."""
    wrong = score.confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    pairs = [(int(at) // len(wrong), int(at) % len(wrong)) for at in order]
    return [(true, answer, int(wrong[true, answer])) for true, answer in pairs if wrong[true, answer]]
