"""What this process may use of its machine, and what ends it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def usable_cores() -> int:
    """Return on how many cores this process may run."""
    # macOS tells no affinity
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def stopped_as_by_ctrl_c(first: Callable[[int], object] = lambda number: None) -> Iterator[None]:
    """Take a polite kill of this process as Ctrl-C, after `first` was told its number."""

    def take(number: int, frame: FrameType | None) -> None:
        first(number)
        raise KeyboardInterrupt

    # Python lets only the main thread handle signals; elsewhere, and where ignored, they keep their meaning
    before = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or before == signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGTERM, take)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def end_with_parent(_: int = 0) -> None:
    """Let this process end at the moment that the one that started it is killed; only Linux does that."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
