"""What this process may use of its machine, what ends it, and children that end with it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

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


@contextlib.contextmanager
def child(words: Sequence[str], *, grace_s: float, **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """Run a program until the block ends, or until this process is killed; `options` are Popen's.

    It is asked to end then and has `grace_s` for that. What it started is killed with it: it leads a session
    of its own, so that a terminal's Ctrl-C comes to it by the end of the block.
    """
    process = subprocess.Popen(
        words,
        start_new_session=True,
        preexec_fn=end_with_parent,  # noqa: PLW1509  (nothing that it needs is another thread's)
        **options,
    )
    try:
        yield process
    finally:
        try:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(grace_s)
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # none of them is left
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with contextlib.suppress(OSError):  # a reader that is gone
                        stream.close()
