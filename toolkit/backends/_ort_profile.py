"""ONNX Runtime's optimized graph and its profile → the nodes it executed, with their times and memory.

The profile is an array of Chrome-trace events; a node's is `<node>_kernel_time` with `dur` in whole
microseconds. A LeNet node lasts 2 to 5 of them, so means over many runs are taken, never single values.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from toolkit.errors import CorruptError
from toolkit.graphs.ordering import inner_graphs, reads_of
from toolkit.graphs.reading import load_graph
from toolkit.schema import Amount
from toolkit.traces import ExecutedNode, NodeSpelling, Trace, TraceMemory, trimmed_mean

NODE, SUFFIX = "Node", "_kernel_time"  # the category of a node's events, and what their names end in
LAUNCHES = (
    "rows have no times: ONNX Runtime tells how long it took to launch a GPU's kernels, not to run them"
)
NO_ARENA = "ONNX Runtime's profile holds no arena events for this device"
CPU_PROVIDER = "CPUExecutionProvider"
MOST_NAMED = 5
# ONNX Runtime's blocked kernels take other kernels into themselves after they are named
FOLLOWS = frozenset(
    {"Add", "Sum", "Relu", "Clip", "Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid", "HardSwish"}
)
SPELLING = NodeSpelling(
    made_for=re.compile(r"^(?:fused )?(.+?)(?:_(?:bn|mul))?_nchwc(?:_token_\d+)?$"),
    # what takes other kernels into itself says so
    taken_in=re.compile(r"^fused |/MatMulAddFusion|/QuickGeluFusion/|_token_\d+$"),
    # what layout transformation copies is numbered
    numbered=re.compile(r"_token_\d+$"),
    # what it moves between fp16 and fp32, and what it moves a quantization across
    moved=re.compile(r"^InsertedPrecisionFreeCast_|_(?:pre|post)_d?q$"),
    follows=FOLLOWS,
    # what it folds into the weights of the node before leaves no name either
    folds=FOLLOWS | {"BatchNormalization", "Mul"},
    undoes=frozenset({"ReorderOutput"}),
)
# operators whose bodies are graphs of their own, whose kernels are told while the operator's own runs
BODIES = frozenset({"If", "Loop", "Scan"})
INSIDE = " › "
# operators that ONNX Runtime puts in to change a layout, a type or a device
MOVES = frozenset({"ReorderInput", "ReorderOutput", "MemcpyFromHost", "MemcpyToHost"})
ITEM_BYTES = {
    **dict.fromkeys(("float", "int32", "uint32"), 4),
    **dict.fromkeys(("float16", "bfloat16", "int16", "uint16"), 2),
    **dict.fromkeys(("double", "int64", "uint64"), 8),
    **dict.fromkeys(("int8", "uint8", "bool"), 1),
}


# by the name of a type; a sequence or a map has none, and a dimension that is open has a name
Shapes = Mapping[str, tuple[int | str, ...]]


class EventFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a profile tells of one call of a node; the memory of its arena in bytes, as text.

    `provider` is the one whose kernel ran: `CPUExecutionProvider` also on a GPU that lacks the operator.
    """

    op_name: str | None = None
    input_type_shape: tuple[Shapes, ...] = ()
    output_type_shape: tuple[Shapes, ...] = ()
    mem_bytes_in_use: str | int | None = None
    mem_in_use_delta: str | int | None = None
    mem_in_use_peak: str | int | None = None
    provider: str | None = None


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a profile: when it began and how long it took, in microseconds."""

    name: str = ""
    cat: str = ""
    ts: Amount = 0.0
    dur: Amount | None = None
    args: EventFacts | None = None

    @property
    def facts(self) -> EventFacts:
        """Return what is told of the call; nothing where nothing is."""
        return self.args or EventFacts()

    @property
    def ms(self) -> float:
        """Return how long it took, in milliseconds, which every event in question tells."""
        return (self.dur or 0.0) / 1e3


def read_events(path: Path) -> tuple[Event, ...]:
    """Read a profile that ONNX Runtime has just written. Raises CorruptError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=tuple[Event, ...])
    except msgspec.MsgspecError as error:
        raise CorruptError(f"ONNX Runtime's profile {path} cannot be read: {error}") from None


