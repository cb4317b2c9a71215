"""The page's blocks: choose a picture, choose engines, read what each of them says of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from serve.classifier import Answer
from serve.page.card import cards, headline
from serve.page.components import drawing_as_bytes, in_turn, photo_as_bytes
from serve.page.files import build_many
from serve.page.looking_inside import build_inside
from serve.page.pictures import ChosenPicture, SamplePictures, sample_pictures
from serve.page.report import build_report
from serve.served import ServedModel
from toolkit.answering import Invert
from toolkit.errors import CnnkitError
from toolkit.images import picture_of

TOP = 5
CANVAS = (280, 280)
NOTHING_YET = "Draw something, or pick a picture."
INVERT: list[tuple[str, Invert]] = [
    ("Automatic: by the picture's border", "auto"),
    ("Invert", "yes"),
    ("Leave as it is", "no"),
]


def build(entries: Sequence[ServedModel]) -> Any:
    """Return the page's Blocks for what is served."""
    usable = [entry for entry in entries if entry.why_not is None]
    assert usable[0].artifact is not None
    pictures = sample_pictures(usable[0].artifact)
    with gr.Blocks(
        title="cnnkit", analytics_enabled=False, fill_width=True, delete_cache=(300, 1800)
    ) as blocks:
        title = gr.Markdown(headline(usable))
        current = gr.State(None)
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=300):
                inputs = _inputs(pictures)
            with gr.Column(scale=6, min_width=300):
                shown = _outputs(usable)
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
                _build_card(usable, blocks, tab, title)
            with gr.Tab("Look inside"):
                build_inside(entries, current, invert)
            with gr.Tab("Files"):
                build_many(usable, invert)
            with gr.Tab("Profile") as tab:
                build_report(usable, tab)
        _wire(_answerer(usable), pictures, inputs, [current, engines, invert], shown)
    return blocks


def _build_card(usable: Sequence[ServedModel], blocks: Any, tab: Any, title: Any) -> None:
    """Draw the cards; they and the title are written anew whenever they are looked at, as after a reload."""
    card = gr.Markdown(cards(usable), elem_id="card")
    gr.on(
        [blocks.load, tab.select],
        lambda: [headline(usable), cards(usable)],
        None,
        [title, card],
        **in_turn("card"),
    )


def _inputs(pictures: SamplePictures | str) -> list[Any]:
    """Draw what a picture comes from: a drawing, a photo, and the gallery or why there is none."""
    with gr.Tabs():
        with gr.Tab("Draw"):
            drawing = drawing_as_bytes(
                gr.ImageEditor(
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
            )
        with gr.Tab("Picture"):
            photo = photo_as_bytes(
                gr.Image(
                    label="Upload, paste or take a picture",
                    sources=["upload", "clipboard", "webcam"],
                    height=340,
                    buttons=[],
                    elem_id="photo",
                )
            )
        with gr.Tab("Test pictures"):
            gallery = gr.Markdown(pictures) if isinstance(pictures, str) else _gallery(pictures)
    return [drawing, photo, gallery]


def _gallery(pictures: SamplePictures) -> Any:
    gr.Markdown(f"Pictures that the network never saw in training, from {pictures.source}")
    return gr.Gallery(
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


def _outputs(usable: Sequence[ServedModel]) -> list[Any]:
    """Draw what shows an answer: a note, a label for each engine, a picture for each model, the times."""
    note = gr.Markdown(NOTHING_YET, elem_id="note")
    with gr.Row(equal_height=False):
        labels = [
            gr.Label(label=entry.label, num_top_classes=TOP, visible=index == 0, min_width=240)
            for index, entry in enumerate(usable)
        ]
    with gr.Row(equal_height=False):
        seen = [
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
            for index, model in enumerate(dict.fromkeys(entry.name for entry in usable))
        ]
    latency = gr.Markdown("", elem_classes=["quiet"], elem_id="latency")
    return [note, *labels, *seen, latency]


def _absent(entries: Sequence[ServedModel]) -> str:
    """Say what cannot run here: a line for each engine and reason, with the models that it holds for."""
    reasons = [(entry.backend.title, entry.why_not) for entry in entries]
    names = {
        reason: [entry.name for entry, own in zip(entries, reasons, strict=True) if own == reason]
        for reason in dict.fromkeys(reasons)
    }
    return "\n\n".join(f"**{title}** ({', '.join(names[title, why])}) {why}" for title, why in names if why)


def _answerer(usable: Sequence[ServedModel]) -> Callable[..., list[Any]]:
    models = list(dict.fromkeys(entry.name for entry in usable))

    def answer(picture: ChosenPicture | None, chosen: list[str], invert: Invert) -> list[Any]:
        """Run every chosen engine on one picture; return the note, labels, pictures seen and times."""
        picked = [entry for entry in usable if entry.label in chosen]
        answers: dict[str, Answer] = {}
        if picture is None:
            note = NOTHING_YET
        elif not picked:
            note = "Tick an engine."
        else:
            way = picture.resolve(invert)
            try:
                answers = {
                    entry.label: entry.classifier().classify(picture.data, top=TOP, invert=way)
                    for entry in picked
                }
                note = _note(answers[picked[0].label])
            except CnnkitError as error:
                note = f"**{error}**"
        tops = {label: dict(one.top) for label, one in answers.items()}
        first = {e.name: answers[e.label].prepared for e in reversed(picked) if answers}
        names = {entry.name for entry in picked}
        labels = [gr.update(visible=e in picked, value=tops.get(e.label)) for e in usable]
        seen = [
            gr.update(visible=m in names, value=picture_of(first[m].pixels) if m in first else None)
            for m in models
        ]
        return [note, *labels, *seen, _latency(answers) if answers else ""]

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
    pictures: SamplePictures | str,
    inputs: Sequence[Any],
    switches: Sequence[Any],
    shown: list[Any],
) -> None:
    """Tie every way to choose a picture, and every switch, to one answer."""
    *sources, gallery = inputs
    current, engines, invert = switches

    def fresh(data: bytes | None, chosen: list[str], how: Invert) -> list[Any]:
        picture = None if data is None else ChosenPicture(data=data)
        return [picture, *answer(picture, chosen, how)]

    for source in sources:
        source.change(fresh, [source, engines, invert], [current, *shown], **in_turn("answer"))
    if isinstance(pictures, SamplePictures):

        def pick(chosen: list[str], how: Invert, event: gr.SelectData) -> list[Any]:
            picture = ChosenPicture(data=pictures.as_png(event.index), ours=True)
            return [picture, *answer(picture, chosen, how)]

        gallery.select(pick, [engines, invert], [current, *shown], **in_turn("answer"))
    gr.on([engines.change, invert.change], answer, list(switches), shown, **in_turn("answer"))
