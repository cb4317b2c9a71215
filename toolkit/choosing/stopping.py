"""A polite kill ends a choosing as Ctrl-C does: its processes and temporary files go with it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def kill_as_ctrl_c() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM inside the block, where nobody else handles it."""
    # Python lets only the main thread handle signals; elsewhere they keep their meaning
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
