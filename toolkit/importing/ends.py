"""The ends of a graph from elsewhere: one input of pictures, in which layout, and class scores come first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import CnnkitError, unknown_name
from toolkit.figures import shape_text
from toolkit.graphs.facts import DTYPES
from toolkit.graphs.naming import rename
from toolkit.graphs.running import session
from toolkit.importing import PixelWishes
from toolkit.passports import Layout, TensorSpec

BATCH = "batch"
# whole rows of noise at the scales that inputs of pictures have: 0 to 1, −1 to 1, 0 to 255
NOISE = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))


@dataclass(frozen=True, kw_only=True)
class PictureInput:
    """How a graph takes pictures: `spec` its tensor, `layouts` in which their values may lie.

    Where the shape allows several layouts the first is the usual one.
    """

    spec: TensorSpec
    channels: int
    size: tuple[int, int]
    layouts: tuple[Layout, ...]


def inputs_of_graph(model: Any) -> list[Any]:
    """Return the inputs that have no value of their own in the graph."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def fix_inputs(model: Any, fixed: Mapping[str, str]) -> None:
    """Give inputs a value for good, in place; `fixed` holds numbers as text, several with commas between.

    Raises NotFoundError for an input that there is not, CnnkitError for values that do not fit, or where
    not one input is left.
    """
    from onnx import numpy_helper

    known = {value.name: value for value in model.graph.input}
    for name, text in fixed.items():
        if name not in known:
            raise unknown_name("input", name, known)
        values = _constant(known[name], text)
        held = [tensor for tensor in model.graph.initializer if tensor.name == name]
        for tensor in held:
            model.graph.initializer.remove(tensor)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
        model.graph.input.remove(known[name])
    left = inputs_of_graph(model)
    if not left:
        raise CnnkitError("every input has a value: leave --fix away for the one that takes the pictures")
    if len(left) > 1:
        told = ", ".join(f"{value.name} ({_told(value)})" for value in left)
        last = left[-1].name
        raise CnnkitError(
            f"the network has {len(left)} inputs, {told}, and takes pictures by one: give the others a "
            f"value, as in --fix {last}=0"
        )


def _constant(value: Any, text: str) -> NDArray[Any]:
    tensor = value.type.tensor_type
    dtype = np.dtype(DTYPES.get(tensor.elem_type, "float32"))
    shape = tuple(max(1, dim.dim_value) for dim in tensor.shape.dim)
    words = {"true": 1.0, "false": 0.0}
    try:
        figures = [words.get(part.strip().lower()) for part in text.split(",")]
        numbers = [
            float(part) if known is None else known
            for part, known in zip(text.split(","), figures, strict=True)
        ]
    except ValueError:
        raise CnnkitError(
            f"--fix {value.name}={text} is no number, nor numbers with commas between"
        ) from None
    if len(numbers) not in (1, math.prod(shape)):
        raise CnnkitError(
            f"--fix {value.name} gives {len(numbers)} numbers for {shape_text(shape)}: one, or all of them"
        )
    return np.broadcast_to(np.array(numbers).reshape(shape if len(numbers) > 1 else ()), shape).astype(dtype)


def _told(value: Any) -> str:
    tensor = value.type.tensor_type
    dtype = DTYPES.get(tensor.elem_type, f"type {tensor.elem_type}")
    return f"{dtype} {shape_text(_extents(value))}" if tensor.HasField("shape") else dtype


def _extents(value: Any) -> tuple[int | None, ...]:
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in dims)


def picture_input(
    model: Any, wishes: PixelWishes, size: tuple[int, int] | None, channels: int | None
) -> PictureInput:
    """Find how the one input takes pictures, and close its open extents but the batch's, in place.

    `size` and `channels` are what is known of it from elsewhere. Raises CnnkitError in words for an input
    of anything but pictures, and where its size is not known.
    """
    (value,) = inputs_of_graph(model)
    if value.type.tensor_type.elem_type not in DTYPES:
        raise CnnkitError(f"the input {value.name!r} is of ONNX type {value.type.tensor_type.elem_type}")
    shape = _extents(value)
    if not shape and (wishes.size or size):
        shape = (None,) * 4  # a tensor of any shape, which pictures of a known size are, too
    found = _as_pictures(value.name, shape, wishes, size, channels)
    _write_shape(value, found.spec.shape)
    dtype = DTYPES[value.type.tensor_type.elem_type]
    spec = TensorSpec(name=value.name, shape=found.spec.shape, dtype=dtype, layout=found.layouts[0])
    return PictureInput(spec=spec, channels=found.channels, size=found.size, layouts=found.layouts)


