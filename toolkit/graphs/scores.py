"""Which output of a graph holds the scores, and what they are: read off its values."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import CnnkitError, NotFoundError
from toolkit.graphs.ordering import reads_of

# scores of any size · each row sums to 1 · each lies in 0 to 1 · logarithms of the second
Kind = Literal["logits", "probabilities", "shares", "log-probabilities"]

# those that are probabilities as they are, of which no softmax is taken
PROBABLE: frozenset[Kind] = frozenset({"probabilities", "shares"})
SUMS_TO_ONE = 5e-3
# operators that hand on the values that they are given
PASSED_ON = frozenset(
    {"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast", "Transpose"}
    | {"QuantizeLinear", "DequantizeLinear"}
)
# operators that find the best of several
BEST_OF = frozenset(
    {"ReduceMax", "ReduceMin", "Max", "Min", "Gather", "GatherElements", "GatherND", "ArgMax", "ArgMin"}
)
# operators whose values have no upper bound
UNBOUNDED = frozenset(
    {"Gemm", "MatMul", "Conv", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"}
    | {"BatchNormalization", "GlobalAveragePool", "AveragePool", "ReduceMean", "Relu", "LeakyRelu", "Add"}
)
# operators whose values lie between 0 and 1, each of its own
SQUASHING = frozenset({"Sigmoid", "HardSigmoid"})


def choose_scores(
    model: Any, answered: dict[str, NDArray[Any]], rows: int, output: str | None, classes: int | None = None
) -> tuple[str, ...]:
    """Return the output that holds one row of scores an input, then others that could be it.

    `output` is its name, `classes` how many scores there are, where that is known. Raises NotFoundError,
    CnnkitError.
    """
    if output is not None and output not in answered:
        raise NotFoundError(f"the graph has no output {output!r}; it has: {', '.join(answered)}")
    makers = {name: node for node in model.graph.node for name in node.output}
    names = [output] if output is not None else list(answered)
    widths = {name: width for name in names if (width := columns_of(answered[name], rows))}
    fit = [name for name in widths if output is not None or not _is_best_of(makers, name, widths[name])]
    # a single number an input is its score only where nothing else is
    fit = [name for name in fit if answered[name].ndim > 1] or fit
    if not fit:
        told = "; ".join(_described(name, answered[name], rows, makers.get(name)) for name in names)
        what = "no output holds" if output is None else f"the output {output!r} does not hold"
        raise CnnkitError(
            f"{what} one row of scores an input, (N, K): {told}; cnnkit takes classifiers: export the "
            "network before its last step, where the scores are"
            f"{' or name another output' if output is not None else ''}"
        )
    fit = [name for name in fit if widths[name] == classes] or fit
    above = {name: ancestors(model, name) for name in fit}
    # features that other scores are computed from are no scores themselves
    last = [
        name
        for name in fit
        if not any(name in above[o] and answered[o].size != answered[name].size for o in fit if o != name)
    ]
    return tuple(last or fit)


def columns_of(value: NDArray[Any], rows: int) -> int | None:
    """Return how many scores an input has; None for what is no row of them.

    A row is (N, K), or squeezes to it, as (N, K, 1, 1) and (N, 1, K) do; a number an input, (N,), is one
    score; K alone is a row where the batch is one.
    """
    if not np.issubdtype(value.dtype, np.floating) or not value.size:
        return None
    if value.ndim == 1:
        return 1 if len(value) == rows else len(value) if rows == 1 else None
    extents = [extent for extent in value.shape[1:] if extent != 1]
    if value.ndim == 0 or len(value) != rows or len(extents) > 1:
        return None
    return int(extents[0]) if extents else 1


def _is_best_of(makers: dict[str, Any], name: str, columns: int) -> bool:
    """Tell whether an output is the best of each input's scores rather than all of them."""
    node = makers.get(name)
    while node is not None and node.op_type in PASSED_ON and node.input:
        node = makers.get(node.input[0])
    return node is not None and (node.op_type == "TopK" or (columns == 1 and node.op_type in BEST_OF))


def _described(name: str, value: NDArray[Any], rows: int, maker: Any) -> str:
    batch = "N" if len(value.shape) and len(value) == rows else None
    shape = (
        "×".join(map(str, (batch or value.shape[0], *value.shape[1:]))) if value.ndim else "a single number"
    )
    why = f", made by {maker.op_type}" if maker is not None and maker.op_type in ("TopK", "ArgMax") else ""
    alone = f" for {rows} inputs" if batch is None and rows > 1 else ""
    return f"{name!r} is {shape} of {value.dtype}{alone}{why}"


def ancestors(model: Any, name: str) -> set[str]:
    """Return every value that a value is computed from, be it read by a node or by a body inside one."""
    makers = {made: node for node in model.graph.node for made in node.output}
    found: set[str] = set()
    waiting = [name]
    while waiting:
        node = makers.get(waiting.pop())
        new = set() if node is None else reads_of(node) - found
        found.update(new)
        waiting.extend(new)
    return found


def maker_of(model: Any, name: str) -> str | None:
    """Return the operator that computes a value which others only hand on; None for none."""
    makers = {made: node for node in model.graph.node for made in node.output}
    node = makers.get(name)
    while node is not None and node.op_type in PASSED_ON and node.input:
        node = makers.get(node.input[0])
    return None if node is None else str(node.op_type)


def kind_of(rows: NDArray[Any], *, maker: str | None = None) -> Kind:
    """Tell from (N, K) answers to inputs of several scales what they are.

    Values between 0 and 1 are shares only where their `maker`, an operator, may keep them there: sums of
    products never do, and values that are all alike might lie there by chance unless a sigmoid made them.
    """
    told = rows[np.isfinite(rows).all(axis=1)].astype(np.float64)
    within = bool(told.size) and bool((told >= 0).all() and (told <= 1 + 1e-6).all())
    kept = maker in SQUASHING or (maker not in UNBOUNDED and within and float(np.ptp(told)) > 0)
    if rows.shape[1] == 1:
        return "shares" if kept and within else "logits"
    if within and bool((np.abs(told.sum(axis=1) - 1) < SUMS_TO_ONE).all()):
        return "probabilities"
    if kept and within:
        return "shares"
    below = bool(told.size) and bool((told <= 0).all())
    if below and bool((np.abs(np.exp(told).sum(axis=1) - 1) < SUMS_TO_ONE).all()):
        return "log-probabilities"
    return "logits"
