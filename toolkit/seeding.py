"""Seeded weights (`--untrained`) are of networks that are named: a file has weights of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from toolkit.artifacts import read_passport, sidecar
from toolkit.errors import CnnkitError
from toolkit.opening import is_path
from toolkit.presence import is_there


def refuse_seeding(models: Sequence[str | Path], seed: int | None) -> None:
    """Raise CnnkitError for files where seeded weights are asked for and no network is named beside them.

    A file that holds untrained weights of that seed passes; `seed` None is any.
    """
    if not all(is_path(str(model)) for model in models):
        return  # the weights are those of the names
    for path in filter(is_there, map(Path, models)):
        known = read_passport(path) if is_there(sidecar(path)) else None
        untrained = known is not None and known.trained is False
        if known is not None and untrained and seed in (None, known.seed):
            continue
        holds = f"weights of seed {known.seed}, not {seed}" if known and untrained else "weights of its own"
        raise CnnkitError(
            f"{path.name} holds {holds}: leave --untrained away, or name a network in its place"
        )
