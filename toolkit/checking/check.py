"""Check a data set before it is learnt from: one function, from its name to what was found."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolkit.artifacts import path_of
from toolkit.checking import IMBALANCED, ClassCount, FaultyPicture, Findings, GroupLeak
from toolkit.checking.duplicates import find_alike, groups
from toolkit.checking.pictures import Gallery, Step, gallery, unwatched
from toolkit.checking.sizes import odd_sizes
from toolkit.checking.survey import Survey, survey
from toolkit.errors import CnnkitError
from toolkit.listings import PLAIN, Reading


def check(
    dataset: str,
    *,
    data_dir: Path | str | None = None,
    reading: Reading = PLAIN,
    root: Path | str | None = None,
    on_step: Step = unwatched,
) -> Findings:
    """Find what is wrong with a data set: damaged and plain files, duplicates, leaks.

    `dataset` is a name or a source (`folder:PATH`). `on_step` is told what is being done, and how much of how
    much is done. Nothing is read from or written to `root`. Raises CnnkitError for
    what is no data set, or holds no picture that can be read.
    """
    started = time.perf_counter()
    pictures = gallery(dataset, path_of(data_dir), reading, on_step)
    seen = survey(pictures, on_step)
    if not len(seen.rows):
        raise CnnkitError(f"none of the {len(pictures):,} pictures of {pictures.word} can be read")
    alike = find_alike(pictures, seen, on_step)
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
        notes=_notes(pictures, seen),
        seconds=time.perf_counter() - started,
    )


def _labels_of(pictures: Gallery, seen: Survey) -> NDArray[np.int64]:
    return np.array(pictures.labels, dtype=np.int64)[seen.rows]


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
    if pictures.left_out:
        notes.append(f"{len(pictures.left_out):,} files are left out, the first is {pictures.left_out[0]}")
    return tuple(notes)
