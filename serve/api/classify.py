"""`POST /v1/classify`: a picture in, labels and probabilities out."""

from __future__ import annotations

import time
from typing import Any, get_args
from urllib.parse import parse_qsl

import orjson

from serve.api import HttpRequest, RefusedError, Reply
from serve.api.admission import Admission
from serve.api.decoding import Decoders
from serve.api.multipart import file_of
from serve.api.protocol import Protocol, headers_of, usable
from serve.batching import DeadlineError, QueueFullError
from serve.classifier import Invert, PreparedPicture, prepare
from serve.registry import Version
from serve.settings import Limits
from toolkit.errors import ImageError, ImageSizeError, NoImageError
from toolkit.images import top_classes

KNOWN = ("model", "version", "top", "invert")


class Classify:
    """The handler over a registry; decodes pictures off the event loop."""

    def __init__(self, protocol: Protocol, admission: Admission, limits: Limits) -> None:
        self.protocol = protocol
        self.admission = admission
        self.limits = limits
        # a picture becomes one row, so that as many may wait for a decoder as rows for the engine
        self.decoders = Decoders(protocol.registry.batching.max_waiting)

    async def models(self, request: HttpRequest) -> Reply:
        """List what can be asked."""
        rows = [
            {
                "name": model.name,
                "versions": usable(model),
                "backend": model.backend,
                "classes": list(model.classifier().classes),
            }
            for model in self.protocol.registry.models.values()
        ]
        return Reply(body=orjson.dumps({"models": rows}))

    async def classify(self, request: HttpRequest) -> Reply:
        """Classify the picture of the body: raw bytes, or a form's field `file`."""
        query = _query(request.query)
        top, invert = _top(query.get("top", "3")), _invert(query.get("invert", "auto"))
        name = query.get("model", self.protocol.registry.default().name)
        version = await self.protocol.version(request, name, query.get("version"))
        body = await request.read()
        start = time.perf_counter()
        try:
            return await self._answer(request, body, version, top=top, invert=invert)
        except RefusedError:
            version.queue.tally.fail.add(time.perf_counter() - start)
            raise

    async def _answer(
        self, request: HttpRequest, body: bytes, version: Version, *, top: int, invert: Invert
    ) -> Reply:
        classifier = version.classifier
        prepared, waited_s = await self._prepare(request, body, version, invert)
        rows = classifier.rows(prepared)
        arrays, timing = await self.admission.run(version, rows, request.deadline)
        ran = time.perf_counter()
        try:
            row = classifier.probabilities(arrays[0])[0]
        except ImageError as error:
            raise RefusedError(422, str(error)) from None
        best = top_classes(row, classifier.classes, top)
        latency = {
            "wait": waited_s * 1e3,
            "decode": prepared.decode_ms,
            "preprocess": prepared.preprocess_ms,
            "queue": timing.queue_ms,
            "infer": timing.infer_ms,
        }
        reply = _reply(version, best, prepared, latency)
        version.queue.tally.answered(
            1,
            read_s=(prepared.decode_ms + prepared.preprocess_ms) / 1e3,
            queue_s=waited_s + timing.queue_ms / 1e3,
            infer_s=timing.infer_ms / 1e3,
            write_s=time.perf_counter() - ran,
        )
        return reply

    async def _prepare(
        self, request: HttpRequest, body: bytes, version: Version, invert: Invert
    ) -> tuple[PreparedPicture, float]:
        name, preprocessing = version.model.name, version.classifier.preprocessing
        content_type = request.headers.get(b"content-type", b"")

        def work() -> PreparedPicture:
            data = _picture(body, content_type)
            return prepare(data, preprocessing, invert=invert, limits=self.limits)

        try:
            prepared, waited_s = await self.decoders.run(work, len(body), request.deadline)
        except (QueueFullError, DeadlineError) as error:
            raise self.admission.refused(name, error) from None
        except ImageError as error:
            raise RefusedError(_status(error), str(error)) from None
        self.admission.metrics.prepared(
            name, waited_s, prepared.decode_ms / 1e3, prepared.preprocess_ms / 1e3
        )
        return prepared, waited_s

    def close(self) -> None:
        """End the decoders' threads."""
        self.decoders.close()


def _reply(
    version: Version,
    best: list[tuple[str, float]],
    prepared: PreparedPicture,
    latency: dict[str, float],
) -> Reply:
    classifier = version.classifier
    passport = classifier.artifact.passport
    body: dict[str, Any] = {
        "model": version.model.name,
        "version": passport.precision,
        "backend": classifier.backend,
        "sha256": passport.sha256,
        "top": [{"label": label, "probability": probability} for label, probability in best],
        "inverted": prepared.inverted,
        "latency_ms": {name: round(value, 4) for name, value in latency.items()},
    }
    return Reply(body=orjson.dumps(body), headers=headers_of(classifier))


def _query(text: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=16, errors="strict")
    except ValueError as error:
        raise RefusedError(400, f"the query cannot be read: {error}") from None
    found = dict(pairs)
    if len(found) != len(pairs) or not set(found) <= set(KNOWN):
        raise RefusedError(400, f"the query takes each of {', '.join(KNOWN)} at most once")
    return found


def _top(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= len(text) <= 4 or int(text) < 1:
        raise RefusedError(400, "top must be a whole number from 1 to 9999")
    return int(text)


def _invert(text: str) -> Invert:
    for word in get_args(Invert):
        if text == word:
            return word  # type: ignore[no-any-return]  # get_args has no types
    raise RefusedError(400, f"invert must be one of {', '.join(get_args(Invert))}")


def _picture(body: bytes, content_type: bytes) -> bytes:
    kind = content_type.split(b";")[0].strip().lower()
    if kind == b"multipart/form-data":
        body = file_of(body, content_type)
    # curl --data-binary calls everything x-www-form-urlencoded, so there the bytes themselves decide
    elif kind.startswith((b"text/", b"application/json")):
        shown = kind[:60].decode("latin-1")
        raise RefusedError(415, f"send a picture's bytes or a form with the field file, not {shown}")
    if not body:
        raise RefusedError(422, "there is no picture: the body is empty")
    return body


def _status(error: ImageError) -> int:
    if isinstance(error, ImageSizeError):
        return 413
    return 415 if isinstance(error, NoImageError) else 422
