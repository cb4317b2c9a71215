"""One picture brought before engines: what each of them says of it, and the exact input that they had."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from serve.classifier import Classifier, PreparedPicture
from serve.page.asked import PageQuery
from serve.page.figures import CentredPicture, centred, is_one_colour
from serve.page.messages import EngineAnswer, PictureAnswer, SeenPicture
from serve.page.models import PageEngine, PageModel, PageModels
from serve.page.pictures import SamplePictures
from serve.settings import Limits
from toolkit.answering import preprocessing_of
from toolkit.artifacts import Artifact
from toolkit.errors import CnnkitError
from toolkit.images import open_picture, picture_of
from toolkit.inspection.sheet import png_of
from toolkit.probabilities import top_classes

TOP = 5
# engines that are compared run so often, the first time not counted; slow ones less often
COMPARED_RUNS, COMPARED_S = 15, 0.1
THUMBNAIL = 72
BLANK = "This picture is one colour all over: there is nothing to look at."


@dataclass(frozen=True, kw_only=True)
class ReadPicture:
    """A picture as it goes to a model: `centred` says what was done to it, None where nothing was."""

    image: Image.Image
    original: Image.Image
    centred: CentredPicture | None
    decode_ms: float


def read(
    data: bytes, artifact: Artifact, limits: Limits, query: PageQuery, pictures: SamplePictures | str
) -> ReadPicture | None:
    """Decode a picture, and move its figure where that is asked for; None for one that is blank.

    Raises ImageError.
    """
    start = time.perf_counter()
    preprocessing = preprocessing_of(artifact)
    image = open_picture(
        data,
        name="the picture",
        max_bytes=limits.max_bytes,
        max_pixels=limits.max_pixels,
        wide=preprocessing.wide,
    )
    if is_one_colour(image):
        return None
    lie = pictures.lie if isinstance(pictures, SamplePictures) else None
    moved = None
    if query.centre and not query.ours and lie is not None:
        moved = centred(image, lie, preprocessing.size)
    return ReadPicture(
        image=moved.image if moved else image,
        original=image,
        centred=moved,
        decode_ms=(time.perf_counter() - start) * 1e3,
    )


def answer(data: bytes, model: PageModel, models: PageModels, query: PageQuery) -> PictureAnswer:
    """Run the engines that are asked for on one picture. Raises ImageError, CnnkitError, RefusedError."""
    artifact = model.artifact
    limits = model.serving.opening.limits
    told = PictureAnswer(model=model.name, served=models.served())
    picture = read(data, artifact, limits, query, models.pictures(model))
    if picture is None:
        told.nothing = BLANK
        return told
    if query.thumbnail:
        told.thumbnail = _thumbnail(picture.original)
    first: NDArray[np.float64] | None = None
    for engine in [model.engine(name) for name in query.engines] or [model.engine(None)]:
        said, row, seen = _ask(engine, picture, query)
        if row is not None and first is not None and len(row) == len(first):
            said.difference = float(np.abs(row - first).max())
        first = row if first is None else first
        told.answers.append(said)
        if seen is not None and told.seen is None:
            told.seen = seen_picture(seen, picture)
    return told


def _ask(
    engine: PageEngine, picture: ReadPicture, query: PageQuery
) -> tuple[EngineAnswer, NDArray[np.float64] | None, PreparedPicture | None]:
    try:
        classifier = engine.classifier()
        prepared = classifier.prepare(picture.image, invert=query.way)
        answers, infer_ms = _run(classifier, prepared.rows, compared=bool(query.engines))
        row = classifier.probabilities(answers[0])[0]
    except CnnkitError as error:
        if not query.engines:
            raise
        return EngineAnswer(engine=engine.id, why_not=str(error)), None, None
    return (
        EngineAnswer(
            engine=engine.id,
            top=list(top_classes(row, classifier.classes, TOP)),
            decode_ms=picture.decode_ms,
            preprocess_ms=prepared.preprocess_ms,
            infer_ms=infer_ms,
        ),
        row,
        prepared,
    )


def _run(classifier: Classifier, rows: NDArray[Any], *, compared: bool) -> tuple[list[NDArray[Any]], float]:
    """Return the outputs, and the milliseconds: of this call; where engines are compared, the median."""
    answers, spent_ms = classifier.timed_run(rows)
    if not compared:
        return answers, spent_ms
    taken: list[float] = []
    end = time.perf_counter() + COMPARED_S
    while len(taken) < COMPARED_RUNS and (not taken or time.perf_counter() < end):
        taken.append(classifier.timed_run(rows)[1])
    return answers, median(taken)


def seen_picture(prepared: PreparedPicture, picture: ReadPicture) -> SeenPicture:
    """Return the exact input as a PNG, and what was done to the picture."""
    _, height, width = prepared.pixels.shape
    moved = picture.centred
    return SeenPicture(
        png=data_url(png_of(picture_of(prepared.pixels)), "image/png"),
        height=height,
        width=width,
        inverted=prepared.inverted,
        enlarged=moved.enlarged if moved else None,
        moved=bool(moved and moved.moved),
    )


def _thumbnail(image: Image.Image) -> str:
    small = image.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    return data_url(png_of(small), "image/png")


def data_url(data: bytes, kind: str) -> str:
    """Return bytes as a URL that needs no request."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
