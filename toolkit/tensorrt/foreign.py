"""Layers and times of an engine that ran elsewhere, as `trtexec` or the inspector wrote them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np

from toolkit.tensorrt.layers import holds_layers, holds_times, key_of, node_of, read_layers, read_times
from toolkit.traces import ExecutedNode, ForeignFiles, ForeignTrace, Trace


def read_foreign(files: ForeignFiles) -> ForeignTrace | None:
    """Return the layers, with their times where those were given; None for other files."""
    given = [file for file in (files.layers, files.times) if file is not None]
    # what a file holds tells what it is, whichever option it came by
    layers = next((file for file in given if holds_layers(file)), None)
    times = next((file for file in given if file is not layers and holds_times(file)), None)
    if len(given) != (layers is not None) + (times is not None):
        return None
    if times is None and layers is not None and holds_times(layers):
        times = layers  # a log of `--dumpLayerInfo --dumpProfile` holds both
    nodes = read_layers(layers.text, what=str(layers.path)) if layers else ()
    if times is None:
        trace = Trace(nodes=nodes, note="no times were imported")
        return ForeignTrace(trace=trace, batch=_batch(nodes))
    names, runs = read_times(times.text, what=str(times.path))
    timed, unmatched = _joined(nodes, names)
    trace = Trace(nodes=timed, node_ms=np.array(runs, dtype=np.float64), runs=len(runs))
    if not layers or not unmatched:
        return ForeignTrace(trace=trace, batch=_batch(nodes))
    both = "its layers and its times" if times is layers else "the files"
    note = (
        f"{unmatched} of {len(names)} timed layers are not in {layers.path.name}: "
        f"{both} are of different builds; those are placed by their names"
    )
    return ForeignTrace(trace=trace, batch=_batch(nodes), notes=(note,))


def _batch(nodes: Sequence[ExecutedNode]) -> int | None:
    """Return what every tensor begins with that the layers write; None where they tell several, or none."""
    begins = {node.output_shape[0] for node in nodes if node.output_shape and len(node.output_shape) > 1}
    return begins.pop() if len(begins) == 1 else None


def _joined(nodes: Sequence[ExecutedNode], names: Sequence[str]) -> tuple[tuple[ExecutedNode, ...], int]:
    """Return a node for each timed layer: the inspector's of that name, else one read from the name."""
    by_name = {node.name: node for node in reversed(nodes)}
    keys = Counter(key_of(node.name) for node in nodes if "[profile" not in node.name)
    by_key = {key: node for node in reversed(nodes) if keys[key := key_of(node.name)] == 1}
    found, unmatched = [], 0
    for name in names:
        node = by_name.get(name) or by_key.get(key_of(name))
        unmatched += node is None
        found.append(dataclasses.replace(node, name=name) if node else node_of(name))
    return tuple(found), unmatched
