"""Machines that refuse: a disk that is full, and files that may not be read."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Callable, Iterator

NOBODY = 65534


@contextlib.contextmanager
def full_disk(room_bytes: int) -> Iterator[None]:
    """Let no file grow beyond so many bytes: a real limit, by which the kernel refuses the write."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def said_by_nobody(act: Callable[[], object]) -> str:
    """Return what is raised in a child process without root's rights, class and words; "" for nothing.

    Root may read and write anywhere. Whatever `act` imports is to be imported before.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # whatever is raised, it must not run on into the other tests
        try:
            if os.geteuid() == 0:
                os.setuid(NOBODY)
            act()
        except BaseException as error:
            os.write(writer, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        said = stream.read()
    os.waitpid(child, 0)
    return said
