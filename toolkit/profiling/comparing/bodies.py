"""What a node runs inside itself: the branches of an If, the body of a Loop, a function of the file's own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from toolkit.graphs.weights import dense
from toolkit.profiling.comparing.nodes import settings_of, stored_in, tensor_of
from toolkit.profiling.comparing.parts import WeightTensor

# operators that are named; the code behind them stands for all
NAMED = 3


@dataclass(frozen=True, kw_only=True)
class NodeBodies:
    """A node's bodies in words by their attribute, their constants, and what they read around them, in order.

    The words tell operators, and a code in which the order, the wiring and the settings count, too, and no
    name of a node or a value does.
    """

    settings: Mapping[str, str]
    constants: tuple[WeightTensor, ...]
    reads: tuple[str, ...]


def bodies_of(node: Any, functions: Mapping[tuple[str, str], Any]) -> NodeBodies:
    """Take the bodies of a node apart; `functions` are those of its file, by domain and name."""
    reader = _BodyReader()
    settings: dict[str, str] = {}
    for attribute in node.attribute:
        for graph in _graphs_in(attribute):
            settings[_free(attribute.name, settings)] = reader.told(graph)
    function = functions.get((node.domain, node.op_type))
    if function is not None:
        settings["function"] = reader.told_function(function)
    return NodeBodies(settings=settings, constants=tuple(reader.constants), reads=tuple(reader.outer))


def _graphs_in(attribute: Any) -> tuple[Any, ...]:
    return (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs)


def _free(name: str, taken: Mapping[str, str]) -> str:
    return name if name not in taken else f"{name} {sum(one.startswith(name) for one in taken)}"


class _BodyReader:
    """Names what bodies hold and make by their places, and keeps what they read around them."""

    def __init__(self) -> None:
        self.constants: list[WeightTensor] = []
        self.outer: dict[str, str] = {}
        self._values = 0

    def told(self, graph: Any) -> str:
        lines, ops = list(self._graph(graph, {})), [node.op_type for node in graph.node]
        return _words(lines, ops)

    def told_function(self, function: Any) -> str:
        names = {name: f"given {place}" for place, name in enumerate(function.input)}
        lines = list(self._nodes(function.node, names, list(function.output)))
        return _words(lines, [node.op_type for node in function.node])

    def _graph(self, graph: Any, around: Mapping[str, str]) -> Iterator[str]:
        names = dict(around)
        for value in graph.input:
            names[value.name] = self._value()
        yield f"takes {len(graph.input)}"
        for tensor in graph.initializer:
            names[tensor.name] = self._constant(tensor_of(tensor))
        for sparse in graph.sparse_initializer:
            names[sparse.values.name] = self._constant(tensor_of(dense(sparse)))
        yield from self._nodes(graph.node, names, [value.name for value in graph.output])

    def _nodes(self, nodes: Sequence[Any], names: dict[str, str], outputs: list[str]) -> Iterator[str]:
        for node in nodes:
            held = [self._constant(tensor) for _, tensor in stored_in(node)]
            if node.op_type == "Constant" and held:
                names[node.output[0]] = held[0]
                continue
            taken = [self._name(name, names) for name in node.input]
            while taken and not taken[-1]:  # an optional input that is left out, or written as left out
                taken.pop()
            yield f"{node.domain}.{node.op_type} {taken} {held} {sorted(settings_of(node).items())}"
            for attribute in node.attribute:
                for graph in _graphs_in(attribute):
                    yield attribute.name
                    yield from self._graph(graph, names)
            for name in node.output:
                names[name] = self._value()
        yield f"gives {[self._name(name, names) for name in outputs]}"

    def _name(self, name: str, names: Mapping[str, str]) -> str:
        if not name or name in names:
            return names[name] if name else ""
        return self.outer.setdefault(name, f"around {len(self.outer)}")

    def _value(self) -> str:
        self._values += 1
        return f"value {self._values}"

    def _constant(self, tensor: WeightTensor) -> str:
        self.constants.append(tensor)
        return f"constant {len(self.constants)}"


def _words(lines: Sequence[str], ops: Sequence[str]) -> str:
    computing = [op for op in ops if op != "Constant"]
    more = f" and {len(computing) - NAMED} more" if len(computing) > NAMED else ""
    code = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:8]
    return f"{', '.join(computing[:NAMED])}{more} ({code})"
