"""An fp32 graph that answers as an fp16 or bf16 one would on a GPU: weights and every value rounded.

ONNX Runtime's CPU provider computes fp16 graphs in fp32 and drops the casts between its nodes, so
what it answers says nothing of activations in half precision; for bf16 it has no kernels at all.
Sums inside one layer stay in fp32 here, as they do on GPUs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from toolkit.graphs.facts import at_least, opset_of
from toolkit.graphs.running import float_values
from toolkit.graphs.weights import bfloat16, half

Half = Literal["fp16", "bf16"]


def emulate(model: Any, precision: Half, *, keep: Iterable[str] = (), in_place: bool = False) -> Any:
    """Return a copy of an fp32 onnx.ModelProto that rounds as `precision` does, but for nodes in `keep`.

    `in_place` changes the model itself, for large ones that nobody else holds.
    """
    import onnx

    recent = in_place and opset_of(model) >= 13  # Cast to bf16 came with opset 13
    made, kept = model if recent else at_least(model, 13), set(keep)
    floats = onnx.TensorProto.FLOAT
    kind = onnx.TensorProto.FLOAT16 if precision == "fp16" else onnx.TensorProto.BFLOAT16
    exact = {name for node in made.graph.node if node.name in kept for name in node.input}
    stored = {tensor.name for tensor in made.graph.initializer}
    for value in [value for value in made.graph.input if value.name in stored]:
        made.graph.input.remove(value)  # older graphs list their weights there, too
    wanted = set(float_values(made))
    inputs = [value.name for value in made.graph.input if value.type.tensor_type.elem_type == floats]
    outputs = {value.name for value in made.graph.output}
    makers = {name: node.name for node in made.graph.node for name in node.output}
    nodes = [
        _rounded(onnx, tensor, kind)
        for tensor in made.graph.initializer
        if tensor.data_type == floats and tensor.name not in exact
    ]
    rounded: dict[str, str] = {}

    def round_off(name: str, made: str, to: str) -> None:
        """Round the value `made` to `to`, which is what those read that read `name`."""
        rounded[name] = to
        nodes.append(onnx.helper.make_node("Cast", [made], [f"{made}/bits"], to=kind))
        nodes.append(onnx.helper.make_node("Cast", [f"{made}/bits"], [to], to=floats))

    def read(name: str, reader: str) -> str:
        # between two nodes that stay in fp32, and from the input into one, nothing is rounded
        if reader in kept and makers.get(name, reader) in kept:
            return name
        return rounded.get(name, name)

    for name in inputs:
        round_off(name, name, f"{name}/{precision}")
    for node in made.graph.node:
        copy = onnx.NodeProto.FromString(node.SerializeToString())
        copy.input[:] = [read(name, node.name) for name in copy.input]
        ends = [name for name in copy.output if name in wanted & outputs and node.name not in kept]
        copy.output[:] = [f"{name}/exact" if name in ends else name for name in copy.output]
        nodes.append(copy)
        for name in node.output:
            if name in ends:
                round_off(name, f"{name}/exact", name)
            elif name in wanted - outputs:
                round_off(name, name, f"{name}/{precision}")
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return made


def _rounded(onnx: Any, tensor: Any, kind: int) -> Any:
    """Round a weight in place to those values that fp16 or bf16 can hold; return the cast back to fp32."""
    name, values = tensor.name, onnx.numpy_helper.to_array(tensor)
    tensor.ClearField("float_data")
    tensor.raw_data = half(values).tobytes() if kind == onnx.TensorProto.FLOAT16 else bfloat16(values)
    tensor.name, tensor.data_type = f"{name}/bits", kind
    return onnx.helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT)
