"""Which data an export is calibrated and judged on, told apart by content before anything is exported."""

from __future__ import annotations

import hashlib
from pathlib import Path

from toolkit.artifacts import Passport
from toolkit.errors import NotFoundError
from toolkit.exporting.evidence import load_dataset, why_random


def data_fingerprint(passport: Passport, data_dir: Path | None) -> str | None:
    """Return a hash of the data that a passport names; None where random inputs stand in for it.

    Of a folder of pictures, which may take minutes to decode, it is that of their names, sizes and
    times of change. Raises CorruptError for damaged data.
    """
    if why_random(passport) is not None or passport.dataset is None:
        return None
    prefix, _, folder = passport.dataset.name.partition(":")
    if prefix == "folder":
        return _listing(Path(folder).expanduser())
    try:
        return load_dataset(passport, data_dir).fingerprint
    except NotFoundError:
        return None


def _listing(folder: Path) -> str | None:
    if not folder.is_dir():
        return None
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        state = file.stat()
        facts = (file.relative_to(folder).as_posix(), state.st_size, state.st_mtime_ns)
        digest.update(repr(facts).encode())
    return digest.hexdigest()
