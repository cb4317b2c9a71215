"""The machine that a profile was taken on, and what a call makes the process hold."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

from toolkit.machine.cpu import cpu


def describe_machine(threads: int | None) -> dict[str, Any]:
    """Return processor, cores, threads, affinity and system: what a figure is worth nothing without."""
    affinity = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return {
        "processor": cpu().name,
        "cores": os.cpu_count(),
        "threads": threads,
        "threads_say": f"{threads}" if threads else "each runtime's default",
        "affinity": affinity,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
    }


def process_peak(call: Callable[[], object]) -> int | None:
    """Return the most memory the whole process held during a call, in bytes; None off Linux.

    The counter of the kernel is reset first; it holds every library that is loaded.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")
        call()
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        return None
    return None
