"""A profile as a Perfetto (Chrome-trace) file: a track a column, rows laid end to end by their medians.

The tracks show proportions, not one recorded call: each slice is the median of its row. Beside each stand
counters of memory: the tensors that are alive, and the weights that were read so far. speedscope opens the
same file and shows the tracks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from toolkit.profiling.result import Cell, Profile, Row, Run


def perfetto_trace(profile: Profile) -> dict[str, Any]:
    """Return the trace as JSON values; times in microseconds."""
    events: list[dict[str, Any]] = []
    for process, run in enumerate(profile.runs, start=1):
        name = f"{profile.model}, batch {run.batch}"
        events.append({"ph": "M", "name": "process_name", "pid": process, "args": {"name": name}})
        for thread, key in enumerate(run.backends, start=1):
            label = {"name": f"{key} ({run.backends[key].precision}), medians"}
            events.append({"ph": "M", "name": "thread_name", "pid": process, "tid": thread, "args": label})
            events += _track(run, key, process, thread)
    return {"traceEvents": events, "displayTimeUnit": "ns"}


def _track(run: Run, key: str, process: int, thread: int) -> Iterator[dict[str, Any]]:
    """Yield a column's slices, and counters where each of them begins; both end at 0."""
    live, read, clock = _live(run, key), 0, 0.0
    names: dict[str, int] = {}
    for row in run.rows:
        cell = row.cells.get(key)
        if cell is None or cell.latency_ms is None:
            continue
        place = {"pid": process, "ts": clock}
        times = {"tid": thread, "dur": cell.latency_ms * 1e3}
        yield {"ph": "X", "name": row.label, "cat": row.type, **place, **times, "args": _facts(row, cell)}
        read += cell.memory.weights_bytes or 0
        sizes = {"live tensors": live.get(row.label), "weights read": read if row.modules else None}
        for name, size in sizes.items():
            if size is not None:
                names[name] = size
                yield _counter(f"{key} {name}", place, size)
        clock += times["dur"]
    yield from (_counter(f"{key} {name}", {"pid": process, "ts": clock}, 0) for name in names)


def _counter(name: str, place: Mapping[str, Any], size: int) -> dict[str, Any]:
    return {"ph": "C", "name": name, **place, "args": {"bytes": size}}


def _live(run: Run, key: str) -> dict[str, int]:
    """Return the most bytes of tensors that are alive during each row, by its label, where that is known."""
    rows = {name: row.label for row in run.rows for name in row.modules}
    found: dict[str, int] = {}
    for name, size in run.backends[key].memory.timeline:
        label = rows.get(name, name)
        found[label] = max(size, found.get(label, 0))
    return found


def _facts(row: Row, cell: Cell) -> dict[str, Any]:
    return {
        "modules": list(row.modules),
        "nodes": list(cell.nodes),
        "match": cell.match,
        "macs": cell.macs,
        "share": cell.share,
        "weights_bytes": cell.memory.weights_bytes,
        "activation_bytes": cell.memory.activation_bytes,
        "bound": cell.bound,
    }
