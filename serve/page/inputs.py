"""Gradio components that hand over a picture's bytes, so that our own limits hold before any decoding.

Gradio's own components decode with every codec that Pillow has and cap no pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from toolkit.images import MAX_BYTES

MAX_UNFETCHED = 32


def _bytes_of(payload: Any) -> bytes | None:
    """Return the bytes of an upload; Gradio has checked by now that its path lies in its own cache."""
    if payload is None:
        return None
    if isinstance(payload, bytes):
        return payload
    path = getattr(payload, "path", None)
    if path is None:
        return None
    with Path(path).open("rb") as file:
        return file.read(MAX_BYTES + 1)


class _Newest(dict[str, Any]):
    """The newest drawings that no event has fetched yet; Gradio's own store grows without end."""

    def __setitem__(self, key: str, value: Any) -> None:
        while key not in self and len(self) >= MAX_UNFETCHED:
            del self[next(iter(self))]
        super().__setitem__(key, value)


class Photo(gr.Image):  # type: ignore[misc]  # gradio ships no types that mypy follows
    """An upload, a pasted picture or a webcam's, as bytes."""

    is_template = True  # drawn by the browser as gr.Image is

    def preprocess(self, payload: Any) -> bytes | None:
        """Return the upload's bytes, not decoded."""
        return _bytes_of(payload)


class Drawing(gr.ImageEditor):  # type: ignore[misc]  # gradio ships no types that mypy follows
    """What was drawn, as the bytes of one picture."""

    is_template = True  # drawn by the browser as gr.ImageEditor is

    def preprocess(self, payload: Any) -> bytes | None:
        """Return the drawing's bytes, not decoded; None where nothing came."""
        if payload is None:
            return None
        if payload.id is not None:
            payload = self.blob_storage.pop(payload.id, None)
        return _bytes_of(payload.composite) if payload is not None else None


def bounded(drawing: Drawing) -> Drawing:
    """Return the drawing with a store that cannot grow without end.

    Not done in a constructor: Gradio reads a component's settings off its constructor's parameters.
    """
    drawing.blob_storage = _Newest()
    return drawing
