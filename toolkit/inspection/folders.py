"""The pictures of a folder that people name, whatever they are called."""

from __future__ import annotations

import os
from pathlib import Path

from toolkit.listings.looking import is_leftover, is_picture
from toolkit.presence import refuse_closed


def pictures_in(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return a folder's pictures and its other files, by name, those of folders within it too.

    A file is a picture by its ending, or by its first bytes where that does not tell. Hidden files and what
    archives leave behind are neither; a folder that links lead to several times counts once. Raises
    CorruptError for a folder that may not be read.
    """
    pictures: list[Path] = []
    others: list[Path] = []
    seen: set[Path] = set()
    for at, folders, names in os.walk(folder, followlinks=True, onerror=refuse_closed):
        here = Path(at).resolve()
        if here in seen:  # a link leads back to where it came from
            folders.clear()
            continue
        seen.add(here)
        folders[:] = sorted(name for name in folders if not is_leftover(name))
        for name in sorted(name for name in names if not is_leftover(name)):
            path = Path(at, name)
            (pictures if is_picture(path) else others).append(path)
    return pictures, others
