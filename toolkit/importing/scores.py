"""The class scores among an imported graph's outputs: found by running it, and made its first, (N, K)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from toolkit.errors import CnnkitError, unknown_name
from toolkit.graphs.asking import Nature, ask
from toolkit.graphs.completing import complete
from toolkit.graphs.recognising import form_of
from toolkit.graphs.shaping import shape_ends, squeeze_scores
from toolkit.passports import TensorSpec
from toolkit.telling import Tell


@dataclass(frozen=True, kw_only=True)
class ScoreOutput:
    """The output of class scores: `columns` of them a picture, their type, whether they are probabilities."""

    name: str
    columns: int
    dtype: str
    probabilities: bool


def place_scores(
    model: Any, takes: TensorSpec, wanted: str | None, classes: int | None, tell: Tell
) -> tuple[ScoreOutput, TensorSpec]:
    """Make the class scores, (N, K), the graph's first output, in place; return it and the input's spec.

    `wanted` names it; None is the one that can be it, with `classes` columns where that is known. A batch
    that the graph bakes in, or mixes, becomes the input's, and that is told. Raises NotFoundError, or
    CnnkitError in words.
    """
    outputs = [value.name for value in model.graph.output]
    if wanted is not None and wanted not in outputs:
        raise unknown_name("output", wanted, outputs)
    nature = ask(model, output=wanted, classes=classes)
    if nature.rivals:
        told = ", ".join(map(repr, (nature.outputs[0], *nature.rivals)))
        raise CnnkitError(
            f"{1 + len(nature.rivals)} outputs could be the class scores: {told}; --logits NAME says which"
        )
    batch = takes.shape[0] or nature.batch or (1 if nature.mixes else None)
    if nature.mixes and batch != 1 and form_of(model) != "dynamic":
        raise CnnkitError(
            f"what else is in a batch changes the network's answers, by its node {nature.mixes!r}, and it "
            f"takes batches of {batch} only: export it in inference mode (`model.eval()`), or for one input"
        )
    for line in _said(nature, takes.shape[0], batch):
        tell(line)
    shape_ends(model, outputs=nature.outputs, batch=batch)
    squeeze_scores(complete(model))
    _declare(model, nature.columns)
    name = nature.outputs[0]
    scores = ScoreOutput(
        name=name, columns=nature.columns, dtype=nature.dtype, probabilities=nature.probabilities
    )
    return scores, replace(takes, shape=(batch, *takes.shape[1:]))


def _said(nature: Nature, declared: int | None, batch: int | None) -> list[str]:
    """Return what people are told of the batches that a network takes, and of answers that change."""
    said = []
    if batch == 1 and declared is None:
        mixed = f"what else is in a batch changes its answers, by its node {nature.mixes!r}"
        why = mixed if nature.mixes else "its file has it so"
        said.append(f"the network is given one picture at a time: {why}")
    elif batch is not None and declared is None:
        said.append(f"the network is given {batch} pictures at a time: its file has it so")
    if nature.alike:
        said.append("the network answers everything alike that it was tried on: its weights may be empty")
    if nature.changes:
        said.append(
            "the network answers the same picture differently each time, by its node "
            f"{nature.changes!r}: it draws random numbers"
        )
    return said


def _declare(model: Any, columns: int) -> None:
    """Write the first output's shape as it is measured: files may say another, or none."""
    dims = model.graph.output[0].type.tensor_type.shape
    del dims.dim[:]
    dims.dim.add().CopyFrom(model.graph.input[0].type.tensor_type.shape.dim[0])
    dims.dim.add().dim_value = columns
