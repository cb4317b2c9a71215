"""A graph from elsewhere becomes an artifact with a passport, judged on labelled pictures."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.artifacts import Artifact, artifact_path
from toolkit.backends import Engine, EngineOptions, opener
from toolkit.checkpoints import tool_versions
from toolkit.exporting.placing import refuse_unknown
from toolkit.figures import shape_text
from toolkit.graphs import GRAPH
from toolkit.graphs.facts import opset_of
from toolkit.graphs.reading import hash_graph, read_normalised
from toolkit.graphs.recognising import dialect_of
from toolkit.importing import Imported, ImportRequest, KnownFacts
from toolkit.importing.classes import settle_classes
from toolkit.importing.facts import known_facts
from toolkit.importing.inputs import PictureInput, fix_inputs, picture_input, refuse_several_inputs
from toolkit.importing.judging import Judged, Progress, judge_import
from toolkit.importing.pixels import SettledPixels, settle_pixels, turn_channels
from toolkit.importing.placing import name_for, refuse_taken, write_imported
from toolkit.importing.scores import ScoreOutput, place_scores
from toolkit.passports import BY_SOURCE, Metrics, Passport, TensorSpec
from toolkit.preprocessing import Preprocessing
from toolkit.telling import Tell, silent


@dataclass(frozen=True, kw_only=True)
class ShapedGraph:
    """A graph whose ends are known: `taken` is its input of pictures, `scores` its first output."""

    model: Any
    taken: PictureInput
    scores: ScoreOutput
    known: KnownFacts | None


def import_graph(request: ImportRequest, tell: Tell, progress: Progress) -> Imported:
    """Make an artifact of an .onnx file. Raises CnnkitError in words, and then nothing is left behind."""
    read = read_normalised(request.source, before=lambda model: fix_inputs(model, request.fixed))
    model = read.model
    for told in read.notes:
        tell(told)
    imported_sha256 = hash_graph(request.source)
    name = name_for(request.source, request.name)
    refuse_taken(request.root, name, imported_sha256, fresh=request.fresh)
    place = artifact_path(request.root, name, f".{GRAPH}")
    refuse_unknown(place, request.source, fresh=request.fresh, tell=tell)
    said: list[str] = []

    def note(text: str) -> None:
        said.append(text)
        tell(text)

    shaped = _shaped(request, model, note)
    # what a search begins with is nothing to tell: it says what it found
    settled = settle_pixels(request.pixels, shaped.known, shaped.taken, silent if request.find else note)
    if _turns(shaped.taken.spec, settled.preprocessing):
        request, settled = _taking_rgb(request, shaped, settled)
    classes = settle_classes(request, shaped.known, shaped.scores.columns, note)
    drafted = dataclasses.replace(
        _draft(shaped, settled, classes),
        model=_model_name(shaped, name),
        imported_from=request.source.name,
        precision=read.precision,
        quantised_by=None if read.precision == "fp32" else BY_SOURCE,
        int8_dialect=dialect_of(model),
        imported_sha256=imported_sha256,
        source_sha256=imported_sha256,
    )

    def opening(passport: Passport) -> Engine:
        artifact = Artifact(path=Path(f"{name}.{GRAPH}"), passport=passport)
        return opener(GRAPH).open(artifact, EngineOptions(graph=shaped.model.SerializeToString()))

    judged = judge_import(request, drafted, shaped.taken, settled, opening, tell=note, progress=progress)
    passport = judged.passport
    prepared = passport.preprocessing
    if prepared is not None and _turns(passport.input, prepared):  # a search found that it takes BGR
        turn_channels(shaped.model, passport.input)
        passport = dataclasses.replace(passport, preprocessing=dataclasses.replace(prepared, order="rgb"))
    made = write_imported(request.root, name, shaped.model, passport, note)
    return imported(made, judged, said)


def _turns(takes: TensorSpec, prepared: Preprocessing) -> bool:
    """Tell whether a graph has to turn channels itself: pixels of uint8 go into it as pictures have them."""
    return takes.dtype == "uint8" and prepared.order == "bgr" and prepared.channels == 3


def _taking_rgb(
    request: ImportRequest, shaped: ShapedGraph, settled: SettledPixels
) -> tuple[ImportRequest, SettledPixels]:
    """Make a graph of uint8 take RGB before it is judged; one that cnnkit wrote as BGR turns it already."""
    own = shaped.known.preprocessing if shaped.known is not None else None
    if own is None or own.order != "bgr":
        turn_channels(shaped.model, shaped.taken.spec)
    wishes = dataclasses.replace(request.pixels, order="rgb")
    prepared = dataclasses.replace(settled.preprocessing, order="rgb")
    return dataclasses.replace(request, pixels=wishes), dataclasses.replace(settled, preprocessing=prepared)


def imported(made: Artifact, judged: Judged, said: list[str]) -> Imported:
    """Return what came of an import: the artifact, and what was measured and said on the way."""
    return Imported(
        path=made.path,
        passport=made.passport,
        accuracy=judged.accuracy,
        accuracy_ci95=judged.accuracy_ci95,
        images=judged.images,
        tried=judged.tried,
        said=tuple(said),
    )


def _shaped(request: ImportRequest, model: Any, note: Tell) -> ShapedGraph:
    known = known_facts(request.source, model, note)
    refuse_several_inputs(model)
    size = known.size or (known.preprocessing.size if known.preprocessing else None) if known else None
    channels = known.preprocessing.channels if known and known.preprocessing else None
    taken = picture_input(model, request.pixels, size, channels)
    if len(taken.layouts) > 1 and not request.find:
        note(
            f"{taken.spec.name!r} ({shape_text(taken.spec.shape)}) is taken to be {taken.layouts[0]} "
            "(--input-layout says otherwise)"
        )
    count = len(request.classes) if request.classes else len(known.classes or ()) if known else None
    scores, spec = place_scores(model, taken.spec, request.logits, count or None, note)
    return ShapedGraph(model=model, taken=dataclasses.replace(taken, spec=spec), scores=scores, known=known)


def _draft(shaped: ShapedGraph, settled: SettledPixels, classes: tuple[str, ...]) -> Passport:
    known, takes, scores = shaped.known, shaped.taken.spec, shaped.scores
    return Passport(
        format=GRAPH,
        model="",
        precision="fp32",
        trained=known.trained if known else None,
        input=takes,
        output=TensorSpec(
            name=scores.name, shape=(takes.shape[0], scores.columns), dtype=scores.dtype, layout="NC"
        ),
        classes=classes,
        preprocessing=settled.preprocessing,
        dataset=known.dataset if known else None,
        metrics=known.metrics if known else Metrics(),
        tools=tool_versions("onnxruntime-gpu", "onnxruntime", "numpy", "pillow"),
        softmax=scores.probabilities,
        opset=opset_of(shaped.model),
        outputs=tuple(value.name for value in shaped.model.graph.output),
        preprocessing_from=settled.origin,
    )


def _model_name(shaped: ShapedGraph, name: str) -> str:
    props = {entry.key: entry.value for entry in shaped.model.metadata_props}
    return props.get("cnnkit.model") or name
