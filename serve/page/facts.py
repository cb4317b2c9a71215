"""What the page says of its models before any picture: classes, engines, test pictures, what works here."""

from __future__ import annotations

from collections.abc import Sequence

from serve.page.card import card_rows
from serve.page.inside import why_no_heat, why_no_interior
from serve.page.messages import EngineFacts, ExampleFacts, ModelFacts, PageFacts
from serve.page.models import PageModel, PageModels
from serve.page.pictures import SamplePictures
from serve.served import ServedModel
from toolkit.artifacts import CHECKPOINT, Artifact, size_bytes
from toolkit.figures import bytes_text
from toolkit.passports import Passport

NO_LIE = "which way the training pictures lie is not known: none of them are here"
IN_COLOUR = "figures are centred for networks of one channel only"


def page_facts(models: PageModels) -> PageFacts:
    """Return what the page shows of what is served now."""
    for model in models.models.values():
        model.look()
    first = next(iter(models.models.values()))
    return PageFacts(
        served=models.served(),
        max_bytes=first.serving.opening.limits.max_bytes,
        models=[model_facts(model, models) for model in models.models.values()],
    )


def model_facts(model: PageModel, models: PageModels) -> ModelFacts:
    """Return what the page shows of one model."""
    artifact, pictures = model.artifact, models.pictures(model)
    labels: tuple[str, ...] = ()
    source = str(pictures)
    if isinstance(pictures, SamplePictures):
        labels, source = pictures.labels, pictures.source
    checkpoint, why = heat_checkpoint(model)
    return ModelFacts(
        name=model.name,
        summary=summary(artifact),
        takes=takes(artifact.passport),
        classes=list(artifact.passport.classes),
        colours=_channels(artifact) == 3,
        engines=_engines(model),
        absent=absent(model.entries),
        examples=[ExampleFacts(index, label) for index, label in enumerate(labels)],
        examples_from=source,
        card=card_rows(artifact),
        choice=chosen_why(model.serving),
        figure_why=_figure_why(artifact, pictures),
        inside_why=interior_artifact(model)[1],
        heat_why=why_no_heat(checkpoint, why),
    )


def _engines(model: PageModel) -> list[EngineFacts]:
    engines = model.engines()
    return [
        EngineFacts(
            id=engine.id,
            title=engine.entry.backend.title,
            precision=engine.version,
            file=engine.artifact.path.name,
            bytes=size_bytes(engine.artifact.path),
            serves=engine is engines[0],
        )
        for engine in engines
    ]


def summary(artifact: Artifact) -> str:
    """Return a model's quality and size in a line."""
    passport, metrics = artifact.passport, artifact.passport.metrics
    size = bytes_text(size_bytes(artifact.path))
    if passport.trained is False:
        quality = "untrained: its answers mean nothing"
    elif metrics.test_accuracy is None:
        quality = "accuracy unknown"
    else:
        on = f" of {metrics.test_images:,} test pictures" if metrics.test_images else " of its test pictures"
        quality = f"{metrics.test_accuracy:.1%} right{on}"
    return f"{quality} · {passport.precision} · {size}"


def takes(passport: Passport) -> str:
    """Return which pictures a network takes, in words."""
    if passport.preprocessing is None:
        return "its passport does not say which pictures it takes"
    height, width = passport.preprocessing.size
    colours = "grey" if passport.preprocessing.channels == 1 else "colour"
    return f"{height}×{width} {colours} pictures"


def absent(entries: Sequence[ServedModel]) -> list[str]:
    """Say what cannot run here: a sentence for each backend and its reason."""
    return [f"{entry.backend.title} {entry.why_not}" for entry in entries if entry.why_not]


def chosen_why(entry: ServedModel) -> str | None:
    """Return what the choice is that a model is served by, and why it was made; None without one."""
    if entry.choice is None:
        return None
    one, day = entry.choice.chosen, entry.choice.created[:10]
    what = f"{entry.backend.title}{one.label.removeprefix(one.backend)}"
    why = ", which nothing was surely faster than"
    if one.gain and one.gain_ci95:
        least, most = one.gain_ci95
        why = f", {one.gain:.2f} times as fast as the baseline ({least:.2f} to {most:.2f})"
    if one.accuracy_drop:
        why += f", for {one.accuracy_drop:.2f} points of accuracy less on {one.images or 0:,} pictures"
    return f"Served as chosen here{f' on {day}' if day else ''}: {what}{why}."


def interior_artifact(model: PageModel) -> tuple[Artifact, str | None]:
    """Return the file whose layers are shown: what serves, else another engine's; and why none can be."""
    files = [engine.artifact for engine in model.engines()]
    able = next((file for file in files if why_no_interior(file) is None), model.artifact)
    return able, why_no_interior(able)


def heat_checkpoint(model: PageModel) -> tuple[Artifact | None, str | None]:
    """Return the checkpoint of a model that can be opened here, else None and why not."""
    able = [entry for entry in model.entries if CHECKPOINT in entry.backend.formats]
    for entry in able:
        if entry.artifact is not None and not entry.why_not:
            return entry.artifact, None
    return None, next((entry.why_not for entry in able), None)


def _channels(artifact: Artifact) -> int | None:
    return artifact.passport.preprocessing.channels if artifact.passport.preprocessing else None


def _figure_why(artifact: Artifact, pictures: SamplePictures | str) -> str | None:
    if _channels(artifact) != 1:
        return IN_COLOUR
    return None if isinstance(pictures, SamplePictures) and pictures.lie else NO_LIE
