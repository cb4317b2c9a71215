"""Pictures dealt into folds, so that each is judged by what never saw it nor a likeness of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def deal(labels: NDArray[np.int64], families: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Return each picture's fold (N,), 0 to count − 1: classes spread evenly, families kept together."""
    random = np.random.default_rng(seed)
    fold = np.empty(len(labels), dtype=np.int64)
    _, family = np.unique(families, return_inverse=True)
    first = np.unique(family, return_index=True)[1]
    sizes = np.bincount(family)
    of_family = np.empty(len(sizes), dtype=np.int64)
    start = 0
    for label in np.unique(labels[first]):
        mine = random.permutation(np.flatnonzero(labels[first] == label))
        # the largest first, each class beginning where the last one ended
        mine = mine[np.argsort(-sizes[mine], kind="stable")]
        of_family[mine] = (start + np.arange(len(mine))) % count
        start += len(mine)
    fold[:] = of_family[family]
    return fold
