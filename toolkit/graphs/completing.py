"""Types and shapes of a graph's values: onnx infers them, and ONNX Runtime tells those that are left open."""

from __future__ import annotations

import re
from typing import Any

from toolkit.errors import CnnkitError
from toolkit.graphs.weights import weights_as_inputs

# how ONNX Runtime spells an element type, by onnx.TensorProto's names
KINDS = {
    **{"float": "FLOAT", "double": "DOUBLE", "float16": "FLOAT16", "bfloat16": "BFLOAT16", "bool": "BOOL"},
    **{f"{sign}int{bits}": f"{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


def complete(model: Any) -> Any:
    """Write the type and, as far as they are told, the extents of every value into a graph; return it.

    The outputs' own claims are replaced, too. What neither onnx nor the runtime tells stays open.
    """
    _infer(model)
    lacking = [name for name in _made(model) if not _told(model).get(name)]
    if lacking:
        _ask(model, lacking)
        _infer(model)  # from what the runtime told, more follows
    return model


def _made(model: Any) -> list[str]:
    return [name for node in model.graph.node for name in node.output if name]


def _told(model: Any) -> dict[str, bool]:
    """Return for each value that is told whether both its type and its number of extents are."""
    graph = model.graph
    return {
        value.name: bool(value.type.tensor_type.elem_type and value.type.tensor_type.HasField("shape"))
        or value.type.HasField("sequence_type")
        for value in (*graph.value_info, *graph.output)
    }


def _infer(model: Any) -> None:
    import onnx

    try:
        light = onnx.shape_inference.infer_shapes(weights_as_inputs(model), data_prop=True)
    except Exception:  # a custom operator or a wrong declaration; the runtime is asked next
        return
    del model.graph.value_info[:]
    model.graph.value_info.extend(light.graph.value_info)
    for value, inferred in zip(model.graph.output, light.graph.output, strict=True):
        if inferred.type.HasField("tensor_type"):
            value.type.CopyFrom(inferred.type)


def _ask(model: Any, names: list[str]) -> None:
    """Have ONNX Runtime tell values: it opens the graph with them as outputs, and runs nothing."""
    import onnx

    from toolkit.graphs.running import session

    graph = model.graph
    count, present = len(graph.output), {value.name for value in graph.output}
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in present)
    try:
        found = session(model, lean=True, plain=True).session.get_outputs()
    except CnnkitError:  # what cannot be opened is refused where it is to run
        return
    finally:
        del graph.output[count:]
    ends = {value.name: value for value in graph.output}
    inner = {value.name: value for value in graph.value_info}
    for told in found:
        kind = _kind(told.type)
        if told.name not in names or kind is None:
            continue
        known = ends.get(told.name) or inner.get(told.name) or graph.value_info.add(name=told.name)
        shape = list(told.shape) or None  # empty is how it tells that it does not know, too
        known.CopyFrom(onnx.helper.make_tensor_value_info(told.name, kind, shape))


def _kind(text: str) -> int | None:
    """Return onnx's number of a type that ONNX Runtime writes as `tensor(float)`; None for no tensor."""
    import onnx

    found = re.fullmatch(r"tensor\((\w+)\)", text)
    name = KINDS.get(found[1]) if found else None
    return None if name is None else int(getattr(onnx.TensorProto, name))


def skip_idle_casts(model: Any) -> None:
    """Make each Cast to the type that its value has already an Identity, in place: it says nothing of types.

    What brings a graph to another precision would take it for one that asks for fp32.
    """
    graph = model.graph
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kinds[value.name] = value.type.tensor_type.elem_type
    for node in graph.node:
        to = next((attribute.i for attribute in node.attribute if attribute.name == "to"), None)
        if node.op_type == "Cast" and to and kinds.get(node.input[0]) == to:
            node.op_type = "Identity"
            del node.attribute[:]
