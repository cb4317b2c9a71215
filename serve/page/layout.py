"""The page's blocks: choose a picture, choose engines, read what each of them says of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gradio as gr

from serve.classifier import Answer
from serve.page.card import cards, headline
from serve.page.events import in_turn
from serve.page.files import build_many
from serve.page.inputs import drawing_as_bytes, photo_as_bytes
from serve.page.looking_inside import build_inside
from serve.page.pictures import ChosenPicture, TestPictures, test_pictures, to_pil
from serve.page.report import build_report
from serve.served import ServedModel
from serve.settings import Limits
from toolkit.answering import Invert
from toolkit.errors import CnnkitError

TOP = 5
CANVAS = (280, 280)
INVERT: list[tuple[str, Invert]] = [
    ("Automatic: by the picture's border", "auto"),
    ("Invert", "yes"),
    ("Leave as it is", "no"),
]


class Inputs(NamedTuple):
    """The components that a picture comes from; `gallery` shows `pictures`, where there are any."""

    drawing: Any
    photo: Any
    gallery: Any
    pictures: TestPictures | str


class Outputs(NamedTuple):
    """The components that an answer is shown in: a label for each engine, a picture for each model."""

    note: Any
    labels: list[Any]
    seen: list[Any]
    latency: Any


def build(entries: Sequence[ServedModel], limits: Limits) -> Any:
    """Return the page's Blocks for what is served."""
    usable = [entry for entry in entries if entry.why_not is None]
    with gr.Blocks(
        title="cnnkit", analytics_enabled=False, fill_width=True, delete_cache=(300, 1800)
    ) as blocks:
        title = gr.Markdown(headline(usable))
        current = gr.State(None)
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=300):
                inputs = _inputs(usable)
            with gr.Column(scale=6, min_width=300):
                outputs = _outputs(usable)
        with gr.Row(equal_height=False):
            engines = gr.CheckboxGroup(
                choices=[entry.label for entry in usable],
                value=[usable[0].label],
                label="Engines, side by side",
            )
            invert = gr.Radio(INVERT, value="auto", label="Dark figure on light ground")
        if any(entry.why_not for entry in entries):
            gr.Markdown(_absent(entries), elem_classes=["quiet"], elem_id="absent")
        with gr.Tabs():
            with gr.Tab("Card") as tab:
                described = gr.Markdown(cards(usable), elem_id="card")
                _keep_described(usable, blocks, tab, [title, described])
            with gr.Tab("Look inside"):
                build_inside(entries, limits, current, invert)
            with gr.Tab("Files"):
                build_many(usable, limits, invert)
            with gr.Tab("Profile") as tab:
                build_report(usable, tab)
        answer = _answerer(usable, limits)
        _wire(answer, inputs, (current, engines, invert), outputs)
    return blocks


def _inputs(usable: Sequence[ServedModel]) -> Inputs:
    assert usable[0].artifact is not None
    pictures = test_pictures(usable[0].artifact)
    with gr.Tabs():
        with gr.Tab("Draw"):
            drawing = gr.ImageEditor(
                label="Draw with mouse or finger",
                canvas_size=CANVAS,
                fixed_canvas=True,
                height=360,
                sources=(),
                transforms=(),
                layers=False,
                brush=gr.Brush(default_size=14, colors=["#000000"], color_mode="fixed"),
                format="png",
                buttons=[],
                elem_id="drawing",
            )
            drawing_as_bytes(drawing)
        with gr.Tab("Picture"):
            photo = gr.Image(
                label="Upload, paste or take a picture",
                sources=["upload", "clipboard", "webcam"],
                height=340,
                buttons=[],
                elem_id="photo",
            )
            photo_as_bytes(photo)
        with gr.Tab("Test pictures"):
            if isinstance(pictures, TestPictures):
                gr.Markdown(f"Pictures that the network never saw in training, from {pictures.source}")
                gallery = gr.Gallery(
                    value=[(pictures.as_pil(i), label) for i, label in enumerate(pictures.labels)],
                    label="Test pictures",
                    show_label=False,
                    columns=5,
                    height=330,
                    object_fit="contain",
                    allow_preview=False,
                    format="png",
                    buttons=[],
                    interactive=False,
                    elem_classes=["pixels"],
                    elem_id="gallery",
                )
            else:
                gallery = gr.Markdown(pictures)
    return Inputs(drawing, photo, gallery, pictures)


