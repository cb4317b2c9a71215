"""`POST /v1/classify`: a picture in, labels and probabilities out."""

from __future__ import annotations

import time
from urllib.parse import parse_qsl

import msgspec

from serve.api import HttpRequest, RefusedError, Reply
from serve.api.bodies import json_reply, wrong
from serve.api.messages import (
    Classification,
    ClassifyQuery,
    Inversion,
    LabelProbability,
    ListedModel,
    ModelList,
    PictureLatency,
)
from serve.api.pictures import Decoders, picture_in
from serve.api.protocol import Protocol, headers_of, usable
from serve.batching import DeadlineError, QueueFullError
from serve.classifier import PreparedPicture
from serve.registry import Version
from toolkit.answering import Invert
from toolkit.errors import ImageError, ImageSizeError, NoImageError
from toolkit.images import top_classes

# What no picture is answered; any other fault of one is 422.
STATUS = {ImageSizeError: 413, NoImageError: 415}
INVERT: dict[Inversion, Invert] = {"auto": "auto", "always": "yes", "never": "no"}
WORDS = {
    "": f"the query takes each of {', '.join(ClassifyQuery.__struct_fields__)} at most once",
    "top": "top must be a whole number from 1 to 9999",
    "invert": f"invert must be one of {', '.join(INVERT)}",
}


class Classify:
    """The handler over a registry; decodes pictures off the event loop."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        # a picture becomes one row, so that as many may wait for a decoder as rows for the engine
        self.decoders = Decoders(protocol.registry.batching.max_waiting)

    async def models(self, request: HttpRequest) -> Reply:
        """List what can be asked."""
        return json_reply(
            ModelList(
                [
                    ListedModel(
                        name=model.name,
                        versions=usable(model),
                        backend=model.backend.name,
                        classes=list(model.classifier().classes),
                    )
                    for model in self.protocol.registry.models.values()
                ]
            )
        )

    async def classify(self, request: HttpRequest) -> Reply:
        """Classify the picture of the body: raw bytes, or a form's field `file`."""
        query = _query(request.query)
        name = query.model if query.model is not None else self.protocol.registry.default().name
        version = await self.protocol.version(request, name, query.version)
        body = await request.read()
        start = time.perf_counter()
        try:
            return await self._answer(request, body, version, query)
        except RefusedError:
            version.queue.tally.failed(time.perf_counter() - start)
            raise

    async def _answer(
        self, request: HttpRequest, body: bytes, version: Version, query: ClassifyQuery
    ) -> Reply:
        classifier = version.classifier
        prepared, waited_s = await self._prepare(request, body, version, query.invert)
        arrays, timing = await self.protocol.admission.run(version, prepared.rows, request.deadline)
        ran = time.perf_counter()
        try:
            row = classifier.probabilities(arrays[0])[0]
        except ImageError as error:
            raise RefusedError(422, str(error)) from None
        passport = classifier.artifact.passport
        reply = json_reply(
            Classification(
                model=version.model.name,
                version=passport.precision,
                backend=classifier.backend,
                sha256=passport.sha256,
                top=[LabelProbability(*best) for best in top_classes(row, classifier.classes, query.top)],
                inverted=prepared.inverted,
                latency_ms=PictureLatency(
                    wait=round(waited_s * 1e3, 4),
                    decode=round(prepared.decode_ms, 4),
                    preprocess=round(prepared.preprocess_ms, 4),
                    queue=round(timing.queue_ms, 4),
                    infer=round(timing.infer_ms, 4),
                ),
            ),
            headers=headers_of(classifier),
        )
        version.queue.tally.answered(
            1,
            read_s=(prepared.decode_ms + prepared.preprocess_ms) / 1e3,
            queue_s=waited_s + timing.queue_ms / 1e3,
            infer_s=timing.infer_ms / 1e3,
            write_s=time.perf_counter() - ran,
        )
        return reply

    async def _prepare(
        self, request: HttpRequest, body: bytes, version: Version, invert: Inversion
    ) -> tuple[PreparedPicture, float]:
        name, classifier = version.model.name, version.classifier
        content_type = request.headers.get(b"content-type", b"")

        def work() -> PreparedPicture:
            return classifier.prepare(picture_in(body, content_type), invert=INVERT[invert])

        try:
            prepared, waited_s = await self.decoders.run(work, len(body), request.deadline)
        except (QueueFullError, DeadlineError) as error:
            raise self.protocol.admission.refused(name, error) from None
        except ImageError as error:
            raise RefusedError(STATUS.get(type(error), 422), str(error)) from None
        metrics = self.protocol.admission.metrics
        metrics.took("decode_wait", name, waited_s)
        metrics.took("decode", name, prepared.decode_ms / 1e3)
        metrics.took("preprocess", name, prepared.preprocess_ms / 1e3)
        return prepared, waited_s


def _query(text: str) -> ClassifyQuery:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=16, errors="strict")
    except ValueError as error:
        raise RefusedError(400, f"the query cannot be read: {error}") from None
    found = dict(pairs)
    if len(found) != len(pairs):
        raise RefusedError(400, WORDS[""])
    top = found.get("top", "")
    number = {"top": int(top)} if top.isascii() and top.isdigit() and len(top) <= 4 else {}
    try:
        return msgspec.convert({**found, **number}, ClassifyQuery)
    except msgspec.ValidationError as error:
        raise wrong(error, WORDS) from None
