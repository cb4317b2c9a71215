"""Packages that come as wheels in a folder, laid out for an interpreter on a machine that is not online.

A wheel is a zip of what belongs on the path, so it is unpacked, which needs neither pip nor the right to
write into the interpreter's own folders. A wheel that is too large to travel in one piece may come in parts,
`NAME.whl.part-00`, `NAME.whl.part-01` …; what is no wheel is taken for the content of one, unpacked already.
"""

from __future__ import annotations

import shutil
import sys
import tomllib
import zipfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PART = ".part-"
# the name that a package is imported by, where it is not the name that it is installed by
IMPORTED_AS = {"pillow": "PIL"}
# folders inside a wheel's NAME.data whose content belongs on the path itself
ON_PATH = ("purelib", "platlib")


@dataclass(frozen=True, kw_only=True)
class Packages:
    """Folders for the front of the path, and what was taken from the folder or left, in sentences."""

    paths: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()


def base_packages(pyproject: Path) -> tuple[str, ...]:
    """Return the modules that every command imports, from the project's own list, the runtime aside."""
    listed = tomllib.loads(pyproject.read_text("utf-8"))["project"]["dependencies"]
    names = dict.fromkeys(_project(requirement) for requirement in listed)
    return tuple(IMPORTED_AS.get(name, name) for name in names if not name.startswith("onnxruntime"))


def _project(requirement: str) -> str:
    letters = (letter if letter.isalnum() or letter in "-_." else " " for letter in requirement)
    return "".join(letters).split()[0].lower()


def unpack(wheels: Path, into: Path) -> Packages:
    """Join, check and unpack the wheels of a folder; a wheel that cannot be used is named and left."""
    notes: list[str] = []
    site = into / "site"
    site.mkdir(parents=True, exist_ok=True)
    for wheel in [*sorted(wheels.glob("*.whl")), *_joined(wheels, into)]:
        why = _misfit(wheel) or _unpack(wheel, site)
        notes.append(f"{wheel.name} is not used: {why}" if why else f"{wheel.name} unpacked")
    loose = [path for path in sorted(wheels.iterdir()) if ".whl" not in path.name]
    folders = [path for path in loose if path.is_dir() and any(path.glob("*.dist-info"))]
    paths = (site, *folders, *([wheels] if len(loose) > len(folders) else []))
    return Packages(paths=paths, notes=(*notes, *(f"{path.name} taken as it lies" for path in loose)))


def _joined(wheels: Path, into: Path) -> Iterable[Path]:
    """Write each wheel that came in parts as one file, the parts in the order of their names."""
    parts: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(wheels.glob(f"*.whl{PART}*")):
        parts[path.name.partition(PART)[0]].append(path)
    for name, pieces in parts.items():
        whole = into / name
        with whole.open("wb") as out:
            for piece in pieces:
                with piece.open("rb") as data:
                    shutil.copyfileobj(data, out)
        yield whole


def _misfit(wheel: Path) -> str | None:
    """Say why this interpreter cannot import a wheel, by the tags in its name; None where it can."""
    tags = wheel.stem.split("-")
    if len(tags) < 5:
        return "its name is no wheel's (NAME-VERSION-PYTHON-ABI-PLATFORM.whl)"
    pythons, abi = tags[-3].split("."), tags[-2]
    own = sys.version_info[:2]
    if "py3" in pythons or f"cp{own[0]}{own[1]}" in pythons:
        return None
    older = [p for p in pythons if p.startswith("cp3") and p[3:].isdigit() and int(p[3:]) <= own[1]]
    if older and "abi3" in abi:
        return None
    return f"it is for {'.'.join(pythons)}, this is Python {own[0]}.{own[1]}"


def _unpack(wheel: Path, site: Path) -> str | None:
    """Unpack a wheel; return why that cannot be done, else None."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
    except (zipfile.BadZipFile, OSError) as error:
        return f"{error}; its parts, if it came in parts, are not all there"
    for data in site.glob("*.data"):
        for folder in ON_PATH:
            if (data / folder).is_dir():
                shutil.copytree(data / folder, site, dirs_exist_ok=True)
        shutil.rmtree(data)
    return None
