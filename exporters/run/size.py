"""How large an artifact is, for JSON and for people."""

from __future__ import annotations

from pathlib import Path


def size_bytes(path: Path) -> int:
    """Return the bytes of a file, or of all files of a folder."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size


def readable(size: int) -> str:
    """Return a size in the unit that suits it: 612 B, 44.1 kB, 93.4 MB."""
    if size < 1000:
        return f"{size} B"
    value = float(size)
    for unit in ("kB", "MB"):
        value /= 1000
        if value < 1000:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} GB"
