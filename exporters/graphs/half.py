"""An fp32 ONNX graph → an fp16 or bf16 one with fp32 input and output.

TensorRT 11 has no fp16 flag and follows the graph's types, so the graph itself is cast.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np

from exporters.graphs.capture import finish, quiet
from toolkit.errors import CnnkitError, needs_extra
from toolkit.graphs.facts import opset_of
from toolkit.graphs.naming import modules_of, name_nodes, name_values, note_modules
from toolkit.graphs.ordering import sort_nodes
from toolkit.graphs.weights import LARGEST_HALF, bfloat16, halve_weights

# what the type of a value that stays in fp32 may be noted as, before the converter and after it
_FLOATS = (1, 10)  # FLOAT and FLOAT16 of onnx.TensorProto


def to_half(model: Any, *, keep: Iterable[str] = (), in_place: bool = False) -> Any:
    """Return an fp16 copy of an fp32 onnx.ModelProto; nodes named in `keep` stay in fp32.

    `in_place` changes the model itself, for large ones that nobody else holds.
    """
    with needs_extra("export"):
        from onnxruntime.transformers.float16 import convert_float_to_float16
    made = model if in_place else copy.deepcopy(model)
    weights = {tensor.name for tensor in made.graph.initializer}
    kept = sorted(keep)
    halve_weights(made, keep=kept)
    with quiet():  # it warns of weights too small for fp16, which become its smallest: parity judges
        try:
            half = convert_float_to_float16(
                made,
                keep_io_types=True,
                max_finite_val=LARGEST_HALF,
                min_positive_val=5.97e-08,
                node_block_list=kept,
                disable_shape_infer=True,  # every value has its shape already
            )
        except Exception as error:  # the converter raises bare errors of many kinds
            raise CnnkitError(f"the graph cannot be cast to fp16: {error}") from error
    return finish(_name_casts(half, weights))


def float_only(model: Any) -> list[str]:
    """Return the nodes whose operator takes or makes fp32 and no fp16 at the graph's opset."""
    import onnx

    opset, found = opset_of(model), []
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx"):
            continue
        schema = onnx.defs.get_schema(node.op_type, opset, "")
        allowed = {one.type_param_str: one.allowed_type_strs for one in schema.type_constraints}
        taken = [one.type_str for one, name in zip(schema.inputs, node.input, strict=False) if name]
        made = [one.type_str for one, name in zip(schema.outputs, node.output, strict=False) if name]
        # a type that is no parameter, as that of Resize's scales, is cast to by the converter
        kinds = [allowed[word] for word in taken if word in allowed]
        kinds += [allowed.get(word, [word]) for word in made]
        if any("tensor(float)" in kind and "tensor(float16)" not in kind for kind in kinds):
            found.append(node.name)
    return found


def to_bfloat16(model: Any) -> Any:
    """Return a copy of an fp32 onnx.ModelProto whose weights and values are bf16, its ends fp32."""
    import onnx

    made = to_half(model, keep=float_only(model))
    half, brain = onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16
    originals = {tensor.name: tensor for tensor in model.graph.initializer}
    for tensor in made.graph.initializer:
        if tensor.data_type == half:
            values = onnx.numpy_helper.to_array(originals[tensor.name]).astype(np.float32)
            tensor.CopyFrom(
                onnx.helper.make_tensor(tensor.name, brain, values.shape, bfloat16(values), raw=True)
            )
    for node in made.graph.node:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i == half:
                attribute.i = brain
    del made.graph.value_info[:]
    # bf16 came to convolutions, pools and activations with opset 22
    return finish(onnx.version_converter.convert_version(made, 22) if opset_of(made) < 22 else made)


def _join_kept(model: Any) -> None:
    """Connect neighbours that stay in fp32 directly, and drop casts that nobody reads.

    The converter casts a kept node's output to fp16 and back before the next kept one, where the
    very value for which both were kept overflows.
    """
    import onnx

    graph, seen = model.graph, set[str]()
    for node in list(graph.node):  # one value may be cast twice under one name, once a reader
        if node.op_type == "Cast" and node.output[0] in seen:
            graph.node.remove(node)
        seen.update(node.output)
    casts = {node.output[0]: node for node in graph.node if node.op_type == "Cast"}
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input)}
    direct: dict[str, str] = {}
    for name, node in casts.items():
        there = casts.get(node.input[0])
        back = node.attribute[0].i == onnx.TensorProto.FLOAT
        if there is None or not back or there.attribute[0].i != onnx.TensorProto.FLOAT16:
            continue
        if types.get(there.input[0], onnx.TensorProto.FLOAT) in _FLOATS:
            direct[name] = there.input[0]
        else:  # a cast of the network's own, of truth values or whole numbers
            node.input[0] = there.input[0]
    outputs = {value.name for value in graph.output}
    ends = {direct.pop(name): name for name in outputs & set(direct)}
    for name in ends.values():  # a kept node that makes an output makes it itself
        graph.node.remove(casts[name])
    for node in graph.node:
        node.input[:] = [ends.get(direct.get(name, name), direct.get(name, name)) for name in node.input]
        node.output[:] = [ends.get(name, name) for name in node.output]
    used = {name for node in graph.node for name in node.input} | outputs
    while idle := [n for n in graph.node if n.op_type == "Cast" and n.output[0] not in used]:
        for node in idle:
            graph.node.remove(node)
        used = {name for node in graph.node for name in node.input} | outputs


def _name_casts(model: Any, weights: set[str]) -> Any:
    """Name the casts that the converter put in after what they cast; they belong to no module."""
    for node in model.graph.node:
        if node.op_type == "Cast" and modules_of(node) is None and "cast" in node.name:
            inputs = {value.name for value in model.graph.input}
            outputs = {value.name for value in model.graph.output}
            ends = [name for name in node.input if name in inputs] or [
                name for name in node.output if name in outputs
            ]
            node.name = f"{ends[0] if ends else node.name}/Cast"
            note_modules(node, [], None)
    _join_kept(model)
    sort_nodes(model)
    name_nodes(model)
    name_values(model, keep=weights)
    return model
