"""Whoever is told, in sentences, what a function does while it works."""

from __future__ import annotations

from collections.abc import Callable

# takes one sentence for people; `print` is one
Tell = Callable[[str], None]


def silent(text: str) -> None:
    """Tell nobody."""
