"""A browser holds a stream open for as long as it shows the page, so a server that ends must end it first."""

from __future__ import annotations

from typing import Any


def end_streams(mounted: Any) -> None:
    """End the heartbeats of the Gradio app in a FastAPI one; to be called on its event loop.

    They wait for an event that only a server of Gradio's own sets when it closes, and none runs here.
    """
    for route in mounted.routes:
        stop = getattr(getattr(route, "app", None), "stop_event", None)
        if stop is not None:
            stop.set()
