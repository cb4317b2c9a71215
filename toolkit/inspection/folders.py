"""The pictures of a folder that people name, whatever they are called."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from toolkit.images import FORMATS

_LEFT_BY_ARCHIVES = {"__MACOSX", "Thumbs.db"}


def pictures_in(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return a folder's pictures and its other files, by name, those of folders within it too.

    A file is a picture by its ending, or else by its first bytes. Hidden files and what archives leave
    behind are neither; a folder that links lead to several times counts once.
    """
    endings = {ending for ending, kind in Image.registered_extensions().items() if kind in FORMATS}
    pictures: list[Path] = []
    others: list[Path] = []
    seen: set[Path] = set()
    for at, folders, names in os.walk(folder, followlinks=True):
        here = Path(at).resolve()
        if here in seen:  # a link leads back to where it came from
            folders.clear()
            continue
        seen.add(here)
        folders[:] = sorted(name for name in folders if not _is_nothing(name))
        for name in sorted(name for name in names if not _is_nothing(name)):
            path = Path(at, name)
            known = path.suffix.lower() in endings
            (pictures if known or _begins_as_picture(path) else others).append(path)
    return pictures, others


def _is_nothing(name: str) -> bool:
    return name.startswith(".") or name in _LEFT_BY_ARCHIVES


def _begins_as_picture(path: Path) -> bool:
    try:
        with Image.open(path, formats=FORMATS):
            return True
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False
