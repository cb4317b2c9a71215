"""Files that somebody names to be written: reports, sheets, lists. A file of that name is replaced whole.

A link stays and what it leads to is replaced. A device or a pipe is written into, and so is the file that
stdout or stderr already goes to: replaced, they would be gone for everybody else.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO

from toolkit.artifacts import cannot_write, replacing

ANOTHER_FILE = "name another file"
_STREAMS = (1, 2)  # stdout's and stderr's descriptors


def write_named(path: Path, data: bytes) -> None:
    """Write a file that was named, whole or not at all. Raises CnnkitError where it cannot be written."""
    try:
        if _is_stream(path):
            with _opened(path) as out:
                out.write(data)
        else:
            with replacing(path.resolve()) as part:
                part.write_bytes(data)
    except OSError as error:
        raise cannot_write(path, error, ANOTHER_FILE) from error


def refuse_unwritable(path: Path, *, instead: str = ANOTHER_FILE) -> None:
    """Raise CnnkitError where a file could not be written: asked before the work that fills it."""
    try:
        if _is_stream(path):
            if not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        folder = next(parent for parent in path.resolve().parents if parent.exists())
        with tempfile.TemporaryFile(dir=folder):  # permissions, full disks and odd file systems alike
            pass
    except OSError as error:
        raise cannot_write(path, error, instead) from None


def _is_stream(path: Path) -> bool:
    """Tell whether what lies there is written into and not replaced. Raises OSError for what is neither."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if _stream_of(found) is not None or stat.S_ISCHR(found.st_mode) or stat.S_ISFIFO(found.st_mode):
        return True
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is a disk or a socket and no file")
    return False


def _stream_of(found: os.stat_result) -> int | None:
    """Return the descriptor of this process's stdout or stderr, where one of them goes there."""
    for stream in _STREAMS:
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(stream), found):
                return stream
    return None


def _opened(path: Path) -> BinaryIO:
    stream = _stream_of(path.stat())
    if stream is None:
        return path.open("wb")
    sys.stdout.flush()  # what was printed before stands before it
    return os.fdopen(os.dup(stream), "wb")
