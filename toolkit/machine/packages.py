"""Packages that cnnkit names, from its own metadata: which are here, which are not and how to get them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

DISTRIBUTION = "cnnkit"
# extras that develop cnnkit rather than run it
_DEVELOPING = frozenset({"test", "check", "all"})
_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)(?:\[([^\]]*)\])?([^;]*)(?:;(.*))?$")
_EXTRA = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """A package that cnnkit may use: the extra that brings it (None: the base install), and here or not.

    `wanted` tells whether its conditions (system, processor) hold on this machine.
    """

    package: str
    extra: str | None
    wanted: bool

    @property
    def version(self) -> str | None:
        """The installed release; None where the package is not here."""
        return package_version(self.package)


def package_version(package: str) -> str | None:
    """Return the installed release of a package, read without importing it; None where it is not here."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def requirements() -> tuple[Requirement, ...]:
    """Return what cnnkit's metadata requires, in its order; empty where cnnkit is not installed."""
    try:
        lines = metadata.requires(DISTRIBUTION) or ()
    except metadata.PackageNotFoundError:
        return ()
    return tuple(_read(lines))


def missing() -> dict[str, str]:
    """Return the packages of the extras that are not installed, each with what to type."""
    return {
        one.package: f"pip install '{DISTRIBUTION}[{one.extra}]'"
        for one in requirements()
        if one.extra and one.wanted and one.version is None
    }


def _read(lines: list[str] | tuple[()]) -> Iterator[Requirement]:
    for line in lines:
        match = _REQUIREMENT.match(line)
        if match is None or match[1] == DISTRIBUTION:
            continue
        marker = match[4] or ""
        named = _EXTRA.search(marker)
        extra = named[1] if named else None
        if extra not in _DEVELOPING:
            yield Requirement(package=match[1], extra=extra, wanted=_holds(marker, extra))


def _holds(marker: str, extra: str | None) -> bool:
    """Tell whether an environment marker holds here. The packaging library reads it where it is installed."""
    if not marker.strip():
        return True
    try:
        from packaging.markers import Marker
    except ImportError:
        return True
    return bool(Marker(marker.strip()).evaluate({"extra": extra or ""}))
