"""The tab with a served model's profile report, as `cnnkit profile` left it beside the model."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import gradio as gr

from serve.page.components import in_turn
from serve.served import ServedModel

MAX_BYTES = 20 * 1024 * 1024


def report_html(entry: ServedModel) -> str:
    """Return the report in a frame that can reach nothing of this page, or what to type to make one."""
    path = entry.opening.root / entry.name / f"{entry.name}.profile.html"
    if not path.is_file() or path.stat().st_size > MAX_BYTES:
        return (
            f"<p>There is no profile report of {html.escape(entry.name)} yet. This measures it, layer by "
            f"layer, and puts its report here:<br><code>cnnkit profile {html.escape(entry.name)} "
            f"--html {html.escape(str(path))}</code></p>"
        )
    text = html.escape(path.read_text("utf-8", errors="replace"), quote=True)
    return (
        f'<iframe title="Profile of {html.escape(entry.name)}" sandbox="allow-scripts" '
        f'style="width:100%;height:80vh;border:0;background:#fff" srcdoc="{text}"></iframe>'
    )


def build_report(entries: Sequence[ServedModel], tab: Any) -> None:
    """Draw the tab; the report is read when the tab is opened, so a new one shows at once."""
    by_model = {entry.name: entry for entry in reversed(entries)}
    names = sorted(by_model)
    model = gr.Dropdown(names, value=names[0], label="Model", visible=len(names) > 1)
    shown = gr.HTML("", elem_id="report")
    gr.on(
        [tab.select, model.change],
        lambda name: report_html(by_model[name]) if name in by_model else "",
        model,
        shown,
        **in_turn("report"),
    )
