"""Files of other programs where a profile of cnnkit belongs, told by what they hold."""

from __future__ import annotations

from pathlib import Path

from toolkit.backends import BACKENDS, backend_names
from toolkit.errors import CnnkitError, CorruptError
from toolkit.profiling.result import Profile
from toolkit.traces import ForeignFile, ForeignFiles


def writer_of(path: Path) -> str | None:
    """Return the runtime that wrote a file of a run elsewhere; None for any other file."""
    try:
        file = ForeignFile.read(path)
    except OSError:
        return None
    for backend in map(BACKENDS.load, backend_names()):
        try:
            if backend.read_foreign(ForeignFiles(layers=file, times=None)) is not None:
                return backend.title
        except CnnkitError:  # its own, and damaged
            return backend.title
    return None


def read_profile(path: Path) -> Profile:
    """Read a profile of cnnkit. Raises NotFoundError, and CorruptError that says what another file is."""
    try:
        return Profile.read(path)
    except CorruptError:
        title = writer_of(path)
        if title is None:
            raise
        raise CorruptError(
            f"{path} is what {title} wrote of a run elsewhere, no profile of cnnkit: "
            f"`cnnkit profile --import {path} --output NEW.json` makes one"
        ) from None
