"""In how many pieces a column is traced, and the pieces as one trace."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from toolkit.profiling.measuring.latency import LEAST_WINDOWS
from toolkit.profiling.result import Latency
from toolkit.traces import Trace

# a machine that others use changes its speed for seconds at a time: windows in pieces, in turn with the
# other columns, see more of that than as many windows in a row
TRACE_WINDOWS, TURNS = 10, 5
# ONNX Runtime writes a line for every kernel's every call: more of them take longer to read than to run
MOST_RUNS = 150


@dataclass(kw_only=True)
class TracePlan:
    """How a column is traced: `left` windows of `runs` calls, `windows` at a time."""

    left: int
    windows: int
    runs: int

    @classmethod
    def after(cls, latency: Latency | None, *, duration_s: float, windows: int) -> TracePlan:
        """Return windows and runs of a profiled run that lasts about as long as the clean one did."""
        if latency is None:
            return cls(left=3, windows=1, runs=1)
        possible = duration_s * 1e3 / max(latency.median, 1e-3)
        if possible < windows:
            least = LEAST_WINDOWS if possible >= 1 else 1
            return cls(left=max(least, int(possible)), windows=1, runs=1)
        runs = max(1, min(MOST_RUNS, round(possible / windows)))
        return cls(left=windows, windows=max(1, windows // TURNS), runs=runs)


def joined(first: Trace | None, second: Trace) -> Trace:
    """Return two traces of one engine as one; the second alone where the runtime ran other nodes."""
    if first is None or first.node_ms is None or second.node_ms is None:
        return second
    if [node.type for node in first.nodes] != [node.type for node in second.nodes]:
        return second
    return dataclasses.replace(
        first,
        node_ms=np.vstack([first.node_ms, second.node_ms]),
        total_ms=(*first.total_ms, *second.total_ms),
        runs=first.runs + second.runs,
    )
