"""What a running torch module holds: its allocator's events beside each call, and all its weights."""

from __future__ import annotations

import gc
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from toolkit.backends._torch_watch import watched
from toolkit.modules import ModuleRow

MARK = "cnnkit:"  # events of this name are the looks before and after a call


@dataclass(frozen=True, kw_only=True)
class HeldMemory:
    """Bytes beyond the input and the weights: at most in one call, and at most during each row's call.

    `alive` is empty where the allocator tells nothing; `why_not` then says why.
    """

    peak_bytes: int | None = None
    alive: tuple[int, ...] = ()
    why_not: str | None = None


def held_memory(module: nn.Module, given: torch.Tensor, *, functional: bool) -> HeldMemory:
    """Run a module once and follow its allocator: workspaces count, and tensors live as long as they do."""
    if given.device.type == "cuda":
        return _on_gpu(module, given, functional=functional)
    if given.device.type != "cpu":
        return HeldMemory(why_not="no allocator events on this device")
    return _on_cpu(module, given, functional=functional)


def weights_bytes(module: nn.Module) -> int:
    """Return the bytes of all parameters and buffers, each tensor once, of layers that no call uses too."""
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))


def unused(module: nn.Module, rows: Sequence[ModuleRow]) -> str | None:
    """Say which bytes of weights no call uses; None where every weight is on a row."""
    rest = weights_bytes(module) - sum(row.weights_bytes for row in rows)
    return f"{rest:,} bytes of its weights belong to no call" if rest > 0 else None


def _on_gpu(module: nn.Module, given: torch.Tensor, *, functional: bool) -> HeldMemory:
    """Read the most that the allocator held since the look before: it counts when a kernel is launched."""

    def look() -> int:
        most = torch.cuda.max_memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        return most

    gc.collect()  # what the walk before has left would be freed meanwhile, and counted as less than nothing
    marks: list[Any] = []
    torch.cuda.synchronize()
    base = torch.cuda.memory_allocated()
    look()
    with watched(module, look, marks, functional=functional):
        module(given)
    most = max([look(), *marks])
    torch.cuda.synchronize()
    return HeldMemory(peak_bytes=most - base, alive=tuple(max(0, value - base) for value in marks[1::2]))


def _on_cpu(module: nn.Module, given: torch.Tensor, *, functional: bool) -> HeldMemory:
    # libkineto tells its start, and that no GPU is here, on stderr
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    # not torch.profiler's, which imports torch's compiler (1.4 s) to ask whether it is in use
    from torch.autograd.profiler import profile, record_function

    gc.collect()  # what the walk before has left would be freed meanwhile, and torch warns of that
    marks: list[int] = []
    looks: list[None] = []

    def look() -> int:
        looks.append(None)
        with record_function(f"{MARK}{len(looks)}"):
            return len(looks)

    with profile(profile_memory=True) as profiler, watched(module, look, marks, functional=functional):
        output = module(given)
    del output
    events = profiler.kineto_results.events()
    told = sorted((e.start_ns(), int(e.nbytes())) for e in events if e.name() == "[memory]")
    times = {int(e.name()[len(MARK) :]): e.start_ns() for e in events if e.name().startswith(MARK)}
    # what is freed is negative
    held = np.fromiter(accumulate((size for _, size in told), initial=0), np.int64)
    ends = np.array([times[mark] for mark in marks], np.int64)
    places = np.searchsorted(np.array([at for at, _ in told], np.int64), ends)
    return HeldMemory(peak_bytes=int(held.max()), alive=_most(held, places))


def _most(held: NDArray[np.int64], places: NDArray[np.intp]) -> tuple[int, ...]:
    """Return the most that was held between each two places."""
    pairs = zip(places[::2], places[1::2], strict=True)
    return tuple(int(held[start : end + 1].max()) for start, end in pairs)
