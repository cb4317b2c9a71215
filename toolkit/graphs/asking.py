"""What a graph does when it is run: asked of the graph itself, before anything is proven of it.

The same inputs go in alone, together and twice: answers that depend on the rest of a batch, or that change
from call to call, can be proven of no file. Which output holds the scores, and whether they are probabilities
already, is read off the values.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import CnnkitError, CorruptError
from toolkit.graphs.ends import holds_numbers
from toolkit.graphs.facts import DTYPES, OPEN_EXTENTS, element_kind, opset_of
from toolkit.graphs.reasons import reason_of
from toolkit.graphs.running import (
    LIVE_BYTES,
    LIVE_VALUES,
    Opened,
    inner_session,
    inner_values,
    session,
    widest_bytes,
)
from toolkit.graphs.scores import PROBABLE, Kind, ancestors, choose_scores, kind_of, maker_of

ROWS = 4
# the largest batch that is looked for in a graph that takes neither any nor one
MOST_ROWS = 256
# relative to the largest of a row's values: what another order of summation explains
EXPLAINED = 1e-3
# rows are drawn at these scales in turn: what is bounded at the last is bounded by its last operator
SCALES = ("normal", "huge", "unit", "pixels")


@dataclass(frozen=True, kw_only=True)
class Nature:
    """What a graph turned out to do.

    `outputs` are their names, that of the scores first; `columns` how many scores an input gets and `dtype`
    their type, by numpy's name. `batch` is the only batch that it takes, None where any. `mixes` is the node
    by which an answer depends on the other inputs of its batch, `changes` the one by which it differs from
    call to call; None where it does not. `rivals` are outputs that could be the scores, too. `alike` tells
    that every input got one answer.
    """

    outputs: tuple[str, ...]
    columns: int
    kind: Kind
    dtype: str = "float32"
    batch: int | None = None
    mixes: str | None = None
    changes: str | None = None
    rivals: tuple[str, ...] = ()
    alike: bool = False

    @property
    def probabilities(self) -> bool:
        """Whether its scores are probabilities as they are."""
        return self.kind in PROBABLE


def ask(model: Any, *, output: str | None = None, classes: int | None = None, seed: int = 0) -> Nature:
    """Run a normalised graph on a few inputs. `output` names the one that holds the scores.

    `classes` is how many there are, where that is known.

    Raises CorruptError where it cannot run at all, NotFoundError for an output that is not there, CnnkitError
    where no output has one row of scores an input, or where its answers are no numbers.
    """
    if not any(map(holds_numbers, model.graph.output)):
        kinds = ", ".join(f"{value.name!r} is {element_kind(value)}" for value in model.graph.output)
        raise CnnkitError(f"no output holds numbers: {kinds}; export the network before that step")
    opened = _opened(model)
    given = opened.session.get_inputs()[0]
    count = max(2, min(ROWS, LIVE_BYTES // max(1, LIVE_VALUES * widest_bytes(model))))
    drawn = probes([*given.shape], given.type, seed, count)
    batch, drawn, found = _taken(model, opened, drawn)
    inputs = drawn[: len(drawn) if batch is None else batch]
    again = _run(opened, inputs)
    names = [value.name for value in opened.session.get_outputs()]
    told = dict(zip(names, found, strict=True))
    scores, *rivals = choose_scores(model, told, len(inputs), output, classes)
    place = names.index(scores)
    rows, repeated = (one[place].reshape(len(inputs), -1) for one in (found, again))
    parts = range(len(inputs), len(drawn) - len(inputs) + 1, len(inputs))
    others = [_run(opened, drawn[at : at + len(inputs)])[place] for at in parts]
    whole = np.concatenate([rows, *(other.reshape(len(inputs), -1) for other in others)])
    _refuse_no_numbers(model, whole)
    _refuse_idle_input(model, scores)
    changes = None if _near(rows, repeated) else _first_change(model, inputs)
    mixes = None
    if changes is None and batch != 1:
        row = _mixed_row(opened, inputs, rows, place, batch)
        mixes = None if row is None else _first_mix(model, inputs, row, batch)
    return Nature(
        outputs=(scores, *(name for name in names if name != scores)),
        columns=rows.shape[1],
        kind=kind_of(whole, maker=maker_of(model, scores)),
        dtype=rows.dtype.name,
        batch=batch,
        mixes=mixes,
        changes=changes,
        rivals=tuple(rivals),
        alike=len(whole) > 1 and bool((whole == whole[0]).all()),
    )


def _refuse_idle_input(model: Any, scores: str) -> None:
    given = model.graph.input[0].name
    if given not in ancestors(model, scores):
        raise CnnkitError(
            f"its output {scores!r} does not depend on its input {given!r}: it answers every picture alike; "
            "export the network again, from its input on"
        )


def probes(shape: Sequence[Any], kind: str, seed: int, rows: int = ROWS) -> NDArray[Any]:
    """Return at least `rows` seeded inputs (n, …), each at its own scale; n fills whole fixed batches."""
    fixed = shape[0] if isinstance(shape[0], int) and shape[0] > 0 else 1
    count = -(-rows // fixed) * fixed
    extents = [extent if isinstance(extent, int) and extent > 0 else 1 for extent in shape[1:]]
    draw = np.random.default_rng(seed)
    drawn = [scaled(draw, extents, SCALES[index % len(SCALES)]) for index in range(count)]
    if "int" in kind:  # of pixels, as what else is whole is not known
        drawn = [draw.integers(0, 256, extents) for _ in range(count)]
    dtype = {"tensor(float)": "float32", "tensor(double)": "float64"}.get(kind, kind[7:-1])
    stacked = np.stack(drawn)
    return np.clip(stacked, -6e4, 6e4).astype(dtype) if dtype == "float16" else stacked.astype(dtype)


def scaled(draw: np.random.Generator, extents: Sequence[int], scale: str) -> NDArray[Any]:
    """Return values of one scale: normal, 0 to 1, 0 to 255, or a thousand times normal."""
    if scale == "unit":
        return draw.random(extents, np.float32)
    if scale == "pixels":
        return draw.random(extents, np.float32) * np.float32(255)
    values = draw.standard_normal(extents, np.float32)
    return values * np.float32(1000) if scale == "huge" else values


def _run(opened: Opened, inputs: NDArray[Any]) -> list[NDArray[Any]]:
    name = opened.session.get_inputs()[0].name
    try:
        return [np.asarray(value) for value in opened.session.run(None, {name: inputs})]
    except Exception as error:  # the runtime's own errors share no base class
        raise CorruptError(f"ONNX Runtime cannot run the graph: {reason_of(error)}") from None


def _opened(model: Any) -> Opened:
    try:
        return session(model, lean=True)
    except CorruptError as error:
        doubles = any(DTYPES.get(tensor.data_type) == "float64" for tensor in model.graph.initializer)
        hint = "; it computes in float64: export the network in float32" if doubles else ""
        if opset_of(model) < OPEN_EXTENTS:
            hint = f"; it is of opset {opset_of(model)}: export it again, with opset 13 or newer"
        raise CorruptError(f"{error}{hint}") from None


def _taken(
    model: Any, opened: Opened, inputs: NDArray[Any]
) -> tuple[int | None, NDArray[Any], list[NDArray[Any]]]:
    """Return the only batch that a graph takes (None: any), whole batches of inputs, and what it answers."""
    declared = opened.session.get_inputs()[0].shape[0]
    if isinstance(declared, int):
        return declared, inputs, _run(opened, inputs[:declared])
    try:
        found = _run(opened, inputs)
    except CorruptError as error:
        return _baked(model, opened, inputs, error)
    if not any(value.ndim and len(value) == len(inputs) for value in found):
        return 1, inputs, _run(opened, inputs[:1])
    return (None if _takes_one(opened, inputs, found) else len(inputs)), inputs, found


def _takes_one(opened: Opened, inputs: NDArray[Any], found: list[NDArray[Any]]) -> bool:
    """Tell whether a graph answers one input alone, too, and not just as many as were tried."""
    try:
        alone = _run(opened, inputs[:1])
    except CorruptError:
        return False
    rows = len(inputs)
    shared = [(one, all_) for one, all_ in zip(alone, found, strict=True) if all_.ndim and len(all_) == rows]
    return all(one.size * rows == all_.size for one, all_ in shared)


def _baked(
    model: Any, opened: Opened, inputs: NDArray[Any], error: CorruptError
) -> tuple[int, NDArray[Any], list[NDArray[Any]]]:
    """Find the batch that a graph was written with, which is nearly always 1, among what it reshapes to."""
    for batch in (1, *_reshaped_to(model)):
        given = np.resize(inputs, (max(batch, len(inputs) // batch * batch), *inputs.shape[1:]))
        with contextlib.suppress(CorruptError):
            return batch, given, _run(opened, given[:batch])
    raise error


def _reshaped_to(model: Any) -> list[int]:
    """Return the first extents that a graph brings values to, for good."""
    import onnx

    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    shapes = [
        n.input[1] for n in model.graph.node if n.op_type in ("Reshape", "Expand") and n.input[1] in stored
    ]
    firsts = [onnx.numpy_helper.to_array(stored[name]).reshape(-1)[:1].tolist() for name in shapes]
    return sorted({first[0] for first in firsts if first and 1 < first[0] <= MOST_ROWS})


def scale_of(model: Any) -> Literal["normal", "pixels"]:
    """Tell whether a graph brings pixels of 0 to 255 to its own scale itself; most take prepared values."""
    import onnx

    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    name = model.graph.input[0].name
    for node in model.graph.node:
        if name not in node.input:
            continue
        given = [stored[other] for other in node.input if other in stored]
        size = float(np.abs(onnx.numpy_helper.to_array(given[0])).max(initial=0)) if given else 0.0
        if node.op_type == "Div" or (node.op_type in ("Sub", "Add") and size):
            return "pixels" if size > 20 else "normal"
        if node.op_type == "Mul":
            return "pixels" if 0 < size < 0.03 else "normal"
        if node.op_type not in ("Cast", "Transpose", "Identity", "Reshape", "Unsqueeze", "Gather"):
            return "normal"
        name = node.output[0]
    return "normal"


def _refuse_no_numbers(model: Any, rows: NDArray[Any]) -> None:
    if np.isfinite(rows).all(axis=1).any():
        return
    import onnx

    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    for tensor in [tensor for tensor in model.graph.initializer if tensor.data_type in floats]:
        if not np.isfinite(onnx.numpy_helper.to_array(tensor)).all():
            raise CnnkitError(
                f"the network answers NaN or infinity to every input: its weight {tensor.name!r} holds "
                "values that are no numbers; train or export it again"
            )
    raise CnnkitError(
        "the network answers NaN or infinity to every input, whatever its scale; train or export it again"
    )


def _near(found: NDArray[Any], other: NDArray[Any]) -> bool:
    """Tell whether two sets of rows agree, each relative to its own largest value."""
    first, second = found.astype(np.float64), other.astype(np.float64)
    if first.shape != second.shape:
        return False
    finite = np.isfinite(first) & np.isfinite(second)
    if not np.array_equal(np.isfinite(first), np.isfinite(second)):
        return False
    gap = np.abs(np.where(finite, first, 0) - np.where(finite, second, 0))
    largest = np.abs(np.where(finite, first, 0)).max(axis=-1, keepdims=True)
    return bool((gap <= EXPLAINED * np.maximum(largest, 1e-6)).all())


def _others(inputs: NDArray[Any], row: int) -> NDArray[Any]:
    """Return a batch whose first input is `inputs[row]` and whose others are none that it stood beside."""
    turned = np.roll(inputs, -row, axis=0)
    turned[1:] = turned[1:][..., ::-1] if turned.ndim > 2 else turned[1:] * 0
    return turned


def _mixed_row(
    opened: Opened, inputs: NDArray[Any], rows: NDArray[Any], place: int, batch: int | None
) -> int | None:
    """Return the first input that gets another row alone (in a fixed batch: beside others); None for none."""
    for row in range(len(inputs)):
        given = inputs[row : row + 1] if batch is None else _others(inputs, row)
        found = _run(opened, given)[place]
        if not _near(found.reshape(len(given), -1)[:1], rows[row : row + 1]):
            return row
    return None


def _first_mix(model: Any, inputs: NDArray[Any], row: int, batch: int | None) -> str:
    """Return the first node whose value for an input differs with what stands beside it in the batch."""
    other = inputs[row : row + 1] if batch is None else _others(inputs, row)
    return _first_difference(model, inputs, other, row)


def _first_change(model: Any, inputs: NDArray[Any]) -> str:
    """Return the first node that answers the same inputs differently the second time."""
    return _first_difference(model, inputs, inputs, 0)


def _first_difference(model: Any, inputs: NDArray[Any], other: NDArray[Any], row: int) -> str:
    """Return the first node whose value for `inputs[row]` is not that for the first of `other`."""
    import onnx

    floats = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE}
    told = {v.name: v.type.tensor_type.elem_type for v in (*model.graph.value_info, *model.graph.output)}
    makers = {name: node.name for node in model.graph.node for name in node.output}
    wanted = [name for name in makers if told.get(name) in floats]
    opened = inner_session(model, wanted)
    together, apart = (inner_values(opened, batch, wanted) for batch in (inputs, other))
    for name in wanted:
        first, second = together[name], apart[name]
        if not first.ndim or len(first) <= row or not len(second):
            continue
        if not _near(first[row : row + 1].reshape(1, -1), second[:1].reshape(1, -1)):
            return str(makers[name])
    return str(makers[model.graph.output[0].name])
