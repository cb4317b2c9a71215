"""Files that one process at a time holds, with `flock`, which the system lets go when that process ends.

A process that is forked off, as a loader's are, lets go at once: its copies of the open files would hold on
when the one that took them is killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_HELD: weakref.WeakSet[IO[str]] = weakref.WeakSet()


def lock(path: Path, *, wait: bool = False, shared: bool = False) -> IO[str] | None:
    """Open and lock a file until it is closed or the process ends; None while another process has it.

    What stands in the file stays. `wait` waits for the others; with `shared` any number have it together.
    Raises OSError where the file cannot be opened, or its file system has no locks.
    """
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    while True:
        stream = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(stream, how if wait else how | fcntl.LOCK_NB)
            if _is_there(stream, path):
                break
        except BaseException as error:
            stream.close()
            if isinstance(error, BlockingIOError):
                return None
            raise
        stream.close()
    _HELD.add(stream)
    return stream


def _is_there(stream: IO[str], path: Path) -> bool:
    """Tell whether an open file is the one of that name: whoever held it may have removed it meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    return False


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a file while the block runs; another process that has it is waited for. Raises OSError."""
    stream = lock(path, wait=True)
    assert stream is not None  # it was waited for
    with stream:
        yield


def _let_go() -> None:
    for stream in tuple(_HELD):
        stream.close()


os.register_at_fork(after_in_child=_let_go)
