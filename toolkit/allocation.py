"""What the C library does with freed memory: keep it for the next batch, or give it back."""

from __future__ import annotations

import ctypes
import functools
import sys
from dataclasses import dataclass
from typing import Any, Literal

# <malloc.h>: parameters of mallopt
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_MOST_BYTES = 2**31 - 1  # mallopt takes an int
# what becomes of freed memory: as the C library does by itself, or kept for what comes next
Allocator = Literal["system", "keep"]


@dataclass
class _Process:
    """What this process was told to do with freed memory; glibc has no way to be asked."""

    allocator: Allocator = "system"


@functools.cache
def _process() -> _Process:
    return _Process()


def allocator() -> Allocator:
    """Return what becomes of the memory that this process frees; `keep` lasts until the process ends."""
    return _process().allocator


def give_back_freed_memory() -> None:
    """Return what glibc has kept to the system: before a step that needs other memory than the last one."""
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)


def reuse_freed_memory(*, largest: int = 2**30, kept: int = _MOST_BYTES) -> bool:
    """Have glibc keep up to `kept` freed bytes, in blocks of up to `largest`; tell whether it does now.

    Without it each batch faults its pages in anew where the heap happens to end in one of its tensors:
    1,200 faults and half of the time of a LeNet step, a quarter of an AlexNet step's (2 cores, KVM), or
    none in the next process. It holds until the process ends, so it is for commands and for measuring, not
    for libraries; other C libraries are left as they are.
    """
    mallopt = _glibc("mallopt")
    if mallopt is None:
        return False
    mallopt(_MMAP_THRESHOLD, largest)
    mallopt(_TRIM_THRESHOLD, kept)
    _process().allocator = "keep"
    return True


def _glibc(function: str) -> Any:
    return getattr(ctypes.CDLL(None), function, None) if sys.platform == "linux" else None
