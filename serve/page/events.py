"""How the page's events run: one after the other, none dropped, none callable by name."""

from __future__ import annotations

from typing import Any, Literal


def in_turn(group: str, *, show_progress: Literal["minimal", "hidden"] = "hidden") -> dict[str, Any]:
    """Return the settings of events whose answers must come in the order in which they were asked for.

    Gradio's own ways of thinning out events (`once`, `always_last`) lose the last of several quick ones,
    so that the page would show an answer to another picture than the chosen one.
    """
    return {
        "api_visibility": "private",
        "show_progress": show_progress,
        "trigger_mode": "multiple",
        "concurrency_id": group,
        "concurrency_limit": 1,
    }
