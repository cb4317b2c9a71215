"""Mount the page: Gradio's frame with every way outside, and every route that is not needed, shut."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from serve.page.guard import PageGuard
from serve.page.models import PageModels
from serve.page.routes import ASSETS, PageRoutes
from serve.served import ServedModel
from serve.settings import Limits
from toolkit.errors import MissingExtraError

# fonts that every system has, so that nothing is fetched and nothing shifts while loading
FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
HEAD = '<script type="module" src="page/page.js"></script>'


def close_ways_out() -> None:
    """Set what Gradio and its hub client read when they are imported: call home never."""
    os.environ.update(
        GRADIO_ANALYTICS_ENABLED="False",
        GRADIO_RUN_HISTORY="False",
        GRADIO_NODE_SERVER="False",
        HF_HUB_OFFLINE="1",
        HF_HUB_DISABLE_TELEMETRY="1",
    )


def page_app(entries: Sequence[ServedModel], limits: Limits, root_path: str = "") -> PageGuard:
    """Return the page, under a path, as an ASGI application. Raises MissingExtraError without Gradio."""
    close_ways_out()
    try:
        import gradio as gr
        from fastapi import FastAPI
    except ImportError as error:
        raise MissingExtraError(str(error.name), "page") from None
    mounted = gr.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        frame(),
        path="/",
        root_path=root_path or None,
        theme=gr.themes.Default(primary_hue="emerald", neutral_hue="slate", font=FONT, font_mono=MONO),
        css=(ASSETS / "page.css").read_text("utf-8"),
        head=HEAD,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        show_error=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
    )
    return PageGuard(mounted, PageRoutes(PageModels.of(entries), limits.max_bytes))


def frame() -> Any:
    """Return the Blocks that hold the page: its markup, which the page's own script brings to life."""
    import gradio as gr

    with gr.Blocks(title="cnnkit", analytics_enabled=False, fill_width=True) as blocks:
        gr.HTML((ASSETS / "page.html").read_text("utf-8"), js_on_load=None, apply_default_css=False)
    return blocks
