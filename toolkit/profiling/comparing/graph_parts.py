"""An ONNX file taken apart: a part a module, with every constant that its nodes read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from toolkit.figures import shape_text
from toolkit.graphs import GRAPH
from toolkit.graphs.counting import CONVERSIONS, SourceGraph, SourceNode, count_model, name_nodes
from toolkit.graphs.facts import opset_of
from toolkit.graphs.normalising import without_functions
from toolkit.graphs.reading import load_graph
from toolkit.graphs.weights import dense
from toolkit.profiling.comparing.bodies import bodies_of
from toolkit.profiling.comparing.nodes import (
    SOFTMAXES,
    cast_to,
    role_of,
    settings_of,
    softmax_axis,
    stored_in,
    tensor_of,
)
from toolkit.profiling.comparing.parts import NetworkPart, ReadNetwork, WeightTensor

if TYPE_CHECKING:
    from onnx import NodeProto

T = TypeVar("T")


def graph_network(path: Path) -> ReadNetwork:
    """Take an ONNX file apart, nodes of one module together. Raises CorruptError, NotFoundError."""
    model = _written_out(load_graph(path))
    name_nodes(model, path)
    graph = count_model(model, batch=1)
    taken = _TakenGraph(graph, model, {node.name: node for node in model.graph.node}, _Constants(model))
    parts: dict[tuple[str, ...], NetworkPart] = {}
    conversions: dict[str, int] = {}
    for node in graph.nodes:
        if not node.modules:
            kind = f"Cast to {cast_to(taken.protos[node.name])}" if node.op == "Cast" else node.op
            conversions[kind] = conversions.get(kind, 0) + 1
            continue
        own = taken.part(node)
        known = parts.get(node.modules)
        parts[node.modules] = _joined(known, own) if known else own
    answers: dict[str, str] = {}
    for name in graph.outputs:
        made, converts = taken.behind_output(name)
        answers[name] = made
        for key, part in parts.items():
            if made in part.writes:
                parts[key] = replace(part, converts=_beside(part.converts, converts, name))
    ends = {f"input {name}": f"{kind} {shape_text(shape)}" for name, (kind, shape) in graph.inputs.items()}
    ends |= {f"output {value.name}": _told(value) for value in model.graph.output}
    return ReadNetwork(
        name=str(path),
        dialect=GRAPH,
        parts=tuple(parts.values()),
        ends=ends,
        conversions=conversions,
        given=tuple(graph.inputs),
        answers=answers,
    )


def _written_out(model: Any) -> Any:
    """Return a graph with its own functions in the place of their calls, and sparse weights made dense."""
    model = without_functions(model)
    model.graph.initializer.extend(dense(sparse) for sparse in model.graph.sparse_initializer)
    del model.graph.sparse_initializer[:]
    return model


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
    model: Any
    protos: Mapping[str, NodeProto]
    constants: _Constants

    def part(self, node: SourceNode) -> NetworkPart:
        """Return one node of a module as a part."""
        proto, known = self.protos[node.name], self.graph.constants
        weights: dict[str, WeightTensor] = {}
        converts: dict[str, WeightTensor] = {}
        bodies = bodies_of(proto, self._functions)
        settings = {**settings_of(proto), **bodies.settings}
        if node.op in SOFTMAXES and not node.domain and node.output_shape:
            settings["axis"] = softmax_axis(proto, opset_of(self.model), len(node.output_shape))
        read = [(name, role_of(node.op, node.domain, place)) for place, name in enumerate(proto.input)]
        inside = [(name, f"constant inside, {place}") for place, name in enumerate(bodies.reads)]
        takes = []
        for name, role in (*read, *inside):
            if not name or name in known:
                takes.append("")
            else:
                made, by = self._converted(name, role)
                takes.append(made)
                converts |= by
            if name in known:
                for own, tensor, converting in self.constants.behind(name, role):
                    (converts if converting else weights)[own] = tensor
                settings |= self.constants.makers_of(name, role)
        weights |= {name.strip(): tensor for name, tensor in stored_in(proto)}
        for place, tensor in enumerate(bodies.constants):
            weights[f"constant {place} inside"] = tensor
        return NetworkPart(
            modules=node.modules,
            type=node.type,
            ops=(f"{node.domain}.{node.op}" if node.domain else node.op,),
            output_shape=node.output_shape,
            settings=settings,
            weights=weights,
            converts=converts,
            reads=tuple(name for name in node.inputs if name not in known),
            writes=node.outputs,
            takes=(tuple(takes),),
            makes=(tuple(proto.output),),
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
                    slot = f"{role} {role_of(node.op, node.domain, place)}"
                    told = {own: tensor for own, tensor, _ in self.constants.behind(one, slot)}
                    found = _beside(found, told, node.op)
            if not given:
                break
            name = given[0]
        return name, found

    @cached_property
    def _functions(self) -> dict[tuple[str, str], Any]:
        return {(one.domain, one.name): one for one in self.model.functions}

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
        for place in self._places(name, role):
            if place.name in self._tensors:
                yield place.role, tensor_of(self._tensors[place.name]), place.converting
            elif place.maker is not None:
                for inner, value in stored_in(place.maker):
                    yield f"{place.role}{inner}", value, place.converting

    def makers_of(self, name: str, role: str) -> dict[str, str]:
        """Return in words what computes a constant from what is stored, by role, the last of them first."""
        found: dict[str, list[str]] = {}
        for place in self._places(name, role):
            step = _step(place.maker, place.name, self._tensors) if place.maker is not None else None
            if step is not None:
                found.setdefault(f"{place.role} made by", []).append(step)
        return {told: ", ".join(steps) for told, steps in found.items()}

    def _places(self, name: str, role: str) -> Iterator[_ConstantPlace]:
        waiting, seen = [(name, role, False)], {name}
        while waiting:
            name, role, converting = waiting.pop()
            maker = None if name in self._tensors else self._makers.get(name)
            yield _ConstantPlace(name, role, converting, maker)
            if maker is None:
                continue
            for place, given in enumerate(maker.input):
                if given and given not in seen:
                    seen.add(given)
                    slot = f"{role} {role_of(maker.op_type, maker.domain, place)}" if place else role
                    waiting.append((given, slot, converting or bool(place and maker.op_type in CONVERSIONS)))


@dataclass(frozen=True)
class _ConstantPlace:
    """One tensor that a constant is made of, and the node that makes it; None where it is stored."""

    name: str
    role: str
    converting: bool
    maker: Any


def _step(maker: Any, made: str, tensors: Mapping[str, Any]) -> str | None:
    """Return in words what a node makes of constants; None for one that only hands on or holds a value."""
    if maker.op_type == "Identity" or (maker.op_type == "Constant" and any(stored_in(maker))):
        return None
    if maker.op_type == "Cast":
        return f"Cast to {cast_to(maker)}"
    settings = settings_of(maker)
    if maker.op_type in CONVERSIONS and prod(getattr(tensors.get(maker.input[1]), "dims", (2,))) == 1:
        settings.pop("axis", None)  # of one scale for all there is none, whatever is written
    told = [f"{name} {value}" for name, value in settings.items()]
    told += [f"output {list(maker.output).index(made)}"] * (len(maker.output) > 1)
    return f"{maker.op_type} ({', '.join(told)})" if told else str(maker.op_type)


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
        takes=(*first.takes, *second.takes),
        makes=(*first.makes, *second.makes),
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