def _as_pictures(
    name: str,
    shape: tuple[int | None, ...],
    wishes: PixelWishes,
    size: tuple[int, int] | None,
    channels: int | None,
) -> PictureInput:
    open_as = "".join(f"×{extent or '?'}" for extent in shape[1:])
    told = f"the input {name!r} takes {shape_text(shape[:1])}{open_as}"
    if len(shape) == 4:
        layouts = _layouts(told, shape, wishes.layout, channels)
        axis, high, wide = (1, 2, 3) if layouts[0] == "NCHW" else (3, 1, 2)
        count = shape[axis] or channels or 3
        sides = _sides(told, (shape[high], shape[wide]), wishes.size, size)
        full = {axis: count, high: sides[0], wide: sides[1]}
        closed = (shape[0], *(full[place] for place in (1, 2, 3)))
        return _input(name, closed, count, sides, layouts)
    if len(shape) == 3 and shape[0] in (None, 1):
        sides = _sides(told, (shape[1], shape[2]), wishes.size, size)
        return _input(name, (shape[0], *sides), 1, sides, ("NCHW",))
    if len(shape) == 2 and shape[1]:
        sides, count = _unrolled(told, shape[1], wishes.size or size, channels)
        layouts = ("NCHW", "NHWC") if count > 1 else ("NCHW",)
        chosen = layouts if wishes.layout is None else (wishes.layout,)
        return _input(name, shape, count, sides, chosen)
    if not shape:
        raise CnnkitError(f"the input {name!r} declares no shape: --size HxW says how large its pictures are")
    raise CnnkitError(f"{told}, which is no batch of pictures: N×C×H×W, N×H×W×C, N×H×W and N×(C·H·W) are")


def _input(
    name: str,
    shape: tuple[int | None, ...],
    channels: int,
    size: tuple[int, int],
    layouts: tuple[Layout, ...],
) -> PictureInput:
    spec = TensorSpec(name=name, shape=shape, layout=layouts[0])
    return PictureInput(spec=spec, channels=channels, size=size, layouts=layouts)


def _layouts(
    told: str, shape: tuple[int | None, ...], wished: Layout | None, channels: int | None
) -> tuple[Layout, ...]:
    """Return the layouts that four extents allow: pictures have 1 or 3 channels."""
    able = (1, 3) if channels is None else (channels,)
    fitting = [
        (layout, axis)
        for layout, axis in (("NCHW", 1), ("NHWC", 3))
        if shape[axis] in able or shape[axis] is None
    ]
    allowed: list[Layout] = [layout for layout, axis in fitting if shape[axis]]  # type: ignore[misc]
    # an open extent is a side or the batch rather than the channels, unless nothing else could be them
    allowed = allowed or [layout for layout, _ in fitting]  # type: ignore[misc]
    if wished is not None:
        if wished not in [layout for layout, _ in fitting]:
            raise CnnkitError(f"{told}, which is no {wished} of 1 or 3 channels")
        return (wished,)
    if not allowed:
        raise CnnkitError(f"{told}; pictures have 1 or 3 channels, as its second extent or its last")
    return tuple(allowed)


def _sides(
    told: str,
    own: tuple[int | None, int | None],
    wished: tuple[int, int] | None,
    known: tuple[int, int] | None,
) -> tuple[int, int]:
    found = wished or known
    if None in own and found is None:
        raise CnnkitError(
            f"{told}, and its height and width are open: --size HxW says which (as in --size 224x224)"
        )
    for side, asked in zip(own, wished or own, strict=True):
        if side is not None and side != asked:
            raise CnnkitError(f"{told}, so --size can only be {own[0]}x{own[1]}")
    height, width = (side or (found or (1, 1))[place] for place, side in enumerate(own))
    return height, width


