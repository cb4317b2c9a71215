"""The outputs of a network beside its scores, on a few inputs: they may be whole maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.answering import filled
from toolkit.backends import Engine
from toolkit.images import Inputs

IMAGES = 16
# of all further outputs' values together: what a proof carries of them, and what is held at once
MOST_VALUES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Further:
    """The outputs of an engine beside its scores, for the first inputs: arrays (N, ...) in their order."""

    names: tuple[str, ...]
    values: tuple[NDArray[Any], ...]


def further_of(engine: Engine, inputs: Inputs) -> Further:
    """Run an engine on the first few inputs; return all but its scores.

    Values that have no row for each input are left out, as no picture's are they.
    """
    least, most = engine.batch_sizes
    step = max(least, min(4, most or 4))
    parts: list[list[NDArray[Any]]] = []
    seen, wanted = 0, min(IMAGES, len(inputs))
    while seen < wanted:
        part = inputs[seen : min(seen + step, wanted)]
        found = [np.asarray(value) for value in engine.run(filled(part, least))][1:]
        if not found:
            return Further(names=(), values=())
        parts.append([value[: len(part)] if value.ndim else value[None] for value in found])
        seen += len(part)
        wanted = min(wanted, max(1, MOST_VALUES // max(1, sum(value[0].size for value in parts[0]))))
    values = tuple(np.concatenate(column) for column in zip(*parts, strict=True))
    names = engine.output_names[1:]
    named = names if len(names) == len(values) else tuple(f"output {n + 2}" for n in range(len(values)))
    return Further(names=tuple(named), values=values)
