"""How often a network is right on a test set, by whichever backend runs it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from toolkit.answering import answers, inputs_of, probabilities
from toolkit.backends import Engine
from toolkit.datasets import Split
from toolkit.training.scoring import Score


def evaluate(
    engine: Engine, split: Split, *, batch: int = 64, on_batch: Callable[[int], None] = lambda done: None
) -> Score:
    """Ask an open engine about every picture of a split.

    Raises CorruptError for answers that are no numbers.
    """
    inputs = inputs_of(split.images, engine.artifact)
    answered = answers(engine, inputs, batch=batch, on_batch=on_batch)
    likely = probabilities(engine.artifact, answered)
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
