"""An ONNX file taken apart: a part a module, with every constant that its nodes read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from toolkit.figures import shape_text
from toolkit.graphs import GRAPH
from toolkit.graphs.counting import CONVERSIONS, SourceGraph, SourceNode, count_graph
from toolkit.graphs.ordering import inner_graphs
from toolkit.graphs.reading import load_graph
from toolkit.profiling.comparing.parts import NetworkPart, ReadNetwork, WeightTensor

if TYPE_CHECKING:
    from onnx import NodeProto

# what an operator's inputs are called where a layer of torch has a name for them
ROLES = {
    "Conv": ("", "weight", "bias"),
    "ConvTranspose": ("", "weight", "bias"),
    "Gemm": ("", "weight", "bias"),
    "BatchNormalization": ("", "weight", "bias", "running_mean", "running_var"),
}
T = TypeVar("T")

NUMBERS = {
    **dict.fromkeys(("value_float", "value_floats"), np.float32),
    **dict.fromkeys(("value_int", "value_ints"), np.int64),
}


def graph_network(path: Path) -> ReadNetwork:
    """Take an ONNX file apart, nodes of one module together. Raises CorruptError, NotFoundError."""
    import onnx

    graph = count_graph(path, batch=1)
    model = onnx.load_from_string(graph.renamed) if graph.renamed else load_graph(path)
    taken = _TakenGraph(graph, {node.name: node for node in model.graph.node}, _Constants(model))
    parts: dict[tuple[str, ...], NetworkPart] = {}
    conversions: dict[str, int] = {}
    for node in graph.nodes:
        if not node.modules:
            conversions[node.op] = conversions.get(node.op, 0) + 1
            continue
        own = taken.part(node)
        known = parts.get(node.modules)
        parts[node.modules] = _joined(known, own) if known else own
    for name in graph.outputs:
        made, converts = taken.behind_output(name)
        for key, part in parts.items():
            if made in part.writes:
                parts[key] = replace(part, converts=_beside(part.converts, converts, name))
    ends = {f"input {name}": f"{kind} {shape_text(shape)}" for name, (kind, shape) in graph.inputs.items()}
    ends |= {f"output {value.name}": _told(value) for value in model.graph.output}
    return ReadNetwork(
        name=str(path), dialect=GRAPH, parts=tuple(parts.values()), ends=ends, conversions=conversions
    )


def _told(value: Any) -> str:
    import onnx

    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not tensor.elem_type:
        return "no tensor"
    dims = [d.dim_value if d.dim_value > 0 else None for d in tensor.shape.dim]
    return f"{onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)} {shape_text(dims)}"


@dataclass(frozen=True)
class _TakenGraph:
    graph: SourceGraph
    protos: Mapping[str, NodeProto]
    constants: _Constants

    def part(self, node: SourceNode) -> NetworkPart:
        """Return one node of a module as a part."""
        proto, known = self.protos.get(node.name), self.graph.constants
        weights: dict[str, WeightTensor] = {}
        converts: dict[str, WeightTensor] = {}
        for place, name in enumerate(proto.input if proto is not None else ()):
            role = _role(node.op, node.domain, place)
            if name in known:
                for own, tensor, converting in self.constants.behind(name, role):
                    (converts if converting else weights)[own] = tensor
            else:
                converts |= self._converted(name, role)[1]
        for place, tensor in enumerate(_inside(proto) if proto is not None else ()):
            weights[f"constant {place} inside"] = tensor
        return NetworkPart(
            modules=node.modules,
            type=node.type,
            ops=(f"{node.domain}.{node.op}" if node.domain else node.op,),
            output_shape=node.output_shape,
            settings=_settings(proto) if proto is not None else {},
            weights=weights,
            converts=converts,
            reads=tuple(name for name in node.inputs if name not in known),
            writes=node.outputs,
        )

    def behind_output(self, name: str) -> tuple[str, dict[str, WeightTensor]]:
        """Return what makes a tensor before what only converts it, and the constants of the latter."""
        return self._converted(name, "output")

    def _converted(self, name: str, role: str) -> tuple[str, dict[str, WeightTensor]]:
        """Go back from a tensor through nodes of no module; return where they start, and what they hold."""
        found: dict[str, WeightTensor] = {}
        while (node := self._makers.get(name)) is not None and not node.modules:
            proto = self.protos[node.name]
            given = [one for one in proto.input if one and one not in self.graph.constants]
            for place, one in enumerate(proto.input):
                if one in self.graph.constants:
                    slot = f"{role} {_role(node.op, node.domain, place)}"
                    told = {own: tensor for own, tensor, _ in self.constants.behind(one, slot)}
                    found = _beside(found, told, node.op)
            if not given:
                break
            name = given[0]
        return name, found

    @cached_property
    def _makers(self) -> dict[str, SourceNode]:
        return {name: node for node in self.graph.nodes for name in node.outputs}


class _Constants:
    """The constant tensors of a graph by name, also behind what converts, reorders or combines them."""

    def __init__(self, model: Any) -> None:
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self._makers = {name: node for node in model.graph.node for name in node.output}

    def behind(self, name: str, role: str) -> Iterator[tuple[str, WeightTensor, bool]]:
        """Yield what a constant is made of: its role, the tensor, and whether it only says how to convert.

        What a node's first input is made of goes by the constant's own role.
        """
        waiting, seen = [(name, role, False)], {name}
        while waiting:
            name, role, converting = waiting.pop()
            if name in self._tensors:
                yield role, _tensor(self._tensors[name]), converting
                continue
            maker = self._makers.get(name)
            if maker is None:
                continue
            for inner, value in _stored(maker):
                yield f"{role}{inner}", value, converting
            for place, given in enumerate(maker.input):
                if given and given not in seen:
                    seen.add(given)
                    slot = f"{role} {_role(maker.op_type, maker.domain, place)}" if place else role
                    waiting.append((given, slot, converting or bool(place and maker.op_type in CONVERSIONS)))


def _stored(node: Any) -> Iterator[tuple[str, WeightTensor]]:
    """Yield the constants in a node's attributes, named as those are: of a Constant there is but one."""
    import onnx

    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield "" if node.op_type == "Constant" else f" {attribute.name}", _tensor(attribute.t)
        elif node.op_type == "Constant" and attribute.name in NUMBERS:
            values = np.asarray(onnx.helper.get_attribute_value(attribute), NUMBERS[attribute.name])
            yield "", WeightTensor(shape=values.shape, dtype=str(values.dtype), values=values)


