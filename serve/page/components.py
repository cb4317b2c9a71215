"""Gradio's components and events as the page uses them.

Pictures are handed over as bytes, so that our own limits hold before any decoding. Events run one after the
other, none dropped, none callable by name.

Gradio's own components decode with every codec that Pillow has and cap no pixels. Their instances are
changed, because a subclass of a component makes Gradio write a stub file beside its source.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from toolkit.images import MAX_BYTES

MAX_UNFETCHED = 32


def _bytes_of(payload: Any) -> bytes | None:
    """Return the bytes of an upload; the guard and Gradio have checked that its path is in our cache."""
    if payload is None or isinstance(payload, bytes):
        return payload
    if payload.path is None:
        return None
    with Path(payload.path).open("rb") as file:
        return file.read(MAX_BYTES + 1)


class _Newest(dict[str, Any]):
    """The newest drawings that no event has fetched yet; Gradio's own store grows without end."""

    def __setitem__(self, key: str, value: Any) -> None:
        while key not in self and len(self) >= MAX_UNFETCHED:
            del self[next(iter(self))]
        super().__setitem__(key, value)


def photo_as_bytes(image: Any) -> Any:
    """Make a gr.Image give its events the upload's bytes, not decoded; None where there is none."""
    image.preprocess = _bytes_of
    return image


def drawing_as_bytes(editor: Any) -> Any:
    """Make a gr.ImageEditor give its events the flattened drawing's bytes, not decoded."""
    editor.blob_storage = _Newest()

    def preprocess(payload: Any) -> bytes | None:
        if payload is not None and payload.id is not None:
            payload = editor.blob_storage.pop(payload.id, None)
        return None if payload is None else _bytes_of(payload.composite)

    editor.preprocess = preprocess
    return editor


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
