"""Which training pictures are learned from, and which choose the epoch: a fold, a named part, or a share."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np

from toolkit.datasets import Dataset, Split, split_off
from toolkit.errors import CnnkitError

MOST_FOLDS = 100
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

    def split(self, data: Split) -> tuple[Split, Split]:
        """Return what is learned from, and the fold, which chooses the epoch.

        Each picture is in one fold of a count. Those of a listed source go by their content, or by their
        group, so that none is torn apart; others by their place in their class, so that classes are even.
        """
        if data.members is not None:
            shares = np.array([member.validation_share for member in data.members])
            where = np.minimum((shares * self.count).astype(np.int64), self.count - 1)
        else:
            where = np.empty(len(data), dtype=np.int64)
            random = np.random.default_rng(0)
            for label in np.unique(data.labels):
                own = random.permutation(np.flatnonzero(data.labels == label))
                where[own] = np.arange(len(own)) % self.count
        held = where == self.number - 1
        if not held.any() or held.all():
            raise CnnkitError(
                f"fold {self.number} of {self.count} holds {held.sum()} of {len(data)} training pictures: "
                "take fewer folds"
            )
        return data.take(np.flatnonzero(~held)), data.take(np.flatnonzero(held))


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
    pool: Split, named: Split | None, *, fold: str | None, fraction: float
) -> tuple[Split, Split | None]:
    """Return what is learned from and what chooses the epoch: a fold, the part named so, or a share."""
    if fold is not None:
        return Fold.parse(fold).split(pool)
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
