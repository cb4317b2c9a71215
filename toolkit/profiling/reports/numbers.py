"""Figures as people read them; what is unknown is a dash, never a zero."""

from __future__ import annotations

UNKNOWN = "–"


def ms_text(value: float | None, *, signed: bool = False) -> str:
    """Return milliseconds with four significant digits at most: `0.0123`, `12.34`, `1,234`."""
    if value is None:
        return UNKNOWN
    places = 4 if abs(value) < 1 else 3 if abs(value) < 10 else 2 if abs(value) < 100 else 1
    return f"{value:{'+' if signed else ''},.{places}f}"


def percent_text(value: float | None) -> str:
    """Return a share as whole per cents, small ones with a decimal."""
    if value is None:
        return UNKNOWN
    return f"{value:.1%}" if 0 < abs(value) < 0.095 else f"{value:.0%}"


def bytes_text(value: float | None) -> str:
    """Return bytes with a decimal unit: `612 B`, `18.8 kB`, `104.9 MB`."""
    if value is None:
        return UNKNOWN
    for unit in ("B", "kB", "MB"):
        if abs(value) < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.2f} GB"


def count_text(value: float | None) -> str:
    """Return a count of operations or parameters: `48.0 k`, `938.1 M`."""
    if value is None:
        return UNKNOWN
    for unit in ("", " k", " M"):
        if abs(value) < 1000:
            return f"{value:.0f}" if not unit else f"{value:.1f}{unit}"
        value /= 1000
    return f"{value:.1f} G"


def shape_text(shape: tuple[int, ...] | None) -> str:
    """Return `1×6×28×28`."""
    return "×".join(map(str, shape)) if shape else UNKNOWN
