"""`POST /v1/classify`: a picture in, labels and probabilities out."""

from __future__ import annotations

import asyncio
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
    PictureResult,
    PictureResults,
)
from serve.api.pictures import Decoders, SentPictures, pictures_in
from serve.api.protocol import Protocol, headers_of, usable
from serve.batching import DeadlineError, QueueFullError
from serve.classifier import PreparedPicture
from serve.registry import Version
from toolkit.answering import Invert
from toolkit.errors import ImageError, ImageSizeError, NoImageError
from toolkit.probabilities import top_classes

# What no picture is answered; any other fault of one is 422.
STATUS = {ImageSizeError: 413, NoImageError: 415}
# what is one picture's own, where several came
FAULTS = frozenset({413, 415, 422})
NDJSON = b"application/x-ndjson"
APART_FROM = 262_144
INVERT: dict[Inversion, Invert] = {"auto": "auto", "always": "yes", "never": "no"}
WORDS = {
    "": f"query and fields take each of {', '.join(ClassifyQuery.__struct_fields__)} at most once, together",
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
        """Classify the body's picture, or the several of its form or JSON, as its fields and query say."""
        body = await request.read()
        sent = await self._sent(body, request.headers.get(b"content-type", b""))
        query = _query(request.query, sent.query)
        default = self.protocol.registry.default()
        name = query.model if query.model is not None else default.name if default else ""
        version = await self.protocol.version(request, name, query.version)
        if sent.several:
            return await self._several(request, sent.files, version, query)
        answer = await self._timed(request, sent.files[0][1], version, query)
        return json_reply(answer, headers=headers_of(version.classifier))

    async def _sent(self, body: bytes, content_type: bytes) -> SentPictures:
        # a large form or JSON takes longer to take apart than other callers should wait
        if len(body) > APART_FROM:
            return await asyncio.to_thread(pictures_in, body, content_type)
        return pictures_in(body, content_type)

    async def _several(
        self, request: HttpRequest, files: list[tuple[str, bytes]], version: Version, query: ClassifyQuery
    ) -> Reply:
        """Answer each picture for itself; as lines of JSON where the caller accepts them."""

        async def one(file: str, data: bytes) -> PictureResult:
            try:
                return PictureResult(file, answer=await self._timed(request, data, version, query))
            except RefusedError as refused:
                if refused.status not in FAULTS:
                    raise
                return PictureResult(file, status=refused.status, error=str(refused))

        answering = [asyncio.ensure_future(one(file, data)) for file, data in files]
        try:
            results = await asyncio.gather(*answering)
        finally:
            for task in answering:  # where one is refused for all, nobody waits for the others
                task.cancel()
        headers = headers_of(version.classifier)
        if NDJSON in request.headers.get(b"accept", b""):
            return Reply(
                body=msgspec.json.Encoder().encode_lines(results), content_type=NDJSON, headers=headers
            )
        return json_reply(PictureResults(results), headers=headers)

    async def _timed(
        self, request: HttpRequest, picture: bytes, version: Version, query: ClassifyQuery
    ) -> Classification:
        start = time.perf_counter()
        try:
            return await self._answer(request, picture, version, query)
        except RefusedError:
            version.queue.tally.failed(time.perf_counter() - start)
            raise

    async def _answer(
        self, request: HttpRequest, picture: bytes, version: Version, query: ClassifyQuery
    ) -> Classification:
        classifier = version.classifier
        prepared, waited_s = await self._prepare(request, picture, version, query.invert)
        arrays, timing = await self.protocol.admission.run(version, prepared.rows, request.deadline)
        ran = time.perf_counter()
        try:
            row = classifier.probabilities(arrays[0])[0]
        except ImageError as error:
            raise RefusedError(422, str(error)) from None
        passport = classifier.artifact.passport
        answer = Classification(
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
        )
        version.queue.tally.answered(
            1,
            read_s=(prepared.decode_ms + prepared.preprocess_ms) / 1e3,
            queue_s=waited_s + timing.queue_ms / 1e3,
            infer_s=timing.infer_ms / 1e3,
            write_s=time.perf_counter() - ran,
        )
        return answer

    async def _prepare(
        self, request: HttpRequest, picture: bytes, version: Version, invert: Inversion
    ) -> tuple[PreparedPicture, float]:
        classifier = version.classifier
        if not picture:
            raise RefusedError(422, "there is no picture: the file is empty")

        def work() -> PreparedPicture:
            return classifier.prepare(picture, invert=INVERT[invert])

        try:
            prepared, waited_s = await self.decoders.run(work, len(picture), request.deadline)
        except (QueueFullError, DeadlineError) as error:
            raise self.protocol.admission.refused(version, error) from None
        except ImageError as error:
            raise RefusedError(STATUS.get(type(error), 422), str(error)) from None
        metrics = self.protocol.admission.metrics
        which = version.model.name, classifier.artifact.passport.precision
        metrics.took("decode_wait", *which, waited_s)
        metrics.took("decode", *which, prepared.decode_ms / 1e3)
        metrics.took("preprocess", *which, prepared.preprocess_ms / 1e3)
        return prepared, waited_s


def _query(text: str, said: list[tuple[str, str]]) -> ClassifyQuery:
    """Return what the query and the body say together; nothing may be said twice."""
    try:
        pairs = said + parse_qsl(text, keep_blank_values=True, max_num_fields=16, errors="strict")
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
