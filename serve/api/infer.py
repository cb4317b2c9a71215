"""The Open Inference Protocol v2: health, metadata and inference."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson

from serve.api import RefusedError, Reply, Request
from serve.api.gate import Gate
from serve.api.rows import finite
from serve.api.tensors import DATATYPES, InferRequest, render, split
from serve.classifier import Classifier
from serve.versions import RETRY_S, Model, Registry, Version
from toolkit.artifacts import TensorSpec
from toolkit.checkpoints import tool_versions
from toolkit.errors import CnnkitError

PLATFORMS = {"ort": "onnxruntime_onnx", "pytorch": "pytorch_eager", "trt": "tensorrt_plan"}
EXTENSIONS = [
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "statistics",
]


class Protocol:
    """The protocol's handlers over a registry."""

    def __init__(self, registry: Registry, gate: Gate) -> None:
        self.registry = registry
        self.gate = gate
        self._opening: set[asyncio.Future[Version | None]] = set()

    async def live(self, request: Request) -> Reply:
        """Answer that the process is up."""
        return Reply(body=b'{"live":true}')

    async def ready(self, request: Request) -> Reply:
        """Answer whether models are warm and requests are taken: 200 or 503."""
        if not self.registry.ready:
            return Reply(body=b'{"ready":false}', status=503)
        return Reply(body=b'{"ready":true}')

    async def server(self, request: Request) -> Reply:
        """Describe the server."""
        version = tool_versions().get("cnnkit", "unknown")
        return _json({"name": "cnnkit", "version": version, "extensions": EXTENSIONS})

    def model(self, name: str) -> Model:
        """Return a served model. Raises RefusedError (404)."""
        found = self.registry.models.get(name)
        if found is None:
            raise RefusedError(404, f"no model {name[:80]!r}; served: {', '.join(self.registry.models)}")
        return found

    def known(self, name: str, version: str | None) -> Model:
        """Return a served model that has this version. Raises RefusedError (404)."""
        model = self.model(name)
        if version is not None and version not in model.versions:
            raise _no_version(model, version)
        return model

    async def version(self, request: Request, name: str, version: str | None) -> tuple[Model, Version]:
        """Return a served model and its version. Raises RefusedError (404, 503, 504)."""
        model = self.model(name)
        found = model.opened.get(version or model.default)
        if found is None:
            found = await self._open(request, model, version)
        if found is None:
            raise _no_version(model, str(version))
        return model, found

    async def _open(self, request: Request, model: Model, version: str | None) -> Version | None:
        # an opening goes on when the request's time is up, so that a later one finds it done
        opening = asyncio.ensure_future(model.version(version))
        self._opening.add(opening)
        opening.add_done_callback(self._opened)
        try:
            async with asyncio.timeout_at(request.deadline):
                return await asyncio.shield(opening)
        except TimeoutError:
            why = f"version {version} of {model.name} is still being opened; ask again"
            raise RefusedError(504, why) from None
        except CnnkitError as error:
            raise RefusedError(503, str(error), {b"retry-after": b"%d" % RETRY_S}) from None

    def _opened(self, opening: asyncio.Future[Version | None]) -> None:
        self._opening.discard(opening)
        if not opening.cancelled():
            opening.exception()  # seen, where nobody waits for it any more

    async def model_ready(self, request: Request, name: str, version: str | None) -> Reply:
        """Answer whether a model takes requests: 200 or 503."""
        model = self.known(name, version)
        status = 200 if self.registry.ready and model.fault(version or model.default) is None else 503
        return Reply(body=orjson.dumps({"name": model.name, "ready": status == 200}), status=status)

    async def metadata(self, request: Request, name: str, version: str | None) -> Reply:
        """Describe a model: versions, inputs and outputs."""
        model, found = await self.version(request, name, version)
        passport = found.classifier.artifact.passport
        return _json(
            {
                "name": model.name,
                "versions": usable(model),
                "platform": PLATFORMS.get(model.entry.backend, model.entry.backend),
                "inputs": [_tensor(passport.input)],
                "outputs": [_tensor(spec) for spec in found.classifier.outputs.values()],
            }
        )

    async def config(self, request: Request, name: str, version: str | None) -> Reply:
        """Describe a model as Triton's configuration extension does."""
        model, found = await self.version(request, name, version)
        spec = found.classifier.artifact.passport.input
        return _json(
            {
                "name": model.name,
                "platform": PLATFORMS.get(model.entry.backend, model.entry.backend),
                "max_batch_size": found.batcher.policy.max_batch,
                "input": [_configured(spec)],
                "output": [_configured(one) for one in found.classifier.outputs.values()],
                "dynamic_batching": {
                    "max_queue_delay_microseconds": round(found.batcher.policy.delay_ms * 1e3)
                },
            }
        )

    async def infer(self, request: Request, name: str, version: str | None) -> Reply:
        """Run a model on the request's rows."""
        model, found = await self.version(request, name, version)
        body = await request.read()
        start = time.perf_counter()
        classifier = found.classifier
        try:
            head, tail = split(body, request.headers.get(b"inference-header-content-length"))
            asked = found.parser.parse(head, tail)
            parsed = time.perf_counter()
            deadline = request.deadline
            if asked.deadline_s is not None:
                deadline = min(deadline, request.came + asked.deadline_s)
            arrays, timing = await self.gate.run(model.name, found, classifier.run, asked.rows, deadline)
            ran = time.perf_counter()
            reply = _answer(asked, arrays, model, classifier)
        except RefusedError:
            found.tally.fail.add(time.perf_counter() - start)
            raise
        found.tally.answered(
            len(asked.rows),
            read_s=parsed - start,
            queue_s=timing.queue_ms / 1e3,
            infer_s=timing.infer_ms / 1e3,
            write_s=time.perf_counter() - ran,
        )
        return reply


