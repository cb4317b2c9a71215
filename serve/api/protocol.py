"""The Open Inference Protocol v2: health, metadata and inference."""

from __future__ import annotations

import asyncio
import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from msgspec import UNSET
from numpy.typing import NDArray

from serve.api import HttpRequest, RefusedError, Reply
from serve.api.admission import Admission
from serve.api.bodies import json_reply
from serve.api.infer_request import AskedInference, Parser, split
from serve.api.messages import (
    BatchingConfiguration,
    ConfiguredTensor,
    InferReply,
    LiveReply,
    ModelConfiguration,
    ModelDescription,
    ModelReadyReply,
    ReadyReply,
    ServerDescription,
    TensorDescription,
)
from serve.api.tensors import WantedOutput, datatype, finite, render
from serve.batching import Arrays
from serve.classifier import Classifier
from serve.registry import Registry, Version
from serve.served import RETRY_S, ServedModel
from toolkit.checkpoints import tool_versions
from toolkit.errors import CnnkitError
from toolkit.passports import TensorSpec

EXTENSIONS = [
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "statistics",
]


OVERFLOW = "the input's numbers are so large that the network's output is not finite"
Made = TypeVar("Made")
# each output that is asked for, and its array
Answers = list[tuple[WantedOutput, NDArray[Any]]]


class Protocol:
    """The protocol's handlers over a registry."""

    def __init__(self, registry: Registry, admission: Admission) -> None:
        self.registry = registry
        self.admission = admission
        self._parsers: WeakKeyDictionary[Classifier, Parser] = WeakKeyDictionary()

    async def live(self, request: HttpRequest) -> Reply:
        """Answer that the process is up."""
        return json_reply(LiveReply(live=True))

    async def ready(self, request: HttpRequest) -> Reply:
        """Answer whether models are warm and requests are taken: 200 or 503."""
        ready = self.registry.ready
        return json_reply(ReadyReply(ready=ready), status=200 if ready else 503)

    async def server(self, request: HttpRequest) -> Reply:
        """Describe the server."""
        return json_reply(
            ServerDescription(
                name="cnnkit",
                version=tool_versions().get("cnnkit", "unknown"),
                extensions=EXTENSIONS,
            )
        )

    def model(self, name: str) -> ServedModel:
        """Return a served model. Raises RefusedError (404)."""
        found = self.registry.models.get(name)
        if found is None:
            raise RefusedError(404, f"no model {name[:80]!r}; served: {', '.join(self.registry.models)}")
        return found

    def known(self, request: HttpRequest) -> ServedModel:
        """Return the model of a request's path, which has its version. Raises RefusedError (404)."""
        model = self.model(request.model)
        if request.version is not None and request.version not in model.versions:
            raise _no_version(model, request.version)
        return model

    async def version(self, request: HttpRequest, name: str, version: str | None) -> Version:
        """Return a version of a model, opened now if it was not yet. Raises RefusedError (404, 503, 504)."""
        model = self.model(name)
        found = self.registry.opened(model, version)
        if found is not None:
            return found
        if version not in model.files:
            raise _no_version(model, str(version))
        try:
            async with asyncio.timeout_at(request.deadline):
                return await self.registry.open(model, version)
        except TimeoutError:
            raise RefusedError(
                504, f"version {version} of {model.name} is still being opened; ask again"
            ) from None
        except CnnkitError as error:
            raise RefusedError(503, str(error), {b"retry-after": b"%d" % RETRY_S}) from None

    async def model_ready(self, request: HttpRequest) -> Reply:
        """Answer whether a model takes requests: 200 or 503."""
        model = self.known(request)
        ready = self.registry.ready and model.fault(request.version or model.default) is None
        return json_reply(ModelReadyReply(name=model.name, ready=ready), status=200 if ready else 503)

    async def metadata(self, request: HttpRequest) -> Reply:
        """Describe a model: versions, inputs and outputs."""
        model, classifier, _ = await self.version(request, request.model, request.version)
        return json_reply(
            ModelDescription(
                name=model.name,
                versions=usable(model),
                platform=model.backend.platform,
                inputs=[_described(classifier.input)],
                outputs=[_described(spec) for spec in classifier.outputs.values()],
            )
        )

    async def config(self, request: HttpRequest) -> Reply:
        """Describe a model as Triton's configuration extension does."""
        model, classifier, queue = await self.version(request, request.model, request.version)
        return json_reply(
            ModelConfiguration(
                name=model.name,
                platform=model.backend.platform,
                max_batch_size=queue.most_rows,
                input=[_configured(classifier.input)],
                output=[_configured(spec) for spec in classifier.outputs.values()],
                dynamic_batching=BatchingConfiguration(round(queue.batcher.settings.most_delay_ms * 1e3)),
            )
        )

    async def infer(self, request: HttpRequest) -> Reply:
        """Run a model on the request's rows."""
        found = await self.version(request, request.model, request.version)
        body = await request.read()

        def parse(parser: Parser) -> tuple[NDArray[Any], AskedInference]:
            return parser.parse(*split(body, request.headers.get(b"inference-header-content-length")))

        return await self.run(request, found, parse, lambda asked, answers: _answer(asked, answers, found))

    async def run(
        self,
        request: HttpRequest,
        found: Version,
        parse: Callable[[Parser], tuple[NDArray[Any], AskedInference]],
        answer: Callable[[AskedInference, Answers], Made],
    ) -> Made:
        """Return what `answer` makes of a version's outputs for the rows that `parse` reads, and count it."""
        start = time.perf_counter()
        tally = found.queue.tally
        try:
            rows, asked = parse(self._parser(found.classifier))
            parsed = time.perf_counter()
            deadline = min(request.deadline, request.came + (asked.deadline_s or math.inf))
            arrays, timing = await self.admission.run(found, rows, deadline)
            ran = time.perf_counter()
            reply = answer(asked, _wanted(asked, arrays, found.classifier))
        except RefusedError:
            tally.failed(time.perf_counter() - start)
            raise
        tally.answered(
            len(rows),
            read_s=parsed - start,
            queue_s=timing.queue_ms / 1e3,
            infer_s=timing.infer_ms / 1e3,
            write_s=time.perf_counter() - ran,
        )
        return reply

    def _parser(self, classifier: Classifier) -> Parser:
        found = self._parsers.get(classifier)
        if found is None:
            found = self._parsers[classifier] = Parser(
                classifier.input, [spec.name for spec in classifier.outputs.values()]
            )
        return found


