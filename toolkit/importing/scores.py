"""The class scores among a graph's outputs: found by running it, and made its first output, (N, K)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import CnnkitError, unknown_name
from toolkit.figures import shape_text
from toolkit.graphs.naming import rename
from toolkit.graphs.running import session
from toolkit.graphs.scores import PROBABLE, kind_of, may_be_bounded
from toolkit.importing.inputs import inputs_of_graph
from toolkit.passports import TensorSpec
from toolkit.telling import Tell

# noise at the scales that inputs of pictures have: 0 to 1, −1 to 1, 0 to 255
NOISE = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))


@dataclass(frozen=True, kw_only=True)
class ScoreOutput:
    """The output of class scores: `columns` of them a picture, and whether they are probabilities already."""

    name: str
    columns: int
    probabilities: bool


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What a graph answers to noise: each output's `answers`, one a scale, to batches of `ran` inputs.

    `batch` is the one that it can be given; it `varies` where equal input gets other answers, it `mixes`
    where an input is answered otherwise alone.
    """

    batch: int
    ran: int
    answers: dict[str, list[NDArray[Any]]]
    varies: bool
    mixes: bool


def place_scores(
    model: Any, takes: TensorSpec, wanted: str | None, classes: int | None, tell: Tell
) -> tuple[ScoreOutput, TensorSpec]:
    """Make the class scores, (N, K), the graph's first output, in place; return it and the input's spec.

    `wanted` names it; None is the one that can be it, with `classes` columns where that is known. A batch
    that the graph bakes in, or mixes, becomes the input's, and that is told. Raises NotFoundError, or
    CnnkitError in words.
    """
    probe = _probe(model, takes)
    found, ran = probe.answers, probe.ran
    if takes.shape[0] is None and probe.batch == 1:
        takes = replace(takes, shape=(1, *takes.shape[1:]))
        dim = inputs_of_graph(model)[0].type.tensor_type.shape.dim[0]
        dim.Clear()
        dim.dim_value = 1
        why = "what else is in a batch changes its answers" if probe.mixes else "its file has it so"
        tell(f"the network is given one picture at a time: {why}")
    if probe.varies:
        tell("the network answers the same picture differently each time: it draws random numbers")
    scores = {name: columns for name, rows in found.items() if (columns := _columns(rows[0], ran))}
    name = _chosen(found, scores, wanted, classes)
    _put_first(model, name)
    if found[name][0].ndim != 2 or found[name][0].shape[0] != ran:
        _flatten(model, name, alone=found[name][0].ndim == 1)
    _declare(model, takes.shape[0], scores[name])
    answered = np.concatenate([one.reshape(ran, -1) for one in found[name]])
    kind = kind_of(answered, bounded=may_be_bounded(model, name))
    return ScoreOutput(name=name, columns=scores[name], probabilities=kind in PROBABLE), takes


def _probe(model: Any, takes: TensorSpec) -> Probe:
    """Run noise of several scales in a batch that the graph takes. Raises CnnkitError where it takes none."""
    import onnxruntime as ort

    opened = session(model).session
    quiet = ort.RunOptions()
    quiet.log_severity_level = 4  # a batch that the graph cannot take is told by us
    names = [output.name for output in opened.get_outputs()]

    def run(batch: NDArray[Any]) -> list[NDArray[Any]]:
        return [np.asarray(one) for one in opened.run(names, {takes.name: batch}, quiet)]

    sizes = (takes.shape[0],) if takes.shape[0] else (2, 1)
    first = ""
    for batch in sizes:
        random = np.random.default_rng(0)
        shape = (batch, *(extent or 1 for extent in takes.shape[1:]))
        noise = [random.uniform(low, high, shape).astype(takes.dtype) for low, high in NOISE]
        try:
            answered = [run(one) for one in noise]
        except Exception as error:  # the runtime's own errors share no base class
            first = str(error).strip().splitlines()[0]
            continue
        columns = ([one[place] for one in answered] for place in range(len(names)))
        varies = not all(_alike(*pair) for pair in zip(answered[0], run(noise[0]), strict=True))
        mixes = not varies and len(sizes) > 1 and batch > 1 and _mixes(run, noise[0], answered[0])
        found = dict(zip(names, columns, strict=True))
        return Probe(batch=1 if mixes else batch, ran=batch, answers=found, varies=varies, mixes=mixes)
    shown = shape_text((sizes[-1], *takes.shape[1:]))
    raise CnnkitError(f"ONNX Runtime cannot run the network on {takes.dtype} {shown}: {first}")


