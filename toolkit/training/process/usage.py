"""How much of a machine a training used: memory and devices. What cannot be measured is None."""

from __future__ import annotations

import os
import resource
import sys

from toolkit.figures import mebibytes_text
from toolkit.machine.memory import peak_so_far


def peak_memory_bytes() -> int:
    """Return the most memory that this process held at once (resident set)."""
    counted = peak_so_far()
    if counted is not None:
        return counted
    # which on Linux is a child's parent's, where that held more when it started the child
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def forget_device_peak(device: str) -> None:
    """Count the most memory that tensors held on a CUDA device from now on."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)


def device_peak_memory_bytes(device: str) -> int | None:
    """Return the most memory that tensors held on a CUDA device at once, since it was last forgotten."""
    if not device.startswith("cuda"):
        return None
    import torch

    return int(torch.cuda.max_memory_allocated(device))


def device_utilisation(device: str, *, busy_s: float, wall_s: float, threads: int) -> float | None:
    """Return the share of the device that was busy while training: of a CPU, the threads' share."""
    if device != "cpu" or wall_s <= 0:
        return None
    return min(1.0, busy_s / wall_s / min(threads, os.cpu_count() or threads))


def release(device: str) -> str | None:
    """Give GPU memory back; say what a living process has to keep."""
    if not device.startswith("cuda"):
        return None
    import gc

    import torch

    gc.collect()
    torch.cuda.empty_cache()
    kept, tensors = torch.cuda.memory_reserved(device), torch.cuda.memory_allocated(device)
    return (
        f"GPU memory released; {mebibytes_text(kept)} stay reserved ({mebibytes_text(tensors)} in tensors), "
        "besides CUDA's own context, until this process ends"
    )