@dataclass(frozen=True, kw_only=True)
class OptimizedGraph:
    """What ONNX Runtime made of a graph: its nodes by name, those of bodies too; the bytes of all weights.

    Each node has the bytes of the constants that it is the first to read.
    """

    nodes: Mapping[str, ExecutedNode] = field(default_factory=dict)
    weights_bytes: int | None = None


def read_optimized(path: Path) -> OptimizedGraph:
    """Read an optimized graph. A weight that several nodes read is there once."""
    found: dict[str, ExecutedNode] = {}
    whole = _read_nodes(load_graph(path, weights=False).graph, {}, "", found)
    return OptimizedGraph(nodes=found, weights_bytes=whole)


def _read_nodes(graph: Any, around: dict[str, int], prefix: str, found: dict[str, ExecutedNode]) -> int:
    """Add the nodes of a graph and of its bodies to `found`; return the bytes of the weights in them.

    `around` are the weights of the graphs around it that no node has read yet.
    """
    from onnx.helper import tensor_dtype_to_np_dtype as dtype_of

    own = {t.name: int(prod(t.dims)) * dtype_of(t.data_type).itemsize for t in graph.initializer}
    whole: int = sum(own.values())
    unread = around | own
    nameless: Counter[str] = Counter()
    for node in graph.node:
        name = prefix + (node.name or nameless_key(node.op_type, nameless))
        fresh = sum(unread.pop(one, 0) for one in node.input)
        twice = name in found  # both branches of an If may have a node of that name, of which one runs
        found[name] = ExecutedNode(
            name=name,
            type=node.op_type,
            inputs=tuple(dict.fromkeys([*filter(None, node.input), *sorted(reads_of(node))])),
            outputs=tuple(name for name in node.output if name),
            weights_bytes=None if twice else fresh,
            activation=next((a.s.decode() for a in node.attribute if a.name == "activation"), None),
        )
        for body in inner_graphs(node):
            whole += _read_nodes(body, unread, f"{name}{INSIDE}", found)
    for name in around.keys() - unread.keys():
        del around[name]
    return whole


def nameless_key(kind: str, counts: Counter[str]) -> str:
    """Return what the next node of an operator without a name is kept by: the optimizer makes such nodes."""
    counts[kind] += 1
    return f" {kind} {counts[kind]}"