def _outputs(usable: Sequence[ServedModel]) -> Outputs:
    labels, seen = [], []
    note = gr.Markdown("Draw something, or pick a picture.", elem_id="note")
    with gr.Row(equal_height=False):
        for index, entry in enumerate(usable):
            labels.append(gr.Label(label=entry.label, num_top_classes=TOP, visible=index == 0, min_width=240))
    with gr.Row(equal_height=False):
        for index, model in enumerate(dict.fromkeys(entry.name for entry in usable)):
            seen.append(
                gr.Image(
                    label=f"What {model} saw",
                    alt_text=f"the picture as {model} saw it, after scaling",
                    format="png",
                    image_mode=None,
                    interactive=False,
                    height=240,
                    min_width=200,
                    visible=index == 0,
                    buttons=["download"],
                    elem_classes=["seen"],
                )
            )
    latency = gr.Markdown("", elem_classes=["quiet"], elem_id="latency")
    return Outputs(note, labels, seen, latency)


def _keep_described(usable: Sequence[ServedModel], blocks: Any, tab: Any, shown: list[Any]) -> None:
    """Write title and cards anew when the page or the cards' tab is opened: a reload may have come since."""

    def describe() -> list[str]:
        return [headline(usable), cards(usable)]

    blocks.load(describe, None, shown, **in_turn("card"))
    tab.select(describe, None, shown, **in_turn("card"))


def _absent(entries: Sequence[ServedModel]) -> str:
    models: dict[tuple[str, str], list[str]] = {}
    for entry in entries:
        if entry.why_not:
            models.setdefault((entry.backend.title, entry.why_not), []).append(entry.name)
    lines = [f"**{title}** ({', '.join(names)}) {why_not}" for (title, why_not), names in models.items()]
    return "\n\n".join(lines)


def _answerer(usable: Sequence[ServedModel], limits: Limits) -> Callable[..., list[Any]]:
    models = list(dict.fromkeys(entry.name for entry in usable))

    def answer(picture: ChosenPicture | None, chosen: list[str], invert: Invert) -> list[Any]:
        """Run every chosen engine on one picture; return the note, labels, pictures seen and times."""
        picked = [entry for entry in usable if entry.label in chosen]
        shown = {entry.name for entry in picked}
        blank = [gr.update(visible=e in picked, value=None) for e in usable]
        none = [gr.update(visible=m in shown, value=None) for m in models]
        if picture is None or not picked:
            hint = "Tick an engine." if picture is not None else "Draw something, or pick a picture."
            return [hint, *blank, *none, ""]
        answers: dict[str, Answer] = {}
        for entry in picked:
            try:
                answers[entry.label] = entry.classifier().classify(
                    picture.data, top=TOP, invert=picture.resolve(invert), limits=limits
                )
            except CnnkitError as error:
                return [f"**{error}**", *blank, *none, ""]
        labels = [
            gr.update(visible=True, value=dict(answers[e.label].top))
            if e in picked
            else gr.update(visible=False)
            for e in usable
        ]
        first = {e.name: answers[e.label] for e in reversed(picked)}
        seen = [
            gr.update(visible=True, value=to_pil(first[m].prepared.pixels))
            if m in first
            else gr.update(visible=False)
            for m in models
        ]
        return [_note(next(iter(answers.values()))), *labels, *seen, _latency(answers)]

    return answer


def _note(answer: Answer) -> str:
    label, probability = answer.top[0]
    said = "the picture was inverted first" if answer.prepared.inverted else "the picture was not inverted"
    return f"### {label} ({probability:.1%})\n{said}"


def _latency(answers: dict[str, Answer]) -> str:
    rows = [
        f"| {label} | {a.prepared.decode_ms:.2f} | {a.prepared.preprocess_ms:.2f} | {a.infer_ms:.2f} |"
        for label, a in answers.items()
    ]
    return "\n".join(["| ms | decode | preprocess | infer |", "|:--|--:|--:|--:|", *rows])


def _wire(
    answer: Callable[..., list[Any]],
    inputs: Inputs,
    switches: tuple[Any, Any, Any],
    outputs: Outputs,
) -> None:
    """Tie every way to choose a picture, and every switch, to one answer."""
    current, engines, invert = switches
    everything = [outputs.note, *outputs.labels, *outputs.seen, outputs.latency]
    settings = in_turn("answer")

    def fresh(data: bytes | None, chosen: list[str], how: Invert) -> list[Any]:
        picture = None if data is None else ChosenPicture(data=data)
        return [picture, *answer(picture, chosen, how)]

    for source in (inputs.drawing, inputs.photo):
        source.change(fresh, [source, engines, invert], [current, *everything], **settings)
    pictures = inputs.pictures
    if isinstance(pictures, TestPictures):

        def pick(chosen: list[str], how: Invert, event: gr.SelectData) -> list[Any]:
            picture = ChosenPicture(data=pictures.as_png(event.index), ours=True)
            return [picture, *answer(picture, chosen, how)]

        inputs.gallery.select(pick, [engines, invert], [current, *everything], **settings)
    for switch in (engines, invert):
        switch.change(answer, [current, engines, invert], everything, **settings)
