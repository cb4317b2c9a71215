"""Mount the page: Gradio's app with every way outside, and every route that the page does not need, shut."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serve.page.guard import PageGuard
from serve.served import ServedModel
from serve.settings import Limits
from toolkit.errors import MissingExtraError

# Requests waiting for the page's engines; the next one is refused by Gradio's queue.
MAX_WAITING = 64
# What a form adds to the bytes of the pictures in it.
FORM_OVERHEAD = 64 * 1024
# Gradio sends all files that were chosen together in one form; they go to the disk, not to memory.
MAX_UPLOAD = 256 * 1024 * 1024


def close_ways_out() -> Path:
    """Set what Gradio and its hub client read when they are imported: call home never, keep files apart.

    Returns the folder of this server's own in which uploads lie until it ends.
    """
    # a folder of this server's own, so that no other's upload can be named in a request
    folder = Path(tempfile.mkdtemp(prefix="cnnkit-page-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ.update(
        GRADIO_ANALYTICS_ENABLED="False",
        GRADIO_RUN_HISTORY="False",
        GRADIO_NODE_SERVER="False",
        GRADIO_TEMP_DIR=str(folder),
        HF_HUB_OFFLINE="1",
        HF_HUB_DISABLE_TELEMETRY="1",
    )
    return folder


def page_app(entries: Sequence[ServedModel], limits: Limits, root_path: str = "") -> PageGuard:
    """Return the page, under a path, as an ASGI application. Raises MissingExtraError without Gradio."""
    cache = close_ways_out()
    try:
        import gradio as gr
        from fastapi import FastAPI
    except ImportError as error:
        raise MissingExtraError(str(error.name), "page") from None
    from serve.page.layout import build
    from serve.page.theme import CSS, SCRIPT, theme

    blocks = build(entries)
    blocks.queue(max_size=MAX_WAITING, default_concurrency_limit=2, api_open=False)
    mounted = gr.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        blocks,
        path="/",
        root_path=root_path or None,
        theme=theme(),
        css=CSS,
        js=SCRIPT,
        footer_links=["settings"],
        run_history=False,
        enable_monitoring=False,
        show_error=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        max_file_size=limits.max_bytes,
    )
    max_body = limits.max_bytes + FORM_OVERHEAD
    return PageGuard(mounted, cache, max_body=max_body, max_upload=max(MAX_UPLOAD, max_body))


def end_streams(mounted: Any) -> None:
    """End the heartbeats of the Gradio app in a FastAPI one; to be called on its event loop.

    A browser holds a stream open for as long as it shows the page, so a server that ends must end it first:
    streams wait for an event that only a server of Gradio's own sets when it closes, and none runs here.
    """
    for route in mounted.routes:
        stop = getattr(getattr(route, "app", None), "stop_event", None)
        if stop is not None:
            stop.set()