def read_profile(
    events: Sequence[Event],
    graph: OptimizedGraph,
    *,
    windows: int,
    runs: int,
    totals: tuple[float, ...],
    timed: bool = True,
) -> Trace:
    """Turn a profile of one warm-up and `windows` × `runs` runs into a Trace.

    Without `timed` the nodes' times are left out: a GPU's node is told to last as long as its launch.
    """
    calls = calls_by_node(events)
    # the warm-up calls a node of a loop as often as a run does
    warm = {name: max(1, len(own) // (windows * runs + 1)) for name, own in calls.items()}
    durations = (np.array([event.ms for event in own[warm[name] :]]) for name, own in calls.items())
    times = np.array([_by_window(each, windows=windows, runs=runs) for each in durations])
    firsts = {name: own[0] for name, own in calls.items()}
    notes = () if timed else (LAUNCHES, fallen_back(firsts))
    return Trace(
        nodes=_nodes(calls, graph.nodes),
        node_ms=times.reshape(-1, windows).T if timed else None,
        total_ms=totals,
        runs=windows * runs,
        memory=_memory([*firsts.values()], graph.weights_bytes),
        note="; ".join(filter(None, notes)) or None,
    )


def fallen_back(firsts: Mapping[str, Event]) -> str | None:
    """Say which nodes of a session on a GPU ran on the CPU, by their first events; None where none did."""
    names = [
        f"{name} ({event.facts.op_name or 'unknown'})"
        for name, event in firsts.items()
        if event.facts.provider == CPU_PROVIDER
    ]
    if not names:
        return None
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    named = ", ".join(names[:MOST_NAMED]) + more
    share = f"{len(names)} of its {len(firsts)} nodes"
    return f"{share} ran on the CPU, as the GPU's provider has no kernel for them: {named}"


def _nodes(calls: Mapping[str, list[Event]], graph: Mapping[str, ExecutedNode]) -> tuple[ExecutedNode, ...]:
    """Return the executed nodes; one that the profile numbers is the graph's next nameless one."""
    nameless: dict[str, Counter[str]] = defaultdict(Counter)
    found = []
    for name, own in calls.items():
        kind, known = own[0].facts.op_name or "", graph.get(name)
        body, inside, plain = name.rpartition(INSIDE)
        if known is None and plain.removeprefix(f"{kind}_").isdigit():
            known = graph.get(body + inside + nameless_key(kind, nameless[body]))
        found.append(executed(name, own[0], known))
    return tuple(found)


def calls_by_node(events: Sequence[Event]) -> dict[str, list[Event]]:
    """Return each node's timed kernel events in the order of time; nodes in the order of execution.

    A node of the body of an If or a Loop ran while that one did: its name begins with that one's, and its
    time is taken off that one's.
    """
    found: dict[str, list[Event]] = defaultdict(list)
    open_bodies: list[tuple[str, float]] = []
    nodes = [event for event in events if _is_kernel(event)]
    for event in sorted(nodes, key=lambda event: (event.ts, -(event.dur or 0.0))):
        while open_bodies and event.ts >= open_bodies[-1][1]:
            open_bodies.pop()
        parent = open_bodies[-1][0] if open_bodies else None
        name = event.name.removesuffix(SUFFIX)
        name = f"{parent}{INSIDE}{name}" if parent else name
        if parent:
            outer = found[parent][-1]
            rest = max(0.0, (outer.dur or 0.0) - (event.dur or 0.0))
            found[parent][-1] = msgspec.structs.replace(outer, dur=rest)
        found[name].append(event)
        if event.facts.op_name in BODIES:
            open_bodies.append((name, event.ts + (event.dur or 0.0)))
    return dict(found)


def _is_kernel(event: Event) -> bool:
    return event.cat == NODE and event.name.endswith(SUFFIX) and event.dur is not None


def _by_window(durations: NDArray[np.float64], *, windows: int, runs: int) -> NDArray[np.float64]:
    """Return the time a run spends in a node, per window; a node in a loop is called more than once."""
    if len(durations) == windows * runs:
        return trimmed_mean(durations.reshape(windows, runs))
    return np.array([part.sum() / runs for part in np.array_split(durations, windows)])


def executed(name: str, event: Event, node: ExecutedNode | None = None) -> ExecutedNode:
    """Return one executed node from its first event and its node in the optimized graph."""
    kind = event.facts.op_name or (node.type if node else "unknown")
    shapes = event.facts.output_type_shape
    first = next(iter(shapes[0].items()), None) if shapes else None
    shape = closed(first[1]) if first else None
    sizes = _output_sizes(shapes)
    return dataclasses.replace(
        node or ExecutedNode(name=name, type=kind),
        name=name,
        inside=name.rpartition(INSIDE)[0] or None,
        moves_data=kind in MOVES,
        output_shape=shape,
        output_dtype=first[0] if first else None,
        output_bytes=None if sizes is None else sum(sizes),
        output_sizes=sizes or (),
    )


def _output_sizes(shapes: Sequence[Shapes]) -> tuple[int, ...] | None:
    """Return each output's bytes; None where one of them is not told."""
    tensors = [(dtype, closed(shape)) for entry in shapes for dtype, shape in entry.items()]
    known = [
        (ITEM_BYTES[dtype], shape) for dtype, shape in tensors if dtype in ITEM_BYTES and shape is not None
    ]
    return (
        tuple(prod(shape) * size for size, shape in known) if shapes and len(known) == len(tensors) else None
    )


def closed(shape: Sequence[int | str]) -> tuple[int, ...] | None:
    """Return a shape of numbers; None where a dimension is told by its name alone."""
    numbers = tuple(extent for extent in shape if isinstance(extent, int))
    return numbers if len(numbers) == len(shape) else None


def _memory(first: Sequence[Event], weights_bytes: int | None) -> TraceMemory:
    """Read the arena's use in the very first run, the only one that allocates tensor by tensor."""
    told = [event.facts for event in first]
    opening = _numbers((told[0].mem_bytes_in_use, told[0].mem_in_use_delta)) if told else []
    peaks = _numbers(a.mem_in_use_peak for a in told)
    if len(opening) < 2 or not peaks:
        return TraceMemory(weights_bytes=weights_bytes, why={"peak_activation_bytes": NO_ARENA})
    in_use, delta = opening
    return TraceMemory(weights_bytes=weights_bytes, peak_activation_bytes=max(peaks) - in_use + delta)


def _numbers(told: Iterable[str | int | None]) -> list[int]:
    return [int(value) for value in told if value is not None]
