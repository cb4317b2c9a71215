"""What a process holds at most."""

from __future__ import annotations

import contextlib
from pathlib import Path


def peak_so_far() -> int | None:
    """Return the most memory this whole process held since its program began, in bytes; None off Linux.

    The kernel begins to count anew with a program (exec), and where the process resets its counter.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None
