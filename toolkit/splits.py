"""Which training pictures are learned from, and which choose the epoch: a fold, a named part, or a share."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from toolkit.datasets import Dataset, Split, split_off
from toolkit.errors import CnnkitError

MOST_FOLDS = 100
# fewer groups, or pictures, a fold than this are dealt out: by their hashes alone some folds would be empty
_FEW = 10
_WHOLE = 1 << 20
_WORDS = re.compile(r"(\d+)/(\d+)")


@dataclass(frozen=True, kw_only=True)
class Fold:
    """The `number`-th of `count` folds, from 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Fold:
        """Read `2/5`. Raises CnnkitError in words."""
        found = _WORDS.fullmatch(text.strip())
        number, count = (int(part) for part in found.groups()) if found else (0, 0)
        if not 1 <= number <= count or not 2 <= count <= MOST_FOLDS:
            raise CnnkitError(
                f"--fold {text!r} names no fold; it takes one of 2 to {MOST_FOLDS}, 1/5 being the first"
            )
        return cls(number=number, count=count)

    def split(self, data: Split, *, carries: bool = True) -> tuple[Split, Split]:
        """Return what is learned from, and the fold, which chooses the epoch.

        Each picture is in one fold of a count, but for what leaves nothing of a class to learn from: it is in
        none. Those of a listed source go by their content, or by their group, so that none is torn apart;
        others by their place in their class, so that classes are even. Folds of releases in which each class
        began at the first fold are those where nothing `carries`. Raises CnnkitError for an empty fold.
        """
        if data.members is not None:
            shares = np.array([member.validation_share for member in data.members])
            _, unit = np.unique(shares, return_inverse=True)
        else:
            shares, unit = None, np.arange(len(data))
        if shares is None:
            where = _dealt_by_class(data.labels, self.count, carries=carries)
        elif unit.max(initial=-1) + 1 < _FEW * self.count:
            where = _dealt(data.labels, unit, self.count)[unit]
        else:  # by the hash alone, so that what is added moves no other
            where = np.minimum((shares * self.count).astype(np.int64), self.count - 1)
        held = where == self.number - 1
        for label in np.unique(data.labels) if carries else ():
            mine = data.labels == label
            if held[mine].all():
                held &= ~np.isin(unit, unit[mine])
        if not held.any() or held.all():
            raise self._none_held(len(data), len(np.unique(unit[where >= 0])))
        return data.take(np.flatnonzero(~held)), data.take(np.flatnonzero(held))

    def _none_held(self, pictures: int, units: int) -> CnnkitError:
        most = f"take {units} folds at the most" if units > 1 else "take no folds"
        return CnnkitError(
            f"fold {self.number} of {self.count} would be empty: of {pictures:,} training pictures "
            f"{units or 'none'} can be held out, each group and each picture with its copies as one, and "
            f"none that is all of its class: {most}, or add pictures"
        )


def _dealt_by_class(labels: NDArray[np.int64], count: int, *, carries: bool) -> NDArray[np.int64]:
    """Return each picture's fold, from 0; -1 for a class of one picture. Each begins where one ended."""
    where = np.full(len(labels), -1, dtype=np.int64)
    random = np.random.default_rng(0)
    start = 0
    for label in np.unique(labels):
        own = random.permutation(np.flatnonzero(labels == label))
        if len(own) == 1 and carries:
            continue
        where[own] = (start + np.arange(len(own))) % count
        start += len(own) if carries else 0
    return where


def _dealt(labels: NDArray[np.int64], unit: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return the fold of each unit, from 0; -1 for one that is all of a class. Units are numbered by hash.

    The largest come first, each to the fold that holds least of its classes, then least of all.
    """
    _, own = np.unique(labels, return_inverse=True)
    counts = np.zeros((unit.max() + 1, own.max() + 1), dtype=np.int64)
    np.add.at(counts, (unit, own), 1)
    totals, sizes = counts.sum(axis=0), counts.sum(axis=1)
    free = ~((counts == totals) & (counts > 0)).any(axis=1)
    where = np.full(len(counts), -1, dtype=np.int64)
    held = np.zeros((count, counts.shape[1]), dtype=np.int64)
    for at in np.argsort(-sizes, kind="stable"):
        if free[at]:
            # whole numbers, as sums of fractions may differ by processor
            likeness = (held * _WHOLE // totals) @ counts[at]
            where[at] = np.lexsort((held.sum(axis=1), likeness))[0]
            held[where[at]] += counts[at]
    return where


def folded_together(data: Dataset) -> Dataset:
    """Return a data set whose named validation part is in what is folded, as its training part is."""
    if data.validation is None:
        return data
    parts = (data.train, data.validation)
    joined = replace(
        data.train,
        images=np.concatenate([np.asarray(one.images) for one in parts]),
        labels=np.concatenate([one.labels for one in parts]),
        members=tuple(member for one in parts for member in one.members or ()) or None,
    )
    return replace(data, train=joined, validation=None)


def held_out(
    pool: Split, named: Split | None, *, fold: str | None, fraction: float, carries: bool = True
) -> tuple[Split, Split | None]:
    """Return what is learned from and what chooses the epoch: a fold, the part named so, or a share.

    `carries` is that of Fold.split.
    """
    if fold is not None:
        return Fold.parse(fold).split(pool, carries=carries)
    if named is not None:
        return pool, named
    return split_off(pool, fraction)


def evenly(data: Split, count: int) -> Split:
    """Return `count` pictures, as evenly over the classes as they last, in their own order."""
    rank = np.empty(len(data), dtype=np.int64)
    for label in np.unique(data.labels):
        where = np.flatnonzero(data.labels == label)
        rank[where] = np.arange(len(where))
    return data.take(np.sort(np.argsort(rank, kind="stable")[:count]))
