"""Times each call of a layer in a running torch module, and watches its allocator.

A leaf module's `forward` is replaced by one that takes the time around it, which costs less than
hooks do; functional calls are seen by a function mode, which is entered only where a network has
some. On a GPU the same places record CUDA events, read after the run.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.overrides import TorchFunctionMode

from toolkit.modules import ModuleRow, visit
from toolkit.modules.calls import function_name
from toolkit.traces import ExecutedNode, Trace, timed, trimmed_mean

Clock = Callable[[], Any]


def trace_module(
    module: nn.Module, batch: NDArray[Any], device: torch.device, *, windows: int, runs: int
) -> Trace:
    """Run `windows` × `runs` times with the time taken around each layer's call."""
    given = torch.from_numpy(np.require(batch, requirements=["C", "W"])).to(device)
    # events are recorded, and the allocator is asked, on the GPU that is current
    current = torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
    with current, torch.inference_mode():
        rows = visit(module, given)
        memory, unknown = _memory(module, given)
        times, totals = _timed(module, given, rows, windows=windows, runs=runs)
    return Trace(
        nodes=tuple(_node(row) for row in rows),
        node_ms=times,
        total_ms=totals,
        runs=windows * runs,
        memory=memory,
        unknown=unknown,
    )


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
    module: nn.Module, given: torch.Tensor, rows: tuple[ModuleRow, ...], *, windows: int, runs: int
) -> tuple[NDArray[np.float64], tuple[float, ...]]:
    marks: list[Any] = []
    cuda = given.device.type == "cuda"
    clock: Clock = _event if cuda else time.perf_counter_ns
    wait: Callable[[], object] = torch.cuda.synchronize if cuda else lambda: None
    samples = np.zeros((windows, len(rows), runs))
    totals: list[float] = []
    functional = any("/" in row.name for row in rows)

    def call() -> None:
        module(given)
        wait()

    with _watched(module, clock, marks, functional=functional):
        call()  # the first call pays for lazy set-up
        for window in range(windows):
            marks.clear()
            totals.append(float(trimmed_mean(np.array(timed(call, runs)))))
            samples[window] = _spans(marks, cuda=cuda).reshape(runs, len(rows)).T
    return trimmed_mean(samples), tuple(totals)


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


@contextlib.contextmanager
def _watched(module: nn.Module, clock: Clock, marks: list[Any], *, functional: bool) -> Iterator[None]:
    leaves = [part for part in module.modules() if not any(True for _ in part.children())]
    mode = _FunctionTimer(clock, marks) if functional else None
    for part in leaves:
        part.forward = _around(part.forward, clock, marks, mode)
    try:
        with mode or contextlib.nullcontext():
            yield
    finally:
        for part in leaves:
            del part.forward


def _around(forward: Callable[..., Any], clock: Clock, marks: list[Any], mode: _FunctionTimer | None) -> Any:
    def timed(*args: Any, **kwargs: Any) -> Any:
        marks.append(clock())
        result = forward(*args, **kwargs)
        marks.append(clock())
        return result

    def timed_inside(*args: Any, **kwargs: Any) -> Any:
        # what a leaf calls inside is its own business: the mode is off there, and costs nothing
        with torch._C.DisableTorchFunction():
            return timed(*args, **kwargs)

    return timed_inside if mode else timed


class _FunctionTimer(TorchFunctionMode):
    """Takes the time of each function that is called on tensors outside leaf modules."""

    def __init__(self, clock: Clock, marks: list[Any]) -> None:
        super().__init__()
        self.clock, self.marks = clock, marks

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        start = self.clock()
        result = func(*args, **(kwargs or {}))
        if function_name(func, (args, kwargs), result):
            self.marks += (start, self.clock())
        return result


def _memory(module: nn.Module, given: torch.Tensor) -> tuple[dict[str, int | None], dict[str, str]]:
    """Return the most that the allocator held beyond the input and the weights during one call."""
    if given.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        base = torch.cuda.memory_allocated()
        module(given)
        torch.cuda.synchronize()
        return {"peak_activation_bytes": torch.cuda.max_memory_allocated() - base}, {}
    if given.device.type != "cpu":
        return {"peak_activation_bytes": None}, {
            "peak_activation_bytes": "no allocator events on this device"
        }
    # libkineto tells its start, and that no GPU is here, on stderr
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    # not torch.profiler's, which imports torch's compiler (1.4 s) to ask whether it is in use
    from torch.autograd.profiler import profile

    with profile(profile_memory=True) as profiler:
        output = module(given)
    del output
    events = [e for e in profiler.kineto_results.events() if e.name() == "[memory]"]
    # what is freed is negative
    sizes = [int(e.nbytes()) for e in sorted(events, key=lambda e: e.start_ns())]
    return {"peak_activation_bytes": max(accumulate(sizes, initial=0))}, {}
