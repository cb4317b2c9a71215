"""Memory of an export: when Python's collector runs, and what the C library keeps for the next batch."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def collected() -> Iterator[None]:
    """Hold the collector back inside the block and run it once at its end, over what is new since.

    torch's exporter leaves a network's weights in cycles, twice, so it must run before they are proven.
    """
    ran = gc.isenabled()
    gc.disable()
    gc.freeze()
    try:
        yield
    finally:
        gc.collect()
        gc.unfreeze()
        if ran:
            gc.enable()


# <malloc.h>: parameters of mallopt
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
# a batch's inner values are smaller, the weights that are worth giving back at once are larger
REUSED_BYTES, KEPT_BYTES = 64 << 20, 512 << 20


def give_back_freed_memory() -> None:
    """Return what glibc has kept to the system: before a step that needs other memory than the last one."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def reuse_freed_memory() -> None:
    """Have glibc keep up to 512 MiB of what is freed, so that each batch does not fault its pages in anew.

    For the process of a command alone, as it holds until its end; other C libraries are left as they are.
    Without it an AlexNet export took 1.6 instead of 1.1 million page faults and 1.5 s more (2 cores, KVM).
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, REUSED_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
