"""What the cache holds, and what is freed of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit import caching
from toolkit.artifacts import cache_root
from toolkit.caching import LIMIT, Kept
from toolkit.figures import bytes_text
from toolkit.tables import TextTable

ALL = "all"


@dataclass(frozen=True, kw_only=True)
class CacheContents:
    """What the cache holds, the largest first, and what was freed; `limit_bytes` None is no bound."""

    folder: Path
    kept: tuple[Kept, ...]
    freed: tuple[Kept, ...]
    limit_bytes: int | None

    @property
    def size_bytes(self) -> int:
        """Bytes that the cache holds."""
        return sum(one.size_bytes for one in self.kept)

    @property
    def freed_bytes(self) -> int:
        """Bytes that were freed."""
        return sum(one.size_bytes for one in self.freed)

    def table(self) -> TextTable:
        """Return a row of texts for each thing; the title says how much there is, and may be."""
        bound = f"no limit (${LIMIT})"
        if self.limit_bytes is not None:
            bound = f"of {bytes_text(self.limit_bytes)} that ${LIMIT} allows"
        rows = tuple(
            (one.kind, one.what, f"{_unused_days(one):.0f}", bytes_text(one.size_bytes)) for one in self.kept
        )
        title = f"{self.folder}: {bytes_text(self.size_bytes)}, {bound}"
        return TextTable(head=("kind", "what", "days unused", "size"), rows=rows, title=title, figures=2)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "cache": self.folder,
            "limit_bytes": self.limit_bytes,
            "size_bytes": self.size_bytes,
            "freed_bytes": self.freed_bytes,
            "freed": [_row(one) for one in self.freed],
            "kept": [_row(one) for one in self.kept],
        }

    def _repr_html_(self) -> str:
        return self.table().html()


def clean(*kinds: str, unused_days: float = 0.0) -> CacheContents:
    """Remove what the cache holds of these kinds, or of `all` but downloads; return what it held and holds.

    Without a kind nothing is removed; with `unused_days` only what was not used for so long. Raises
    NotFoundError for a kind that there is none of.
    """
    freed: list[Kept] = []
    if kinds:
        freed = caching.free(caching.droppable_kinds() if ALL in kinds else kinds, unused_days=unused_days)
    return CacheContents(
        folder=cache_root().absolute(),
        kept=tuple(caching.kept_things()),
        freed=tuple(freed),
        limit_bytes=caching.limit_bytes(),
    )


def _unused_days(one: Kept) -> float:
    return max(0.0, (time.time() - one.used) / 86400)


def _row(one: Kept) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "path": one.path.absolute(),
        "what": one.what,
        "size_bytes": one.size_bytes,
        "unused_days": _unused_days(one),
    }