def _inside(node: Any) -> Iterator[WeightTensor]:
    """Yield the constants of a node's bodies, and of bodies inside those."""
    for graph in inner_graphs(node):
        yield from map(_tensor, graph.initializer)
        for inner in graph.node:
            yield from (value for _, value in _stored(inner))
            yield from _inside(inner)


def _tensor(stored: Any) -> WeightTensor:
    from onnx import numpy_helper

    values = numpy_helper.to_array(stored)
    return WeightTensor(shape=values.shape, dtype=str(values.dtype), values=values)


def _role(op: str, domain: str, place: int) -> str:
    """Return what an input is to its node: as torch calls it, as its operator does, or by its place."""
    import onnx

    roles = ROLES.get(op, ())
    if not roles and not domain and onnx.defs.has(op):
        roles = tuple(given.name for given in onnx.defs.get_schema(op).inputs)
    return (roles[place] if place < len(roles) else "") or f"input {place}"


def _settings(proto: Any) -> dict[str, str]:
    """Return a node's attributes as text, those that are left out with their defaults."""
    import onnx

    found: dict[str, str] = {}
    if not proto.domain and onnx.defs.has(proto.op_type):
        schema = onnx.defs.get_schema(proto.op_type)
        found = {
            name: _text(one.default_value)
            for name, one in schema.attributes.items()
            if one.default_value.name
        }
    return found | {a.name: _text(a) for a in proto.attribute if not (a.HasField("g") or a.HasField("t"))}


def _text(attribute: Any) -> str:
    import onnx

    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return str(list(value)) if hasattr(value, "__len__") and not isinstance(value, str) else f"{value:g}"


def _joined(first: NetworkPart, second: NetworkPart) -> NetworkPart:
    """Return two nodes of one module as one part: it puts out what the later of them does."""
    op = second.ops[0]
    return NetworkPart(
        modules=first.modules,
        type=first.type,
        ops=(*first.ops, *second.ops),
        output_shape=second.output_shape,
        settings=_beside(first.settings, second.settings, op),
        weights=_beside(first.weights, second.weights, op),
        converts=_beside(first.converts, second.converts, op),
        reads=(*first.reads, *(name for name in second.reads if name not in first.writes)),
        writes=(*first.writes, *second.writes),
    )


def _beside(first: Mapping[str, T], second: Mapping[str, T], op: str) -> dict[str, T]:
    """Return two nodes' entries together; a name that both have is that of the second's operator, too."""
    found = dict(first)
    for name, value in second.items():
        number, own = 1, name
        while own in found:
            own = f"{op} {name}" + (f"#{number}" if number > 1 else "")
            number += 1
        found[own] = value
    return found
