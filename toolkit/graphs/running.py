"""A graph in memory, run by ONNX Runtime on the CPU: its answers, or every value inside it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import CorruptError
from toolkit.graphs.reasons import reason_of
from toolkit.graphs.weights import without_weights
from toolkit.images import Inputs

BATCH = 32
# with every inner value kept, a picture takes many times the memory
INNER_BATCH = 8
INNER_VALUES = 40_000_000
# what inner values that are kept may take, and the values that are alive at once where none are
INNER_BYTES = 48 << 20
LIVE_BYTES, LIVE_VALUES = 48 << 20, 3


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A graph that ONNX Runtime has opened; the session reads its large weights from this very memory."""

    session: Any
    weights: dict[str, NDArray[Any]]


def session(model: Any, *, lean: bool = False, plain: bool = False) -> Opened:
    """Open an onnx.ModelProto on the CPU. Raises CorruptError with the runtime's reason.

    Its large weights are handed over as they lie in memory. `lean` gives up speed for memory: no
    second, packed copy of the weights, no arena. `plain` optimises nothing: quickest where nothing is run.
    """
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.log_severity_level = 4  # what fails is raised, without lines of its source
    # its threads would spin on between two calls and slow whatever is timed next
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if lean:
        settings.add_session_config_entry("session.disable_prepacking", "1")
        settings.enable_cpu_mem_arena = False
    if plain:
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        light, weights = without_weights(model)
        held = [ort.OrtValue.ortvalue_from_numpy(values) for values in weights.values()]
        settings.add_external_initializers(list(weights), held)
        opened = ort.InferenceSession(light.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own errors share no base class
        raise CorruptError(f"ONNX Runtime cannot open the graph: {reason_of(error)}") from None
    return Opened(session=opened, weights=weights)


def logits(model: Any, inputs: Inputs, *, lean: bool = False) -> NDArray[np.float32]:
    """Return a graph's first output for all inputs, as (N, K) float32; `lean` spares memory, not time."""
    opened = session(model, lean=lean)
    run, size = opened.session.run, INNER_BATCH if lean else BATCH
    name, first = opened.session.get_inputs()[0].name, opened.session.get_outputs()[0].name
    size = max(1, min(size, LIVE_BYTES // max(1, LIVE_VALUES * widest_bytes(model))))
    parts = [np.asarray(run([first], {name: part})[0]) for part in _batches(opened, inputs, size)]
    return np.concatenate(parts)[: len(inputs)].reshape(len(inputs), -1).astype(np.float32)


def values(model: Any, inputs: Inputs, wanted: list[str]) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield the named inner values of a graph and its input: few inputs at once where they are large."""
    if not wanted:
        return  # a runtime that is asked for nothing gives everything
    opened = inner_session(model, wanted)
    held = sum(rows for name, rows in row_bytes(model).items() if name in wanted)
    size = max(1, min(INNER_BATCH, INNER_BYTES // max(1, held)))
    for part in _batches(opened, inputs, size):
        yield {opened.session.get_inputs()[0].name: part, **inner_values(opened, part, wanted)}


def inner_session(model: Any, wanted: list[str]) -> Opened:
    """Open a graph with inner values as outputs. Raises CorruptError with the runtime's reason."""
    import onnx

    outputs = model.graph.output
    count, present = len(outputs), {value.name for value in outputs}
    outputs.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in present)
    try:
        return session(model, lean=True)
    finally:
        del outputs[count:]  # the model itself, as a large one is not worth a copy


def inner_values(opened: Opened, batch: NDArray[Any], wanted: list[str]) -> dict[str, NDArray[Any]]:
    """Run one batch through a graph that was opened for these inner values; return them by name."""
    name = opened.session.get_inputs()[0].name
    return dict(zip(wanted, opened.session.run(wanted, {name: batch}), strict=True))


def row_bytes(model: Any) -> dict[str, int]:
    """Return how many bytes one input's part of each value takes, as far as shapes are told."""
    import onnx

    found = {}
    for value in (*model.graph.value_info, *model.graph.output):
        tensor = value.type.tensor_type
        if tensor.elem_type and tensor.HasField("shape"):
            item = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize
            found[value.name] = item * math.prod(dim.dim_value or 1 for dim in tensor.shape.dim[1:])
    return found


def widest_bytes(model: Any) -> int:
    """Return how many bytes one input's part of a graph's largest value takes."""
    return max(row_bytes(model).values(), default=0)


def float_values(model: Any, *, untold: bool = False) -> list[str]:
    """Return the names of all fp32 values that nodes make, in the order of execution.

    `untold` adds those whose type the graph does not tell, as in graphs from elsewhere.
    """
    import onnx

    known = {v.name: v.type.tensor_type.elem_type for v in (*model.graph.value_info, *model.graph.output)}
    wanted = {onnx.TensorProto.FLOAT, *({onnx.TensorProto.UNDEFINED} if untold else ())}
    made = [name for node in model.graph.node for name in node.output if name]
    return [name for name in made if known.get(name, onnx.TensorProto.UNDEFINED) in wanted]


def affordable(model: Any, images: int) -> int:
    """Return how many of `images` pictures are worth looking at inside: fewer for wide networks."""
    inside = sum(
        math.prod(dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim)
        for value in model.graph.value_info
    )
    return max(INNER_BATCH, min(images, INNER_VALUES // max(1, inside)))


def _batches(opened: Opened, inputs: Inputs, size: int) -> Iterator[NDArray[Any]]:
    """Cut inputs into the graph's batch; one with a fixed batch gets its last part filled up."""
    fixed = opened.session.get_inputs()[0].shape[0]
    step = fixed if isinstance(fixed, int) else size
    for start in range(0, len(inputs), step):
        part = inputs[start : start + step]
        if isinstance(fixed, int) and len(part) < step:
            part = np.concatenate([part, np.repeat(part[-1:], step - len(part), axis=0)])
        yield np.ascontiguousarray(part)