def _answer(asked: InferRequest, arrays: list[Any], model: Model, classifier: Classifier) -> Reply:
    by_name = {spec.name: arrays[at] for at, spec in classifier.outputs.items()}
    answers = [(wanted, by_name[wanted.name]) for wanted in asked.wanted]
    if not all(finite(array) for _, array in answers):
        raise RefusedError(400, "the input's numbers are so large that the network's output is not finite")
    passport = classifier.artifact.passport
    head = {"model_name": model.name, "model_version": passport.precision}
    if asked.ident is not None:
        head["id"] = asked.ident
    body, header_length = render(head, answers, classifier.classes)
    headers = headers_of(classifier)
    if header_length is None:
        return Reply(body=body, headers=headers)
    headers[b"inference-header-content-length"] = b"%d" % header_length
    return Reply(body=body, content_type=b"application/octet-stream", headers=headers)


def headers_of(classifier: Classifier) -> dict[bytes, bytes]:
    """Return what every answer says of the engine that gave it."""
    passport = classifier.artifact.passport
    return {
        b"x-model-sha256": passport.sha256.encode(),
        b"x-backend": classifier.backend.encode(),
        b"x-precision": passport.precision.encode(),
    }


def usable(model: Model) -> list[str]:
    """Return the versions that can be asked for: all but those that could not be opened."""
    return [name for name in model.versions if model.fault(name) is None]


def _no_version(model: Model, version: str) -> RefusedError:
    return RefusedError(
        404, f"no version {version[:80]!r} of {model.name}; known: {', '.join(model.versions)}"
    )


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "datatype": DATATYPES.get(spec.dtype, spec.dtype.upper()),
        "shape": [-1 if n is None else n for n in spec.shape],
    }


def _configured(spec: TensorSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "data_type": f"TYPE_{DATATYPES.get(spec.dtype, spec.dtype.upper())}",
        "dims": list(spec.shape[1:]),
    }


def _json(data: Any) -> Reply:
    return Reply(body=orjson.dumps(data))
