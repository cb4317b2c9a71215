"""A profile as a Perfetto (Chrome-trace) file: a track a column, rows laid end to end by their medians.

The tracks show proportions, not one recorded call: each slice is the median of its row.
"""

from __future__ import annotations

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


def _track(run: Run, key: str, process: int, thread: int) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    held = dict(run.backends[key].memory.timeline)
    clock = 0.0
    for row in run.rows:
        cell = row.cells.get(key)
        if cell is None or cell.latency_ms is None:
            continue
        place = {"pid": process, "ts": clock}
        times = {"tid": thread, "dur": cell.latency_ms * 1e3}
        events.append(
            {"ph": "X", "name": row.label, "cat": row.type, **place, **times, "args": _facts(row, cell)}
        )
        size = next((held[name] for name in row.modules if name in held), None)
        if size is not None:
            events.append({"ph": "C", "name": f"{key} live tensors", **place, "args": {"bytes": size}})
        clock += times["dur"]
    return events


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
