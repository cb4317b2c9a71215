"""What a graph says of itself: its ends, its opset, which a step may need newer, and its passport's facts."""

from __future__ import annotations

import copy
import dataclasses
import json
from typing import Any

from toolkit.errors import CnnkitError, CorruptError
from toolkit.passports import Layout, Passport, TensorSpec

# before it an operator says by its attributes how it broadcasts, and converting that takes closed extents
OPEN_EXTENTS = 7
# what an ONNX tensor's element type is called in numpy, as passports write it
DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
}


# the entry of a graph's `metadata_props` that tells what it was trained on
DATASET = "cnnkit.dataset"


def write_facts(model: Any, passport: Passport) -> None:
    """Put what a passport says of model, data and preprocessing into an onnx.ModelProto, in place.

    They are those of its `metadata_props` that begin with `cnnkit.`.
    """
    import onnx

    values: dict[str, Any] = {
        "model": passport.model,
        "precision": passport.precision,
        "trained": passport.trained,
        "classes": list(passport.classes),
        "preprocessing": dataclasses.asdict(passport.preprocessing) if passport.preprocessing else None,
        "dataset": dataclasses.asdict(passport.dataset) if passport.dataset else None,
        "metrics": dataclasses.asdict(passport.metrics),
        "source_sha256": passport.source_sha256,
        "tools": dict(passport.tools),
    }
    kept = {e.key: e.value for e in model.metadata_props if not e.key.startswith("cnnkit.")}
    texts = {
        f"cnnkit.{k}": v if isinstance(v, str) else json.dumps(v, ensure_ascii=False)
        for k, v in values.items()
    }
    onnx.helper.set_model_props(model, {**kept, **texts})


def input_spec(model: Any) -> TensorSpec:
    """Return the one input of a graph. Raises CorruptError when it has none or several."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        # a picture has more extents than what stands beside one
        beside = min(reversed(inputs), key=lambda v: len(v.type.tensor_type.shape.dim), default=None)
        hint = f"; `cnnkit import FILE --fix {beside.name}=VALUE` gives one a value" if beside else ""
        told = f"{len(inputs)} ({names})"
        raise CorruptError(f"cnnkit exports networks with one input; this graph has {told}{hint}")
    return _spec(inputs[0], layout=_layout(inputs[0]))


def output_spec(model: Any) -> TensorSpec:
    """Return the first output of a graph, the logits."""
    return scores_spec(model.graph.output[0])


def scores_spec(value: Any) -> TensorSpec:
    """Return what the output of a graph that holds the scores is."""
    return _spec(value, layout="NC")


def _layout(value: Any) -> Layout:
    """Return where channels stand in an input of pictures: last only where no other reading makes sense."""
    channels = (1, 3, 4)
    extents = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    last = len(extents) == 4 and extents[3] in channels and extents[1] not in channels
    return "NHWC" if last else "NCHW"


def _spec(value: Any, *, layout: Layout) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = tuple(d.dim_value if d.dim_value > 0 else None for d in tensor.shape.dim)
    dtype = DTYPES.get(tensor.elem_type)
    if dtype is None:
        raise CorruptError(
            f"{value.name!r} is {element_kind(value)}, and cnnkit's networks take and give floats of 16 to "
            "64 bits, or integers of 8, 32 or 64"
        )
    known = layout if len(shape) == len(layout) else None
    return TensorSpec(name=value.name, shape=shape, dtype=dtype, layout=known)


def element_kind(value: Any) -> str:
    """Return what a value is in words: the type of its elements, or what is no tensor."""
    from onnx import TensorProto

    word = value.type.WhichOneof("value") or "tensor_type"
    if word != "tensor_type":
        return str(word).removesuffix("_type")
    number = value.type.tensor_type.elem_type
    return DTYPES.get(number) or str(TensorProto.DataType.Name(number)).lower()


def opset_of(model: Any) -> int:
    """Return the opset of a graph's standard operators."""
    own = (entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    return int(next(own, 1))


def _converted_closed(model: Any, opset: int) -> Any:
    """Convert a graph with a batch of one: what brings older operators to opset 7 takes no open extent."""
    import onnx

    if any({"axis", "broadcast"} <= {a.name for a in node.attribute} for node in model.graph.node):
        raise CnnkitError("its operators broadcast along an axis, and the converter makes others of them")
    closed = copy.deepcopy(model)
    del closed.graph.value_info[:]
    ends = [value.type.tensor_type.shape.dim for value in (*closed.graph.input, *closed.graph.output)]
    for dims in ends:
        for dim in [dim for dim in dims[:1] if not dim.dim_value]:
            dim.dim_value = 1
    made = onnx.version_converter.convert_version(onnx.shape_inference.infer_shapes(closed), opset)
    del made.graph.value_info[:]
    for side in ("input", "output"):
        for value, was in zip(getattr(made.graph, side), getattr(model.graph, side), strict=True):
            value.CopyFrom(was)
    return onnx.shape_inference.infer_shapes(made)


def modern(model: Any) -> Any:
    """Bring an older graph to opset 13 once, before anything is decided by its nodes' names.

    A graph that cannot be converted is left as it is: it still runs, and the steps that need more say so.
    """
    try:
        return at_least(model, 13)
    except CnnkitError:
        return model


def at_least(model: Any, opset: int) -> Any:
    """Return a copy of a graph, brought to an opset when its own is older."""
    import onnx

    own = opset_of(model)
    if own >= opset:
        return copy.deepcopy(model)
    try:
        if own < OPEN_EXTENTS:
            return _converted_closed(model, opset)
        return onnx.shape_inference.infer_shapes(onnx.version_converter.convert_version(model, opset))
    except Exception as error:  # the converter raises bare RuntimeErrors
        raise CnnkitError(
            f"the graph is of opset {own} and cannot be brought to {opset}, "
            f"which this precision needs: {error}"
        ) from None