def _wanted(asked: AskedInference, arrays: Arrays, classifier: Classifier) -> Answers:
    """Return the outputs that are asked for. Raises RefusedError (400) where one holds no number."""
    by_name = {spec.name: arrays[at] for at, spec in classifier.outputs.items()}
    answers = [(wanted, by_name[wanted.name]) for wanted in asked.wanted]
    if not all(finite(array) for _, array in answers):
        raise RefusedError(400, OVERFLOW)
    return answers


def _answer(asked: AskedInference, answers: Answers, version: Version) -> Reply:
    classifier = version.classifier
    reply = InferReply(
        model_name=version.model.name,
        model_version=classifier.artifact.passport.precision,
        outputs=[],
        id=UNSET if asked.ident is None else asked.ident,
    )
    body, header_length = render(reply, answers, classifier.artifact.passport)
    headers = headers_of(classifier)
    if header_length is None:
        return Reply(body=body, headers=headers)
    headers[b"inference-header-content-length"] = b"%d" % header_length
    return Reply(body=body, content_type=b"application/octet-stream", headers=headers)


def headers_of(classifier: Classifier) -> dict[bytes, bytes]:
    """Return what every answer says of the engine that gave it."""
    passport = classifier.artifact.passport
    return dict(_headers(passport.sha256, classifier.backend, passport.precision))


@functools.lru_cache(maxsize=64)
def _headers(sha256: str, backend: str, precision: str) -> dict[bytes, bytes]:
    return {
        b"x-model-sha256": sha256.encode(),
        b"x-backend": backend.encode(),
        b"x-precision": precision.encode(),
    }


def usable(model: ServedModel) -> list[str]:
    """Return the versions that can be asked for: all but those that could not be opened."""
    return [name for name in model.versions if model.fault(name) is None]


def _no_version(model: ServedModel, version: str) -> RefusedError:
    return RefusedError(
        404, f"no version {version[:80]!r} of {model.name}; known: {', '.join(model.versions)}"
    )


def _described(spec: TensorSpec) -> TensorDescription:
    return TensorDescription(name=spec.name, datatype=datatype(spec), shape=_lengths(spec.shape))


def _lengths(shape: Sequence[int | None]) -> list[int]:
    return [-1 if length is None else length for length in shape]


def _configured(spec: TensorSpec) -> ConfiguredTensor:
    return ConfiguredTensor(name=spec.name, data_type=f"TYPE_{datatype(spec)}", dims=_lengths(spec.shape[1:]))
