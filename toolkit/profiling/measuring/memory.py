"""What the whole process holds at most, during a call or ever."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path


def process_peak(call: Callable[[], object]) -> int | None:
    """Return the most memory the whole process held during a call, in bytes; None off Linux.

    The counter of the kernel is reset first; it holds every library that is loaded.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    call()
    return peak_so_far()


def peak_so_far() -> int | None:
    """Return the most memory the whole process held since it began, in bytes; None off Linux.

    It is counted from where `process_peak` last reset the kernel's counter, if it did.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None
