"""The one input of a graph from elsewhere that takes pictures, in which layout; others get a value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import CnnkitError, unknown_name
from toolkit.figures import shape_text
from toolkit.graphs.facts import DTYPES, element_kind
from toolkit.importing import PixelWishes
from toolkit.passports import Layout, TensorSpec

BATCH = "batch"
# pixels of 0 to 255 wrap or drown in these
NARROW = frozenset({"int8", "bool"})


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

    It is for a graph as its file has it: what is computed of constants, and inputs that have a value unless
    they are given another, are no inputs any more once it is put right. Raises NotFoundError for an input
    that there is not, CnnkitError for values that do not fit.
    """
    from onnx import numpy_helper

    known = {value.name: value for value in model.graph.input}
    for name, text in fixed.items():
        if name not in known:
            # files from before IR version 4 list every weight as an input, too
            raise unknown_name("input", name, known if model.ir_version >= 4 else _names(model))
        values = _constant(known[name], text)
        held = [tensor for tensor in model.graph.initializer if tensor.name == name]
        for tensor in held:
            model.graph.initializer.remove(tensor)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
        model.graph.input.remove(known[name])


def _names(model: Any) -> list[str]:
    return [value.name for value in inputs_of_graph(model)]


def refuse_several_inputs(model: Any) -> None:
    """Raise CnnkitError unless a graph takes what it is given by one input."""
    left = inputs_of_graph(model)
    if not left:
        raise CnnkitError(
            "every input has a value, and none is left to take pictures: leave --fix away for that one, or "
            "export the network without a value for it"
        )
    if len(left) > 1:
        told = ", ".join(f"{value.name} ({_told(value)})" for value in left)
        # a picture has more extents than what stands beside one
        last = min(reversed(left), key=lambda value: len(value.type.tensor_type.shape.dim)).name
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
    given = np.broadcast_to(np.array(numbers).reshape(shape if len(numbers) > 1 else ()), shape)
    with np.errstate(invalid="ignore", over="ignore"):  # what does not fit is found next
        made = given.astype(dtype)
    fits = np.isfinite(made) == np.isfinite(given) if dtype.kind == "f" else made == given
    if not fits.all():
        raise CnnkitError(f"--fix {value.name}={text} does not fit {dtype}, which takes {_range(dtype)}")
    return made


def _range(dtype: np.dtype[Any]) -> str:
    if dtype.kind == "b":
        return "true or false"
    if dtype.kind == "f":
        return f"numbers up to {np.finfo(dtype).max:g}"
    return f"whole numbers from {np.iinfo(dtype).min} to {np.iinfo(dtype).max}"


def _told(value: Any) -> str:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return element_kind(value)
    return f"{element_kind(value)} {shape_text(_extents(value)) if tensor.shape.dim else 'scalar'}"


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
    dtype = DTYPES.get(value.type.tensor_type.elem_type)
    if dtype is None or dtype in NARROW:
        raise CnnkitError(
            f"the input {value.name!r} takes {element_kind(value)}, and pictures become floats of 16 to 64 "
            "bits, integers of 32 or 64, or uint8: export the network with such an input"
        )
    shape = _extents(value)
    if not shape and (wishes.size or size):
        shape = (None,) * 4  # a tensor of any shape, which pictures of a known size are, too
    found = _as_pictures(value.name, shape, wishes, size, channels)
    _write_shape(value, found.spec.shape)
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
