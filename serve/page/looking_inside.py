"""The tab that looks inside: Grad-CAM and the maps of any layer, for models with a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from serve.explaining import Explainer, map_tiles, overlay
from serve.page.components import in_turn
from serve.page.pictures import ChosenPicture
from serve.served import ServedModel
from toolkit.answering import Invert
from toolkit.artifacts import CHECKPOINT
from toolkit.backends import opener
from toolkit.errors import CnnkitError

AUTOMATIC = "last picture layer"


def explainer_of(entry: ServedModel, made: dict[str, Explainer]) -> Explainer:
    """Return the explainer of an entry's weights as they are now; `made` keeps one a model until a reload.

    Raises CnnkitError.
    """
    known, now = made.get(entry.name), entry.artifact
    if known is None or now is None or known.artifact.passport.sha256 != now.passport.sha256:
        known = made[entry.name] = Explainer(
            entry.read(), entry.opening.limits, model_file=entry.opening.model_file
        )
    return known


def build_inside(entries: Sequence[ServedModel], current: Any, invert: Any) -> None:
    """Draw the tab over the picture that was shown last."""
    checkpoints = [entry for entry in entries if CHECKPOINT in entry.backend.formats]
    able = {entry.name: entry for entry in checkpoints if not entry.why_not}
    if not able:
        reasons = "; ".join(sorted({entry.why_not for entry in checkpoints if entry.why_not}))
        gr.Markdown(f"{opener(CHECKPOINT).title} looks inside, and it {reasons or 'is not here'}.")
        return
    with gr.Row(equal_height=False):
        model = gr.Dropdown(list(able), value=next(iter(able)), label="Model", min_width=160)
        layer = gr.Dropdown([AUTOMATIC], value=AUTOMATIC, label="Layer", min_width=160, elem_id="layer")
        button = gr.Button("Look inside", variant="primary", min_width=160, elem_id="look")
    said = gr.Markdown("Draw or pick a picture above, then look inside.", elem_id="inside-note")
    with gr.Row(equal_height=False):
        heat = gr.Image(
            label="Grad-CAM: red speaks for the answer",
            alt_text="the picture with the regions in red that speak for the network's answer",
            format="png",
            interactive=False,
            height=300,
            min_width=240,
            buttons=["download"],
            elem_id="heat",
        )
        maps = gr.Gallery(
            label="The layer's output channels",
            show_label=False,
            columns=8,
            height=300,
            object_fit="contain",
            format="png",
            interactive=False,
            min_width=240,
            elem_classes=["pixels"],
            elem_id="maps",
        )
    made: dict[str, Explainer] = {}  # the tab's events run one after the other, so that no two make the same

    def look(picture: ChosenPicture | None, name: str, which: str, how: Invert) -> list[Any]:
        """Explain the last picture."""
        if picture is None or name not in able:
            return ["Draw or pick a picture above first.", gr.update(), None, []]
        try:
            insight = explainer_of(able[name], made).look(
                picture.data,
                layer=None if which == AUTOMATIC else which,
                invert=picture.resolve(how),
            )
        except CnnkitError as error:
            return [f"**{error}**", gr.update(choices=[AUTOMATIC], value=AUTOMATIC), None, []]
        count, height, width = insight.maps.shape
        text = (
            f"**{insight.label}**, seen from `{insight.layer}`: {count} channels of {height}×{width}, "
            "on one grey scale"
        )
        return [text, gr.update(choices=[AUTOMATIC, *insight.layers]), overlay(insight), map_tiles(insight)]

    asked, shown = [current, model, layer, invert], [said, layer, heat, maps]
    gr.on([button.click, layer.input], look, asked, shown, **in_turn("inside"))
