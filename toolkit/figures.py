"""Figures as people read them: sizes, durations, counts, shares; what is unknown is a dash, never a zero."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

UNKNOWN = "–"


def ms_text(value: float | None, *, signed: bool = False) -> str:
    """Return milliseconds with four significant digits at most: `0.0123`, `12.34`, `1,234.5`."""
    if value is None:
        return UNKNOWN
    places = 4 if abs(value) < 1 else 3 if abs(value) < 10 else 2 if abs(value) < 100 else 1
    return f"{value:{'+' if signed else ''},.{places}f}"


def duration_text(seconds: float | None, *, rough: bool = False) -> str:
    """Return how long something took: `41.23 ms`, `7.2 s`, `4 min 12 s`, `2 h 5 min`.

    A rough one has whole seconds up to 90, then whole minutes: `45 s`, `3 min`, `2 h 5 min`.
    """
    if seconds is None:
        return UNKNOWN
    if not rough and seconds < 0.1:
        return f"{ms_text(1e3 * seconds)} ms"
    if seconds < (90 if rough else 119.95):
        return f"{seconds:.0f} s" if rough else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds / 60) * 60 if rough else round(seconds), 60)
    if minutes < 120:
        return f"{minutes} min" if rough else f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def age_text(seconds: float) -> str:
    """Return how old something is, in its largest whole unit: `3 days old`, `made just now`."""
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count > 1 else ''} old"
    return "made just now"


def when_text(written: str | None) -> str:
    """Return a time of ISO 8601 as `2026-03-01 09:30:05 UTC`; other text as it is."""
    if written is None:
        return "not known"
    try:
        return f"{datetime.fromisoformat(written).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError):
        return written


def percent_text(value: float | None) -> str:
    """Return a share as whole per cents, small ones with a decimal."""
    if value is None:
        return UNKNOWN
    return f"{value:.1%}" if 0 < abs(value) < 0.095 else f"{value:.0%}"


def change_text(value: float | None) -> str:
    """Return a relative change with its sign: `+3.2%`."""
    return UNKNOWN if value is None else f"{value:+.1%}"


def one_line(text: str) -> str:
    """Return a name with its line breaks and other signs that move a terminal's cursor written as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def bytes_text(value: float | None) -> str:
    """Return bytes with a decimal unit: `612 B`, `18.8 kB`, `104.9 MB`, `2.35 GB`."""
    if value is None:
        return UNKNOWN
    if abs(value) < 1000:
        return f"{value:.0f} B"
    for unit in ("kB", "MB"):
        value /= 1000
        if abs(value) < 1000:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.2f} GB"


def gibibytes_text(value: float | None) -> str:
    """Return bytes in units of 2**30, as a machine's memory and a format's limit are told: `15.6 GiB`."""
    return UNKNOWN if value is None else f"{value / 2**30:.1f} GiB"


def mebibytes_text(value: float | None) -> str:
    """Return bytes in units of 2**20, as limits and a process's memory are told: `2,000 MiB`."""
    return UNKNOWN if value is None else f"{value / 2**20:,.0f} MiB"


def count_text(value: float | None, *, exact: int = 1000) -> str:
    """Return a count of operations or parameters: `48.0 k`, `938.1 M`; below `exact` every digit."""
    if value is None:
        return UNKNOWN
    if abs(value) < exact:
        return f"{value:,.0f}"
    for unit in ("k", "M"):
        value /= 1000
        if abs(value) < 1000:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} G"


def shape_text(shape: Sequence[int | None] | None) -> str:
    """Return `1×6×28×28`; N stands for an extent that is left open."""
    return "×".join("N" if extent is None else str(extent) for extent in shape) if shape else UNKNOWN


def names_text(names: Sequence[str]) -> str:
    """Return paths with what the later share with the first told once: `a.b.conv + norm + relu`."""
    if not names:
        return ""
    first = names[0]
    prefix = first[: max(first.rfind("."), first.rfind("/")) + 1]
    return " + ".join((first, *(name.removeprefix(prefix) for name in names[1:])))
