"""How the page looks: system fonts only, pixels shown as pixels, one column on a phone."""

from __future__ import annotations

from typing import Any

import gradio as gr

# fonts that every system has, so that nothing is fetched and nothing shifts while loading
FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")

CSS = """
.gradio-container { max-width: min(1180px, 100vw) !important; overflow-x: clip; }
.gradio-container { margin: 0 auto !important; padding: 12px !important; }
.gradio-container main { padding: 0 !important; }
.seen img, .pixels img { image-rendering: pixelated; }
.seen img { width: 100%; object-fit: contain; }
#gallery .grid-container { grid-template-columns: repeat(5, minmax(0, 1fr)) !important; }
#maps .grid-container { grid-template-columns: repeat(auto-fill, minmax(64px, 1fr)) !important; }
#gallery .caption-label, #maps .caption-label { font-size: .66rem; padding: 1px 4px; opacity: .92; }
#card table { table-layout: fixed; width: 100%; }
#card th:first-child { width: 30%; }
#card td, #card code { overflow-wrap: anywhere; white-space: normal; }
#latency table { width: 100%; }
#latency th, #latency td { padding: 4px 6px; word-break: normal; overflow-wrap: normal; }
.quiet { font-size: .86rem; opacity: .82; }
.quiet table { font-variant-numeric: tabular-nums; }
#absent { border-left: 3px solid var(--color-accent); padding-left: 10px; }
/* Gradio draws no ring around the box or circle that the keyboard stands on, and a dot before nothing */
input:is([type=checkbox], [type=radio]):focus-visible { outline: 2px solid var(--color-accent) !important;
  outline-offset: 2px; }
footer .divider { display: none !important; }
@media (max-width: 640px) {
  .gradio-container, .gradio-container > .main, .gradio-container .fillable { padding: 4px !important; }
  .gradio-container h1 { font-size: 1.25rem; }
}
"""

# Gradio's editor starts, and starts again after Clear, with no tool: take up the brush for the user.
SCRIPT = """
() => {
  setInterval(() => {
    const editor = document.querySelector("#drawing");
    const brush = editor && editor.querySelector(".half-container button");
    if (brush && !editor.querySelector("button.highlight")) brush.click();
  }, 200);
}
"""


def theme() -> Any:
    """Return the theme, light and dark by the browser's own setting."""
    return gr.themes.Default(primary_hue="emerald", neutral_hue="slate", font=FONT, font_mono=MONO)
