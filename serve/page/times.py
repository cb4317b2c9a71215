"""How long each step of an engine takes, under its runtime's own profiler, and which layers it computes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve.page.messages import TimedStep, TimesAnswer
from serve.page.models import PageEngine
from toolkit.answering import filled
from toolkit.artifacts import Artifact
from toolkit.backends import Engine
from toolkit.errors import CnnkitError
from toolkit.graphs.source import graph_path
from toolkit.profiling.rows.claims import module_of
from toolkit.traces import ExecutedNode, NodeSpelling, Trace, without

WINDOWS = 3
# what the traced runs may take together
LASTS_S = 0.6
MOST_RUNS = 60


def times(engine: PageEngine, rows: NDArray[Any]) -> TimesAnswer:
    """Trace an engine of its own, so that nobody who is answered by the served one waits.

    `rows` are one picture as the engine takes it. Raises CnnkitError where it cannot be opened or tells no
    times.
    """
    artifact = engine.artifact
    with engine.entry.backend.open(artifact, replace(engine.entry.opening.options(), yields=False)) as opened:
        trace, runs = _traced(opened, rows)
    if trace.node_ms is None:
        raise CnnkitError(f"{engine.title} tells no time by step here")
    return TimesAnswer(
        engine=engine.id,
        file=artifact.path.name,
        runs=runs,
        steps=steps_of(trace, _graph_of(artifact), engine.entry.backend.spelling),
        total_ms=float(np.median(trace.total_ms)) if trace.total_ms else None,
    )


def _traced(engine: Engine, picture: NDArray[Any]) -> tuple[Trace, int]:
    rows = filled(picture, engine.batch_sizes[0])
    engine.run(rows)
    start = time.perf_counter()
    engine.run(rows)
    once_s = max(1e-6, time.perf_counter() - start)
    runs = int(max(1, min(MOST_RUNS, LASTS_S / WINDOWS / once_s)))
    return engine.trace(rows, windows=WINDOWS, runs=runs), runs * WINDOWS


class LayerGraph:
    """Which layer makes each value of a graph, and what it reads."""

    def __init__(self, nodes: Sequence[tuple[str, tuple[str, ...], tuple[str, ...]]]) -> None:
        """`nodes` are (layer, values read, values made)."""
        self.maker = {value: index for index, (_, _, made) in enumerate(nodes) for value in made}
        self.nodes = nodes

    def claim(self, value: str, taken: set[int], ends: set[str]) -> list[str]:
        """Return the layers that lead to a value from what other steps made; they are `taken` then."""
        found: list[int] = []
        waiting = [value]
        while waiting:
            index = self.maker.get(waiting.pop())
            if index is None or index in taken:
                continue
            taken.add(index)
            found.append(index)
            waiting += [name for name in self.nodes[index][1] if name not in ends]
        return list(dict.fromkeys(self.nodes[index][0] for index in sorted(found)))


def _graph_of(artifact: Artifact) -> LayerGraph | None:
    """Return the graph that an artifact is or was made from, where onnx is here to read it."""
    path = graph_path(artifact)
    if path is None:
        return None
    try:
        from toolkit.graphs.naming import modules_of
        from toolkit.graphs.reading import load_graph

        model = load_graph(path, weights=False)
    except CnnkitError:
        return None
    nodes = []
    for node in model.graph.node:
        modules = modules_of(node)
        layer = modules[0] if modules else module_of(node.name or (node.output[0] if node.output else ""))
        nodes.append((layer, tuple(node.input), tuple(node.output)))
    return LayerGraph(nodes)


def steps_of(trace: Trace, graph: LayerGraph | None, spelling: NodeSpelling) -> list[TimedStep]:
    """Return each executed step with the layers that it computes: those between what it reads and makes.

    What the body of an If or a Loop takes is that one's.
    """
    assert trace.node_ms is not None
    spent: NDArray[np.float64] = np.median(_whole(trace.nodes, trace.node_ms), axis=0)
    made = [_value(node, graph, spelling) for node in trace.nodes]
    ends = {value for value in made if value is not None}
    taken: set[int] = set()
    steps = []
    for node, value, ms in zip(trace.nodes, made, spent, strict=True):
        if node.inside is not None:
            continue
        layers = list(node.modules or ())
        if not layers and not node.moves_data and value is not None and graph is not None:
            layers = graph.claim(value, taken, ends - {value})
        steps.append(TimedStep(layers=layers, ms=float(ms)))
    return steps


def _whole(nodes: Sequence[ExecutedNode], node_ms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (windows, nodes) milliseconds in which an If or a Loop has those of its body, too."""
    whole = node_ms.copy()
    places = {node.name: place for place, node in enumerate(nodes)}
    for place, node in enumerate(nodes):
        around = node.inside
        while around is not None:  # to each that it is inside of
            whole[:, places[around]] += node_ms[:, place]
            around = nodes[places[around]].inside
    return whole


def _value(node: ExecutedNode, graph: LayerGraph | None, spelling: NodeSpelling) -> str | None:
    """Return the graph's value that a step makes, as far as its outputs or its name say."""
    if graph is None or node.moves_data:
        return None
    for value in node.outputs:
        if value in graph.maker:
            return value
    made_for = spelling.made_for.match(node.name) if spelling.made_for else None
    for name in (made_for[1] if made_for else "", without(spelling.taken_in, node.name)):
        if name in graph.maker:
            return name
    return None
