"""Check a data set before it is learnt from: one function, from its name to what was found."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolkit.artifacts import path_of
from toolkit.checking import IMBALANCED, ClassCount, FaultyPicture, Findings, GroupLeak, Suspect
from toolkit.checking.confident import Judgement, judge
from toolkit.checking.duplicates import Likenesses, families, find_alike, groups
from toolkit.checking.folds import deal
from toolkit.checking.labels import Judge, Question, judge_of
from toolkit.checking.pictures import Gallery, gallery
from toolkit.checking.sizes import odd_sizes
from toolkit.checking.survey import Survey, survey
from toolkit.errors import CnnkitError
from toolkit.listings import PLAIN, Reading
from toolkit.listings.tables import nearly_one_name
from toolkit.telling import Step, Tell, silent, unwatched


def check(
    dataset: str,
    *,
    labels: bool = True,
    model: str | None = None,
    model_file: Path | str | None = None,
    data_dir: Path | str | None = None,
    reading: Reading = PLAIN,
    seed: int = 0,
    root: Path | str | None = None,
    tell: Tell = silent,
    on_step: Step = unwatched,
) -> Findings:
    """Find what is wrong with a data set: damaged and plain files, duplicates, leaks, doubtful labels.

    `dataset` is a name or a source (`folder:PATH`). Labels are judged by a small network that is trained
    here in turn on the other pictures, or by what a trained `model` makes of them, whose code may be in a
    Python file of one's own (`model_file`); not at all without `labels`. `on_step` is told what is being
    done, and how much of how much is done. Raises CnnkitError for what is no data set, or holds no picture
    that can be read.
    """
    started = time.perf_counter()
    judging = (
        judge_of(model, model_file=path_of(model_file), root=path_of(root), tell=tell) if labels else None
    )
    pictures = gallery(dataset, path_of(data_dir), reading, on_step)
    seen = survey(pictures, on_step)
    if not len(seen.rows):
        raise CnnkitError(f"none of the {len(pictures):,} pictures of {pictures.word} can be read")
    alike = find_alike(pictures, seen, on_step)
    truth = _labels_of(pictures, seen)
    question = Question(
        pictures=pictures, seen=seen, labels=truth, folds=np.zeros_like(truth), seed=seed, on_step=on_step
    )
    judged, asked, notes = _judged(question, _together(pictures, alike), judging)
    return Findings(
        dataset=pictures.word,
        images=len(pictures),
        classes=_counts(pictures, seen),
        faulty=seen.faulty,
        plain=tuple(
            FaultyPicture(file=pictures.names[at], why="one colour only") for at in seen.rows[seen.plain]
        ),
        duplicates=groups(pictures, alike),
        leaks=_leaks(pictures),
        odd_sizes=odd_sizes(pictures, seen),
        suspects=_suspects(pictures, asked.seen, judged) if judged else (),
        notes=(*_notes(pictures, seen), *notes),
        labels_by=judging.title if judging and judged else None,
        accuracy=float((judged.likeliest == asked.labels).mean()) if judged else None,
        seconds=time.perf_counter() - started,
    )


def _labels_of(pictures: Gallery, seen: Survey) -> NDArray[np.int64]:
    return np.array(pictures.labels, dtype=np.int64)[seen.rows]


def _together(pictures: Gallery, alike: Likenesses) -> NDArray[np.int64]:
    """Return for each picture (N,) what it must not be judged beside: its likenesses and its group."""
    first: dict[str, int] = {}
    pairs = [
        (first.setdefault(group, at), at) for at, group in enumerate(pictures.groups) if group is not None
    ]
    grouped = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return families(len(pictures), np.concatenate([alike.pairs, grouped]))


def _judged(
    question: Question, together: NDArray[np.int64], judging: Judge | None
) -> tuple[Judgement | None, Question, tuple[str, ...]]:
    """Judge the labels, each by what never saw the picture, a likeness or one of its group.

    Returns the question of those that were judged, and notes, too.
    """
    if judging is None:
        return None, question, ()
    truth = question.labels
    folds = deal(truth, together[question.seen.rows], judging.folds, question.seed)
    present = np.unique(truth)
    if len(present) < 2 or any(len(np.unique(folds[truth == one])) < 2 for one in present):
        why = "labels were not judged: that takes two classes, each of two pictures that are no likenesses"
        return None, question, (why,)
    found = judging.likelihoods(replace(question, folds=folds))
    known = np.asarray(np.isfinite(found.probabilities).all(axis=1), dtype=np.bool_)
    asked = replace(question, seen=question.seen.of(known), labels=truth[known], folds=folds[known])
    notes = tuple(
        f"{len(found.refused):,} of {len(truth):,} labels were not judged, as the network does not take the "
        f"picture; the first: {why}"
        for why in list(found.refused.values())[:1]
    )
    if not known.any():
        return None, asked, notes
    judged = judge(found.probabilities[known], asked.labels)
    if judged.guesses(asked.labels):
        why = (
            f"labels were not judged: {judging.title} tells these classes apart no better than guessing; "
            "`--model NAME` judges by a network of your own"
        )
        return None, asked, (why, *notes)
    return judged, asked, notes


def _suspects(pictures: Gallery, seen: Survey, judged: Judgement) -> tuple[Suspect, ...]:
    doubted = np.flatnonzero(judged.doubted & ~seen.plain)
    order = doubted[np.argsort(judged.score[doubted], kind="stable")]
    return tuple(
        Suspect(
            file=pictures.names[seen.rows[at]],
            label=pictures.classes[pictures.labels[seen.rows[at]]],
            suggested=pictures.classes[judged.suggested[at]],
            score=float(judged.score[at]),
        )
        for at in order
    )


def _counts(pictures: Gallery, seen: Survey) -> tuple[ClassCount, ...]:
    truth = _labels_of(pictures, seen)
    parts = np.array(pictures.parts)[seen.rows]
    counts = {
        part: np.bincount(truth[parts == part], minlength=len(pictures.classes))
        for part in ("train", "validation", "test")
    }
    return tuple(
        ClassCount(name=name, **{part: int(count[at]) for part, count in counts.items()})
        for at, name in enumerate(pictures.classes)
    )


def _leaks(pictures: Gallery) -> tuple[GroupLeak, ...]:
    held: dict[str, list[int]] = {}
    for at, group in enumerate(pictures.groups):
        if group is not None:
            held.setdefault(group, []).append(at)
    return tuple(
        GroupLeak(group=group, parts=parts, images=len(mine))
        for group, mine in sorted(held.items())
        if len(parts := tuple(sorted({pictures.parts[at] for at in mine}))) > 1
    )


def _notes(pictures: Gallery, seen: Survey) -> tuple[str, ...]:
    counts = [(one.images, one.name) for one in _counts(pictures, seen)]
    (least, rare), (most, common) = min(counts), max(counts)
    notes = []
    if most > IMBALANCED * least:
        notes.append(
            f"imbalanced: {common} has {most:,} pictures and {rare} {least:,}; balanced accuracy and each "
            "class's recall tell more than accuracy"
        )
    notes += [
        f"{' and '.join(map(repr, names))} are classes of their own, and their names nearly one"
        for names in nearly_one_name(pictures.classes)
    ]
    if pictures.left_out:
        notes.append(f"{len(pictures.left_out):,} files are left out, the first is {pictures.left_out[0]}")
    return tuple(notes)
