"""Times each call of a layer in a running torch module, and says what it holds meanwhile.

On a GPU the same places record CUDA events, read after the run.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from toolkit.backends._torch_memory import held_memory, unused, weights_bytes
from toolkit.backends._torch_watch import watched
from toolkit.modules import ModuleRow, visit
from toolkit.traces import ExecutedNode, Trace, TraceMemory, timed, trimmed_mean

Clock = Callable[[], Any]
LAUNCHED = (
    "where a layer's kernels are done before the next ones are launched, as in small batches, its row tells "
    "how long launching took"
)
ANEW = "rows have no times: the network does not make the same calls in every run"


def trace_module(
    module: nn.Module, batch: NDArray[Any], device: torch.device, *, windows: int, runs: int
) -> Trace:
    """Run `windows` × `runs` times with the time taken around each layer's call."""
    given = torch.from_numpy(np.array(batch, order="C")).to(device)  # a network may change it in place
    # events are recorded, and the allocator is asked, on the GPU that is current
    current = torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
    with current, torch.inference_mode():
        module(given)  # some networks keep what their first call works out
        rows = visit(module, given)
        functional = any("/" in row.name for row in rows)
        held = held_memory(module, given, functional=functional)
        times, totals = _timed(module, given, len(rows), windows=windows, runs=runs, functional=functional)
    memory = TraceMemory(
        peak_activation_bytes=held.peak_bytes,
        weights_bytes=weights_bytes(module),
        why={"peak_activation_bytes": held.why_not} if held.why_not else {},
    )
    notes = (unused(module, rows), ANEW if times is None else launches_of(device))
    return Trace(
        nodes=tuple(_node(row) for row in rows),
        node_ms=times,
        total_ms=totals,
        runs=windows * runs,
        memory=memory,
        alive_bytes=held.alive if len(held.alive) == len(rows) else (),
        note="; ".join(filter(None, notes)) or None,
    )


def launches_of(device: torch.device) -> str | None:
    """Say what rows' times hold on a GPU beside its kernels; None on a CPU."""
    return LAUNCHED if device.type == "cuda" else None


def _node(row: ModuleRow) -> ExecutedNode:
    return ExecutedNode(
        name=row.name,
        type=row.type,
        modules=(row.name,),
        output_shape=row.output_shape,
        output_bytes=row.activation_bytes,
        weights_bytes=row.weights_bytes,
        parameters=row.parameters,
        macs=row.macs,
        uncounted=row.uncounted,
        read_bytes=row.read_bytes,
        written_bytes=row.written_bytes,
    )


def _timed(
    module: nn.Module, given: torch.Tensor, rows: int, *, windows: int, runs: int, functional: bool
) -> tuple[NDArray[np.float64] | None, tuple[float, ...]]:
    """Return the rows' times by window, None where the calls are not the same ones in every run."""
    marks: list[Any] = []
    cuda = given.device.type == "cuda"
    clock: Clock = _event if cuda else time.perf_counter_ns
    wait: Callable[[], object] = torch.cuda.synchronize if cuda else lambda: None
    samples = np.zeros((windows, rows, runs))
    alike = True
    totals: list[float] = []

    def call() -> None:
        module(given)
        wait()

    with watched(module, clock, marks, functional=functional):
        call()  # the first call pays for lazy set-up
        for window in range(windows):
            marks.clear()
            totals.append(float(trimmed_mean(np.array(timed(call, runs)))))
            alike = alike and len(marks) == 2 * runs * rows
            if alike:
                samples[window] = _spans(marks, cuda=cuda).reshape(runs, rows).T
    return trimmed_mean(samples) if alike else None, tuple(totals)


def _event() -> Any:
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


def _spans(marks: list[Any], *, cuda: bool) -> NDArray[np.float64]:
    """Return the milliseconds between each pair of marks."""
    if cuda:
        pairs = zip(marks[::2], marks[1::2], strict=True)
        return np.array([start.elapsed_time(end) for start, end in pairs])
    stamps = np.array(marks, dtype=np.int64)
    return (stamps[1::2] - stamps[::2]) / 1e6
