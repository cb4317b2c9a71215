"""What the system may run out of while a request is answered: 503 in words, never the client's fault."""

from __future__ import annotations

import errno

from serve.api import RefusedError
from toolkit.errors import OutOfMemoryError

SHORTAGES = {
    errno.EMFILE: "this server has no file handles left",
    errno.ENFILE: "the machine has no file handles left",
    errno.ENOSPC: "the disk for temporary files is full",
    errno.EDQUOT: "the disk quota for temporary files is used up",
    errno.ENOMEM: "the machine has no memory left",
}
DEVICE = "the engine has no memory left for this batch"
RETRY_AFTER = b"5"


def shortage(error: BaseException | None) -> str | None:
    """Return in words what ran out, where an error or one of its causes says so; None for others."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in SHORTAGES:
            return SHORTAGES[error.errno]
        if isinstance(error, MemoryError):
            return SHORTAGES[errno.ENOMEM]
        if isinstance(error, OutOfMemoryError):
            return DEVICE
        error = error.__cause__ or error.__context__
    return None


def short_of(what: str) -> RefusedError:
    """Return what a request is answered that cannot be while something is missing."""
    return RefusedError(503, f"{what}; try again soon", {b"retry-after": RETRY_AFTER})
