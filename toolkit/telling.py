"""Whoever is told, in sentences, what a function does while it works."""

from __future__ import annotations

import sys
from collections.abc import Callable

# takes one sentence for people; `print` is one
Tell = Callable[[str], None]


def aloud(text: str) -> None:
    """Tell people on stderr, at once."""
    print(text, file=sys.stderr, flush=True)


def silent(text: str) -> None:
    """Tell nobody."""
