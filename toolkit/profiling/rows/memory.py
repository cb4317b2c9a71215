"""Memory of one column: what the weights hold, and the tensors that live at the same time."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from toolkit.profiling.network.modules import total
from toolkit.profiling.result import Memory
from toolkit.profiling.rows.claims import Claim
from toolkit.profiling.rows.observed import ObservedColumn
from toolkit.traces import ExecutedNode


def memory_of(column: ObservedColumn) -> Memory:
    """Return measured figures beside those predicted from shapes; unknown ones carry their reason.

    The timeline is the measured one where the runtime's allocator tells it for every node.
    """
    trace = column.trace
    if trace is None:
        return Memory(why_null={"weights_bytes": "the profiled run was not reached"})
    told = trace.memory
    why: dict[str, str] = dict(told.why.items())
    weights = told.weights_bytes
    if weights is None and "weights_bytes" not in told.why:
        weights = _weights(trace.nodes)
    places = [_place(entry) for entry in column.claims]
    timeline = live_timeline(trace.nodes, places, column.graph.outputs if column.graph else ())
    predicted = most = max((size for _, size in timeline), default=None)
    if trace.alive_bytes and len(trace.alive_bytes) == len(places):
        names = [place[0] if place else node.name for place, node in zip(places, trace.nodes, strict=True)]
        timeline = list(zip(names, trace.alive_bytes, strict=True))
        most = max(trace.alive_bytes)
    if predicted is None:
        why["predicted_peak_activation_bytes"] = "the tensors between the nodes, or their sizes, are not told"
    if told.workspace_bytes is None:
        why.setdefault("workspace_bytes", "this backend does not tell scratch memory apart from activations")
    if weights is None:
        why.setdefault("weights_bytes", "the runtime does not tell it for every node")
    if column.process_peak_bytes is None:
        why["process_peak_bytes"] = (
            "nothing ran" if column.latency is None else "this system does not tell it"
        )
    return Memory(
        weights_bytes=weights,
        peak_activation_bytes=told.peak_activation_bytes,
        workspace_bytes=told.workspace_bytes,
        process_peak_bytes=column.process_peak_bytes,
        predicted_peak_activation_bytes=predicted,
        peak_module=next((name for name, size in timeline if size == most), None),
        timeline=tuple(timeline),
        why_null=why,
        note=trace.note,
    )


def _place(entry: Claim) -> tuple[str, ...]:
    """Return what a node is called in the timeline: its modules, or whom it moves data for."""
    if entry.modules or not entry.caused_by:
        return entry.modules
    return (f"{entry.node.type} for {entry.caused_by}",)


def _weights(nodes: Sequence[ExecutedNode]) -> int | None:
    return total(node.weights_bytes for node in nodes) if nodes else None


def live_timeline(
    nodes: Sequence[ExecutedNode], modules: Sequence[tuple[str, ...]], outputs: Collection[str] = ()
) -> list[tuple[str, int]]:
    """Return the bytes of tensors alive while each node runs, by the node's first module.

    A tensor lives from the node that writes it to the last one that reads it, one of the network's `outputs`
    to the end. Empty where a size is unknown, and where nobody tells who reads what.
    """
    timed = [(i, node) for i, node in enumerate(nodes) if node.type != "CONSTANT"]
    told = any(node.inputs for _, node in timed)
    if not told or any(node.output_bytes is None for _, node in timed):
        return []
    last: dict[str, int] = {}
    for place, (_, node) in enumerate(timed):
        last |= dict.fromkeys(node.inputs, place)
    last |= dict.fromkeys(outputs, len(timed))
    found: list[tuple[str, int]] = []
    live: list[tuple[int, int]] = []  # a tensor's bytes, and the last place at which it is needed
    for place, (index, node) in enumerate(timed):
        live += _written(node, [last.get(name, place) for name in node.outputs] or [place])
        names = modules[index] if index < len(modules) else ()
        found.append((names[0] if names else node.name, sum(size for size, _ in live)))
        live = [(size, end) for size, end in live if end > place]
    return found


def _written(node: ExecutedNode, ends: Sequence[int]) -> list[tuple[int, int]]:
    """Return each output's bytes and end; where only their sum is told, that and the last of their ends."""
    if len(node.output_sizes) == len(ends):
        return list(zip(node.output_sizes, ends, strict=True))
    return [(node.output_bytes or 0, max(ends))]