def _unrolled(
    told: str, values: int, size: tuple[int, int] | None, channels: int | None
) -> tuple[tuple[int, int], int]:
    """Return (height, width) and channels of pictures that come as one row of values each."""
    able = (1, 3) if channels is None else (channels,)
    if size is not None:
        count = values / math.prod(size)
        if count not in able:
            raise CnnkitError(f"{told}; --size {size[0]}x{size[1]} of 1 or 3 channels has other many values")
        return size, int(count)
    for count in able:  # no whole number is both a square and three times one
        side = math.isqrt(values // count)
        if side * side * count == values:
            return (side, side), count
    raise CnnkitError(f"{told}, a row of values: --size HxW says of which pictures")


def _write_shape(value: Any, shape: tuple[int | None, ...]) -> None:
    dims = value.type.tensor_type.shape.dim
    while len(dims) < len(shape):
        dims.add()
    for place, extent in enumerate(shape):
        if extent is not None:
            dims[place].dim_value = extent
        elif not dims[place].dim_param or place == 0:
            dims[place].dim_param = dims[place].dim_param or BATCH


@dataclass(frozen=True, kw_only=True)
class ScoreOutput:
    """The output of class scores: `columns` of them a picture, and whether they are probabilities already."""

    name: str
    columns: int
    probabilities: bool


def place_scores(
    model: Any, takes: TensorSpec, wanted: str | None, classes: int | None
) -> tuple[ScoreOutput, TensorSpec]:
    """Make the class scores, (N, K), the graph's first output, in place; return it and the input's spec.

    `wanted` names it; None is the one that can be it, with `classes` columns where that is known. A batch
    that the graph bakes in becomes the input's. Raises NotFoundError, or CnnkitError in words.
    """
    batch, found = _probe(model, takes)
    if takes.shape[0] is None and batch == 1:
        takes = TensorSpec(
            name=takes.name, shape=(1, *takes.shape[1:]), dtype=takes.dtype, layout=takes.layout
        )
        dim = inputs_of_graph(model)[0].type.tensor_type.shape.dim[0]
        dim.Clear()
        dim.dim_value = 1
    scores = {name: columns for name, rows in found.items() if (columns := _columns(rows[0], batch))}
    name = _chosen(found, scores, wanted, classes)
    _put_first(model, name)
    if found[name][0].ndim != 2 or found[name][0].shape[0] != batch:
        _flatten(model, name, alone=found[name][0].ndim == 1)
    _declare(model, takes.shape[0], scores[name])
    rows = np.stack([one.reshape(batch, -1).astype(np.float64) for one in found[name]]).reshape(
        -1, scores[name]
    )
    return ScoreOutput(name=name, columns=scores[name], probabilities=are_probabilities(rows)), takes


def are_probabilities(rows: NDArray[np.float64]) -> bool:
    """Tell whether (N, K) answers to noise of several scales are probabilities; one column needs no sum."""
    inside = bool(((rows >= 0) & (rows <= 1)).all())
    return inside and (rows.shape[1] == 1 or bool((np.abs(rows.sum(axis=1) - 1) < 1e-3).all()))


def _probe(model: Any, takes: TensorSpec) -> tuple[int, dict[str, list[NDArray[Any]]]]:
    """Return a batch that runs, and all outputs' answers to noise of several scales in that batch."""
    import onnxruntime as ort

    opened = session(model).session
    quiet = ort.RunOptions()
    quiet.log_severity_level = 4  # a batch that the graph cannot take is told by us
    names = [output.name for output in opened.get_outputs()]
    sizes = (takes.shape[0],) if takes.shape[0] else (2, 1)
    for batch in sizes:
        answered = []
        random = np.random.default_rng(0)
        try:
            for low, high in NOISE:
                noise = random.uniform(low, high, (batch, *(extent or 1 for extent in takes.shape[1:])))
                answered.append(opened.run(names, {takes.name: noise.astype(takes.dtype)}, quiet))
        except Exception as error:  # the runtime's own errors share no base class
            first = str(error).strip().splitlines()[0]
            continue
        columns = ([np.asarray(one[place]) for one in answered] for place in range(len(names)))
        return batch, dict(zip(names, columns, strict=True))
    shape = shape_text((sizes[-1], *takes.shape[1:]))
    raise CnnkitError(f"ONNX Runtime cannot run the network on {takes.dtype} {shape}: {first}")


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
