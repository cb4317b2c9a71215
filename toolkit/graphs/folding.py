"""Constants of a graph folded: weights that stand behind Identity, Transpose, Cast or DequantizeLinear.

What tools need of a weight is that it is stored, and exporters write it in many other ways.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.graphs.ordering import inner_graphs, reads_of, rename_in_node, replace_nodes
from toolkit.graphs.weights import dense

# a constant may grow this many times when it is folded, and by so much besides: more is a file blown up
GROWTH = 4
SMALL_BYTES = 1 << 20
RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
CODES = frozenset({"QuantizeLinear", "DequantizeLinear"})


def fold(model: Any, *, codes: bool) -> list[str]:
    """Compute in place all that depends on constants alone; return the names of the weights that came of it.

    `codes` folds DequantizeLinear of stored weights, too: right where only the weights are kept in 8 bits.
    A branch that is always taken takes the place of its If.
    """
    inline_branches(model)
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    computed: dict[str, NDArray[Any]] = {}
    kept = []
    for node in graph.node:
        found = _value_of(node, tensors, computed, model, codes=codes)
        if found is None:
            kept.append(node)
        else:
            computed.update(found)
    if len(kept) == len(graph.node):
        return []
    outputs = {value.name for value in graph.output}
    wanted = outputs.union(*(reads_of(node) for node in kept))
    _store(graph, {name: value for name, value in computed.items() if name in wanted})
    folded = [node for node in graph.node if not any(node is one for one in kept)]
    used = {name for node in folded for name in node.input} - wanted
    for tensor in [tensor for tensor in graph.initializer if tensor.name in used]:
        graph.initializer.remove(tensor)
    replace_nodes(graph, kept)
    return [name for name in computed if name in wanted]


def _value_of(
    node: Any,
    tensors: dict[str, Any],
    computed: dict[str, NDArray[Any]],
    model: Any,
    *,
    codes: bool,
) -> dict[str, NDArray[Any]] | None:
    """Return what a node makes of constants; None where it reads something else, or would blow them up."""
    import onnx

    names = [name for name in node.input if name]
    own = node.domain in ("", "ai.onnx") or (node.op_type in CODES and node.domain == "com.microsoft")
    plain = own and node.op_type not in RANDOM and not any(inner_graphs(node))
    if not plain or (node.op_type in CODES and not codes):
        return None
    if any(name not in tensors and name not in computed for name in names):
        return None
    if node.op_type == "Constant" and (stored := _stored(node)) is not None:
        return {node.output[0]: stored}
    given = {
        name: computed[name] if name in computed else onnx.numpy_helper.to_array(tensors[name])
        for name in names
    }
    if node.op_type in ("Expand", "ConstantOfShape", "Tile") and _made_bytes(node, given) > _bearable(given):
        return None
    arrays = _computed(node, given, model)
    if arrays is None or sum(value.nbytes for value in arrays.values()) > _bearable(given):
        return None
    return arrays


def _stored(node: Any) -> NDArray[Any] | None:
    import onnx

    value = next((a.t for a in node.attribute if a.name == "value"), None)
    value = next((dense(a.sparse_tensor) for a in node.attribute if a.name == "sparse_value"), value)
    return None if value is None else np.asarray(onnx.numpy_helper.to_array(value))


def _outputs(node: Any) -> list[str]:
    return [name for name in node.output if name]


def _bearable(given: dict[str, NDArray[Any]]) -> int:
    return GROWTH * sum(value.nbytes for value in given.values()) + SMALL_BYTES


def _made_bytes(node: Any, given: dict[str, NDArray[Any]]) -> int:
    """Return at least how large a node's result is that takes its extents from a constant."""
    extents = given[node.input[-1]]
    return 4 * math.prod(int(extent) for extent in np.atleast_1d(extents).tolist())


def _computed(node: Any, given: dict[str, NDArray[Any]], model: Any) -> dict[str, NDArray[Any]] | None:
    """Run one node alone; None where the runtime cannot, which it will tell of the whole graph, too."""
    import onnx
    import onnxruntime as ort

    inputs = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
        )
        for name, value in given.items()
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in _outputs(node)]
    graph = onnx.helper.make_graph([node], "constant", inputs, outputs)
    alone = onnx.helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=model.ir_version)
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    settings.intra_op_num_threads = 1
    narrow = any(value.dtype.kind == "V" for value in given.values())
    try:
        if narrow:  # of 4 bits, or bf16: types that numpy does not know, and the runtime takes none of
            from onnx.reference import ReferenceEvaluator

            made = ReferenceEvaluator(alone).run(None, given)
        else:
            whole = alone.SerializeToString()
            opened = ort.InferenceSession(whole, settings, providers=["CPUExecutionProvider"])
            made = opened.run(None, given)
    except Exception:  # the runtime's own errors share no base class
        return None
    if any(value is None or isinstance(value, (list, dict)) for value in made):
        return None  # a sequence of tensors is no weight
    return {name: np.asarray(value) for name, value in zip(_outputs(node), made, strict=True)}


def _store(graph: Any, values: dict[str, NDArray[Any]]) -> None:
    import onnx

    for name, value in values.items():
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, order="C"), name))


def inline_branches(model: Any) -> None:
    """Put the branch that is always taken in the place of each If whose condition is a constant, in place."""
    import onnx

    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    constants = {n.output[0]: value for n in graph.node if n.op_type == "Constant" and (value := _told(n))}
    nodes, found = [], False
    for node in graph.node:
        condition = stored.get(node.input[0]) if node.op_type == "If" else None
        if node.op_type == "If" and condition is None:
            condition = constants.get(node.input[0])
        if condition is None:
            nodes.append(node)
            continue
        taken = "then_branch" if bool(onnx.numpy_helper.to_array(condition).reshape(-1)[0]) else "else_branch"
        branch = next(attribute.g for attribute in node.attribute if attribute.name == taken)
        nodes.extend(_inlined(node, branch, graph))
        found = True
    if found:
        replace_nodes(graph, nodes)


def _told(node: Any) -> Any:
    return next((attribute.t for attribute in node.attribute if attribute.name == "value"), None)


def _inlined(node: Any, branch: Any, graph: Any) -> list[Any]:
    """Return a branch's nodes under names of their own; what the branch puts out is what its If does."""
    import onnx

    prefix = node.name or node.output[0]
    inner = [name for one in branch.node for name in one.output if name]
    new = {name: f"{prefix}/{name}" for name in [*inner, *(tensor.name for tensor in branch.initializer)]}
    for tensor in branch.initializer:
        moved = graph.initializer.add()
        moved.CopyFrom(tensor)
        moved.name = new[tensor.name]
    nodes = []
    for one in branch.node:
        copy = type(one).FromString(one.SerializeToString())
        copy.name = f"{prefix}/{one.name or one.output[0]}"
        rename_in_node(copy, lambda name: new.get(name, name))
        nodes.append(copy)
    for value, outer in zip(branch.output, node.output, strict=True):
        nodes.append(onnx.helper.make_node("Identity", [new.get(value.name, value.name)], [outer]))
    return nodes
