"""What lies at a path. What this user may not look at is an error, for it may be there all the same.

`Path.exists` and its like raise PermissionError there or tell False, by Python's release; `Path.glob` and
`os.walk` pass it over.
"""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from toolkit.errors import reading

_OF_THE_SYSTEM = "lost+found"  # at the top of a file system, for root alone, and nothing of anybody's


def is_there(path: Path) -> bool:
    """Tell whether something lies there. Raises CorruptError where that may not be looked at."""
    return _mode(path) is not None


def is_file(path: Path) -> bool:
    """Tell whether a file lies there. Raises CorruptError where that may not be looked at."""
    return stat.S_ISREG(_mode(path) or 0)


def is_folder(path: Path) -> bool:
    """Tell whether a folder lies there. Raises CorruptError where that may not be looked at."""
    return stat.S_ISDIR(_mode(path) or 0)


def within(folder: Path) -> list[Path]:
    """Return what lies in a folder, by name; nothing where it is none.

    Raises CorruptError for one that may not be read.
    """
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: as below
        return []
    except OSError as error:
        refuse_closed(error)
        return []


def files_within(folder: Path) -> list[Path]:
    """Return the files at any depth of a folder, by path; links to folders are not followed.

    Raises CorruptError for a folder that may not be read.
    """
    walked = os.walk(folder, onerror=refuse_closed)
    return sorted(path for at, _, names in walked for name in names if is_there(path := Path(at, name)))


def matching(folder: Path, *pattern: str) -> list[Path]:
    """Return what matches a pattern below a folder, by path; `matching(runs, "*", "run.json")` has its parts.

    `**` stands for any number of folders; links to folders are not followed there. Raises CorruptError for a
    folder on the way that may not be read.
    """
    return sorted(set(_matching(folder, pattern)))


def _matching(folder: Path, pattern: Sequence[str]) -> list[Path]:
    if not pattern:
        return [folder]
    part, rest = pattern[0], pattern[1:]
    if part == "**":
        found = [Path(at) for at, _, _ in os.walk(folder, onerror=refuse_closed)]
    elif any(sign in part for sign in "*?["):
        found = [path for path in within(folder) if fnmatch.fnmatch(path.name, part)]
    else:
        found = [path for path in (folder / part,) if is_there(path)]
    return [path for one in found for path in _matching(one, rest)]


def refuse_closed(error: OSError) -> None:
    """Raise the CorruptError of a folder that could not be listed: for `os.walk`, which passes it over."""
    folder = Path(error.filename)
    if folder.name != _OF_THE_SYSTEM:
        with reading(folder):
            raise error


def _mode(path: Path) -> int | None:
    with reading(path):
        try:
            return path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: no path has a NUL in it
            return None
