"""A served model's profile report, as `cnnkit profile` left it beside the model."""

from __future__ import annotations

from pathlib import Path

from serve.page.models import PageModel
from toolkit.markup import escaped

MAX_BYTES = 20 * 1024 * 1024


def report_path(model: PageModel) -> Path:
    """Return where the report lies."""
    return model.serving.opening.root / model.name / f"{model.name}.profile.html"


def report_html(model: PageModel) -> str:
    """Return the report, or what to type to make one."""
    path = report_path(model)
    if path.is_file() and path.stat().st_size <= MAX_BYTES:
        return path.read_text("utf-8", errors="replace")
    name = escaped(model.name)
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>No profile yet</title>"
        "<style>:root{color-scheme:light dark;background:Canvas}"
        "body{font:16px/1.6 system-ui;margin:1.5rem;max-width:46rem}code{overflow-wrap:anywhere}</style>"
        f"<p>There is no profile report of {name} yet. This measures it, layer by layer, and puts its report "
        f"here:</p><p><code>cnnkit profile {name} --html {escaped(path)}</code></p></html>"
    )