def _mixes(
    run: Callable[[NDArray[Any]], list[NDArray[Any]]], batch: NDArray[Any], together: list[NDArray[Any]]
) -> bool:
    """Tell whether an input is answered otherwise alone than beside another one."""
    try:
        alone = run(batch[:1])
    except Exception:  # a graph that takes no single input has nothing to compare
        return False
    pairs = zip(alone, together, strict=True)
    return not all(_alike(one, both[:1]) for one, both in pairs if both.shape[:1] == batch.shape[:1])


def _alike(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Tell whether two answers are the same but for rounding, which differs with the batch."""
    if one.shape != other.shape or one.dtype.kind != "f":
        return one.shape == other.shape and bool((one == other).all())
    first, second = one.astype(np.float64), other.astype(np.float64)
    near = 1e-3 * max(1.0, float(np.nanmax(np.abs(first), initial=0.0)))
    return bool(np.allclose(first, second, rtol=1e-2, atol=near, equal_nan=True))


def _columns(answer: NDArray[Any], batch: int) -> int | None:
    """Return how many scores a picture has; None for what is no row of scores for each picture."""
    if answer.dtype.kind != "f" or not answer.size:
        return None
    if answer.ndim == 1:
        return len(answer) if batch == 1 else None
    squeezed = answer.shape[0] == batch and all(extent == 1 for extent in answer.shape[2:])
    return int(answer.shape[1]) if squeezed else None


def _chosen(
    found: Mapping[str, Sequence[NDArray[Any]]],
    scores: Mapping[str, int],
    wanted: str | None,
    classes: int | None,
) -> str:
    told = ", ".join(f"{name} ({rows[0].dtype} {shape_text(rows[0].shape)})" for name, rows in found.items())
    if wanted is not None:
        if wanted not in found:
            raise unknown_name("output", wanted, found)
        if wanted not in scores:
            raise CnnkitError(
                f"the output {wanted} holds no row of scores for each picture; there are {told}"
            )
        return wanted
    fitting = [name for name, columns in scores.items() if columns == classes] or list(scores)
    if not fitting:
        raise CnnkitError(
            f"no output holds a row of class scores for each picture, which is what cnnkit judges: {told}; "
            "export the network again with its scores as an output"
        )
    if len(fitting) > 1:
        raise CnnkitError(
            f"{len(fitting)} outputs could be the class scores: {told}; --logits NAME says which"
        )
    return fitting[0]


def _put_first(model: Any, name: str) -> None:
    outputs = list(model.graph.output)
    first = next(value for value in outputs if value.name == name)
    copies = [
        type(value).FromString(value.SerializeToString())
        for value in (first, *(v for v in outputs if v is not first))
    ]
    del model.graph.output[:]
    model.graph.output.extend(copies)


def _flatten(model: Any, name: str, *, alone: bool) -> None:
    """Bring scores of (N, K, 1, 1), or of (K,) for a batch of one, to (N, K) under their own name."""
    from onnx import helper, numpy_helper

    inner, shape = f"{name}/squeezed", f"{name}/shape"
    rename(model, lambda value: inner if value == name else value)
    model.graph.output[0].name = name
    extents = np.array([1 if alone else 0, -1], np.int64)
    model.graph.initializer.append(numpy_helper.from_array(extents, shape))
    model.graph.node.append(helper.make_node("Reshape", [inner, shape], [name], name=f"{name}/Reshape"))


def _declare(model: Any, batch: int | None, columns: int) -> None:
    """Write the first output's shape as it is measured: files may say another, or none."""
    dims = model.graph.output[0].type.tensor_type.shape
    del dims.dim[:]
    first, second = dims.dim.add(), dims.dim.add()
    if batch is None:
        first.dim_param = inputs_of_graph(model)[0].type.tensor_type.shape.dim[0].dim_param
    else:
        first.dim_value = batch
    second.dim_value = columns
