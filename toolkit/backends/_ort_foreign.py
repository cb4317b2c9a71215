"""ONNX Runtime's own profile, written by another program: its runs cut apart, its batch by its shapes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from toolkit import schema
from toolkit.backends._ort_profile import NODE, Event, Shapes, calls_by_node, closed, executed
from toolkit.errors import CnnkitError, CorruptError
from toolkit.traces import ForeignFiles, ForeignTrace, Trace, trimmed_mean

RUN = "model_run"  # the event of one call of the network


def read_foreign(files: ForeignFiles) -> ForeignTrace | None:
    """Return a profile's trace; None where the file is none of ONNX Runtime's. Raises CorruptError."""
    file = files.layers or files.times
    data = file.data if file else None
    entries = data if isinstance(data, list) else []
    known = any(isinstance(e, Mapping) and e.get("cat") == NODE for e in entries)
    if file is None or not known or None not in (files.layers, files.times):
        return None  # a profile has its times in itself: another file beside it is not its own
    events = schema.convert(tuple[Event, ...], data, what=str(file.path), again="write the profile again")
    calls = calls_by_node(events)
    if not calls:
        raise CorruptError(
            f"{file.path} holds no kernel's time; `enable_profiling` of ONNX Runtime writes them"
        )
    events = _of_one_batch(events, files)
    calls = calls_by_node(events)
    trace = _trace(events, calls)
    if files.shape is None:
        nodes = tuple(dataclasses.replace(node, origins=(node.name,)) for node in trace.nodes)
        trace = dataclasses.replace(trace, nodes=nodes)
    return ForeignTrace(trace=trace, batch=_batch([own[0] for own in calls.values()], files.shape))


def _trace(events: Sequence[Event], calls: Mapping[str, list[Event]]) -> Trace:
    runs = [event for event in events if event.name == RUN]
    starts = _starts(events, calls)
    times = np.array([_by_run(own, starts) for own in calls.values()])
    # the first run pays for arenas and packing
    skip = 1 if times.shape[1] > 1 else 0
    totals = np.array([event.ms for event in runs[skip:]])
    return Trace(
        nodes=tuple(executed(name, own[0]) for name, own in calls.items()),
        node_ms=trimmed_mean(times[:, skip:])[np.newaxis],
        total_ms=(float(trimmed_mean(totals)),) if len(totals) else (),
        runs=times.shape[1] - skip,
    )


def _starts(events: Sequence[Event], calls: Mapping[str, list[Event]]) -> NDArray[np.float64]:
    """Return when each run began: where the node that opens one is called, where runs have no events."""
    runs = [event for event in events if event.name == RUN]
    return np.sort([event.ts for event in runs or next(iter(calls.values()))])


def _of_one_batch(events: tuple[Event, ...], files: ForeignFiles) -> tuple[Event, ...]:
    """Return the events of the runs at the batch that was asked for, of a profile of several.

    Raises CnnkitError where none was asked for, or one that is not there.
    """
    calls = calls_by_node(events)
    starts = _starts(events, calls)
    places = np.searchsorted(starts, [event.ts for event in events], side="right") - 1
    runs: dict[int, list[Event]] = {}
    for event, place in zip(events, places.tolist(), strict=True):
        runs.setdefault(place, []).append(event)
    kernels = {place: [e for e in own if e.cat == NODE] for place, own in runs.items()}
    batches = {place: _batch(own, files.shape) for place, own in kernels.items() if own}
    known = sorted({batch for batch in batches.values() if batch is not None})
    if len(known) < 2:
        return events
    if files.batch not in known:
        given = files.layers or files.times
        assert given is not None
        said = " and ".join(map(str, known))
        raise CnnkitError(f"{given.path} holds runs at batch {said}: `--batch {known[0]}` reads those of one")
    return tuple(e for place, own in runs.items() if batches.get(place) == files.batch for e in own)


def _by_run(calls: Sequence[Event], starts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the milliseconds that each run spends in a node, which a loop calls more than once a run."""
    spent = np.zeros(len(starts))
    places = np.searchsorted(starts, [event.ts for event in calls], side="right") - 1
    np.add.at(spent, np.maximum(places, 0), [event.ms for event in calls])
    return spent


def _batch(first: Sequence[Event], shape: Sequence[int | None] | None) -> int | None:
    """Return the batch that the shapes in nodes' first calls tell; None where they tell none.

    It is that of the first tensor of the network's input `shape`. Without one it is what every tensor
    begins with that the nodes write.
    """
    if shape:
        read = _shapes(event.facts.input_type_shape for event in first)
        return next((found[0] for found in read if found and _fits(found[1:], shape[1:])), None)
    begins = {found[0] for found in _shapes(event.facts.output_type_shape for event in first) if found}
    return begins.pop() if len(begins) == 1 else None


def _shapes(told: Iterable[Sequence[Shapes]]) -> list[tuple[int, ...]]:
    shapes = (closed(shape) for entries in told for entry in entries for shape in entry.values())
    return [shape for shape in shapes if shape is not None]


def _fits(found: Sequence[int], wanted: Sequence[int | None]) -> bool:
    alike = (want in (None, have) for have, want in zip(found, wanted, strict=False))
    return len(found) == len(wanted) and all(alike)
