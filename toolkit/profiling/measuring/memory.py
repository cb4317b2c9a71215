"""What the whole process holds at most during a call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from toolkit.machine.memory import peak_so_far


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
