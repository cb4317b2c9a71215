"""Where two networks part: the first module whose output is no longer its reference's.

Both networks run on the same pictures with every module's output kept; modules are compared in
their order of execution, so that the first one that drifts is the one to look at.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.artifacts import Artifact
from toolkit.checkpoints import load_module
from toolkit.graphs import GRAPH
from toolkit.graphs.naming import modules_of
from toolkit.graphs.reading import load_graph
from toolkit.graphs.running import values
from toolkit.images import Inputs
from toolkit.modules import ModuleRow, visit
from toolkit.passports import Precision

IMAGES = 32
# the root mean square of the difference, relative to that of the reference, which rounding explains
EXPLAINED: dict[Precision, float] = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 5e-2, "int8": 0.2}


@dataclass(frozen=True, kw_only=True)
class Drift:
    """One module's relative difference (RMS over RMS), and whether rounding alone explains it."""

    module: str
    relative: float
    explained: bool


def drifts(
    reference: dict[str, NDArray[Any]], found: dict[str, NDArray[Any]], precision: Precision
) -> list[Drift]:
    """Compare what both networks have, in the reference's order of execution, on the inputs that both saw."""
    compared = []
    for module, right in reference.items():
        have = found.get(module)
        if have is None or not (have.ndim and right.ndim):
            continue
        rows = min(len(have), len(right))  # a graph whose values are large is asked for fewer
        have, wanted = have[:rows], right[:rows]
        if have.shape != wanted.shape:
            continue
        size = float(np.sqrt(np.square(wanted.astype(np.float64)).mean())) or 1.0
        with np.errstate(over="ignore", invalid="ignore"):
            gap = float(np.sqrt(np.square(have.astype(np.float64) - wanted).mean())) / size
        explained = bool(np.isfinite(gap) and gap <= EXPLAINED[precision])
        compared.append(Drift(module=module, relative=gap, explained=explained))
    return compared


def explain(
    source: Artifact, model: Any, inputs: Inputs, precision: Precision, model_file: Path | None
) -> str:
    """Say which module of an exported graph drifts first from its source; `inputs` are the graph's."""
    few = inputs[:IMAGES]
    reference = source_outputs(source, few, model_file)
    compared = drifts(reference, graph_outputs(model, few), precision)
    if not compared:
        return "no module of the source can be told in the export, so none can be named"
    bad = next((entry for entry in compared if not entry.explained), None)
    if bad is None:
        worst = max(compared, key=lambda entry: entry.relative)
        return (
            f"no single module drifts beyond what {precision} rounding explains; "
            f"the largest is {worst.module} by {worst.relative:.2g} (relative)"
        )
    before = compared[compared.index(bad) - 1].relative if compared.index(bad) else 0.0
    return (
        f"the first module that drifts is {bad.module}: its output differs by {bad.relative:.2g} "
        f"(relative), its input's by {before:.2g}; the {compared.index(bad)} modules before it agree"
    )


def graph_outputs(model: Any, inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return each module's output in an ONNX graph: the value of the last node that belongs to it."""
    told = ((node, modules_of(node)) for node in model.graph.node)
    last = {name: node.output[0] for node, own in told for name in ([node.name] if own is None else own)}
    names = list(dict.fromkeys(last.values()))
    batch = next(iter(values(model, inputs, names)))
    # a folded module's output is that of the node it is in: the batch norm's, not the convolution's
    holders = {value: module for module, value in last.items()}
    return {module: batch[value] for value, module in holders.items()}


def source_outputs(
    source: Artifact, inputs: NDArray[Any], model_file: Path | None
) -> dict[str, NDArray[Any]]:
    """Return each module's output in the source, in its order of execution; `relu#2` is its second call."""
    if source.passport.format == GRAPH:
        return graph_outputs(load_graph(source.path), inputs)
    import torch

    found: dict[str, NDArray[Any]] = {}

    def keep(row: ModuleRow, output: torch.Tensor) -> None:
        if "/" not in row.name:  # else a functional call, which the export may have folded
            found[row.name] = output.detach().clone().numpy()

    visit(load_module(source, model_file=model_file), torch.from_numpy(np.ascontiguousarray(inputs)), keep)
    return found
