"""Outputs beside the scores, compared with the source's: all are what a file is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.proving.parity import FLOORS, MARGIN, SHARE
from toolkit.artifacts import Artifact
from toolkit.backends import Engine, EngineOptions, opener
from toolkit.errors import GateError
from toolkit.exporting.further import Further, further_of
from toolkit.exporting.tolerances import rms_ratio
from toolkit.graphs import GRAPH
from toolkit.images import Inputs
from toolkit.passports import FurtherParity, Precision

# how a proof names the outputs beside the scores, by their number
FURTHER = "further."


def compare_further(reference: Further, found: Further) -> tuple[FurtherParity, ...]:
    """Compare outputs in their order. Raises GateError where they are not as many, or of other shapes.

    Of whole numbers, as labels are, what is compared is whether they differ.
    """
    if len(reference.values) != len(found.values):
        raise GateError(
            f"the export has {len(found.values)} outputs beside its scores, and its source "
            f"{len(reference.values)}"
        )
    return tuple(map(_compared, found.names, reference.values, found.values))


def _compared(name: str, wanted: NDArray[Any], have: NDArray[Any]) -> FurtherParity:
    count = min(len(wanted), len(have))
    wanted, have = wanted[:count], have[:count]
    if wanted.size != have.size:
        raise GateError(f"the output {name!r} is {have.shape} where its source's is {wanted.shape}")
    first, second = (value.astype(np.float64).ravel() for value in (wanted, have))
    whole = not np.issubdtype(wanted.dtype, np.floating)
    gap = (first != second).astype(np.float64) if whole else np.abs(second - first)
    ratio = float(gap.mean()) if whole else rms_ratio(wanted, have)
    return FurtherParity(
        name=name,
        images=count,
        max_abs_diff=_finite(float(gap.max(initial=0.0)), name),
        largest=_finite(float(np.abs(first).max(initial=0.0)), name),
        rms_ratio=_finite(ratio, name),
    )


def _finite(value: float, name: str) -> float:
    if not np.isfinite(value):
        raise GateError(f"the output {name!r} holds NaN or infinity")
    return value


def further_in(model: Any, source: Artifact, inputs: Inputs) -> Further:
    """Return the outputs beside its scores of an onnx.ModelProto that was made in memory of a source."""
    if len(model.graph.output) < 2:
        return Further(names=(), values=())
    with opener(GRAPH).open(source, EngineOptions(graph=model.SerializeToString())) as engine:
        return further_of(engine, inputs)


def carried(beside: tuple[Further, ...], precision: Precision, what: str) -> dict[str, NDArray[Any]]:
    """Return what a proof carries of the outputs beside the scores: values, and how far each may be off.

    `beside` are the reference's, then those of the file and of emulations of it. How far is the size of the
    difference relative to the output's own, of each picture. Raises GateError where that is so large that a
    proof which allows for it could not fail.
    """
    if not beside or not beside[0].values:
        return {}
    wanted, *found = beside
    arrays: dict[str, NDArray[Any]] = {}
    allowed = []
    for index, (name, right) in enumerate(zip(found[0].names, wanted.values, strict=True)):
        count = min(len(right), *(len(one.values[index]) for one in found))
        apart = max(
            (rms_ratio(right[i], one.values[index][i]) for one in found for i in range(count)), default=0.0
        )
        if apart > SHARE:
            raise GateError(
                f"the output {name!r} of {what} differs by {apart:.2g} of its size on a picture of its "
                f"proof: one that allows for more than {SHARE:g} could not fail; use --precision fp16"
            )
        allowed.append(min(max(FLOORS[precision], MARGIN * apart), SHARE))
        arrays[f"{FURTHER}{index}"] = np.ascontiguousarray(right[:count])
    return {**arrays, f"{FURTHER}allowed": np.array(allowed, np.float64)}


def agreeing(
    engine: Engine,
    inputs: Inputs,
    further: tuple[NDArray[Any], ...],
    allowed: tuple[float, ...],
) -> NDArray[np.bool_]:
    """Tell for each picture whether the outputs beside its scores are those of the proof, if it has them."""
    agree = np.ones(len(inputs), bool)
    if not further:
        return agree
    found = further_of(engine, inputs).values
    if len(found) != len(further):
        return ~agree
    for right, have, most in zip(further, found, allowed, strict=True):
        for index in range(min(len(right), len(have))):
            off = rms_ratio(right[index], have[index]) if right[index].size == have[index].size else np.inf
            agree[index] &= off <= most
    return agree
