"""The files of a source that people name by a path, by the folder that holds them, or by a pattern."""

from __future__ import annotations

from pathlib import Path

from toolkit.errors import CnnkitError
from toolkit.listings.looking import is_leftover
from toolkit.presence import files_within, is_file, is_folder, matching


def files_meant(place: Path, ending: str) -> list[Path]:
    """Return the files that an absolute path or pattern means, by name; none where none is there.

    Of a folder they are those of an ending, at any depth. What archives and systems leave behind (`._a.tar`)
    counts only where it is named itself. Raises CnnkitError for what is no pattern, CorruptError for a folder
    that may not be read: the files of the others are not all that was meant.
    """
    if is_file(place):
        return [place]
    folder = next(one for one in (place, *place.parents) if is_folder(one))
    inside = place.relative_to(folder)
    if any("**" in part and part != "**" for part in inside.parts):
        raise CnnkitError(
            f"{place} is no pattern: ** stands alone between slashes, as in {folder}/**/*{ending}"
        )
    if folder == place:
        found = [path for path in files_within(folder) if path.name.endswith(ending)]
    else:
        found = matching(folder, *inside.parts)
    return sorted(path for path in found if is_file(path) and not _is_left_behind(path, folder))


def _is_left_behind(path: Path, folder: Path) -> bool:
    return any(map(is_leftover, path.relative_to(folder).parts))
