"""Triton's extensions beside inference: the repository's index, statistics, and what is not offered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import msgspec

from serve.api import HttpRequest, RefusedError, Reply
from serve.api.bodies import json_reply, read
from serve.api.messages import ControlRequest, Done, IndexEntry, IndexRequest
from serve.api.protocol import Protocol
from serve.control import Control
from serve.counts import Counts
from serve.served import ServedModel
from serve.tally import ModelStatistics, StatisticsReply
from toolkit.errors import CnnkitError, NotFoundError

CLOSED = (
    "which models are served is fixed when `cnnkit serve MODEL…` starts, unless with --model-control; "
    "a newer export of one is taken up"
)
SHARED = "shared memory is not offered: a request's data travel in its body"
# The beginning of a path, and why nothing is there.
REFUSED = {
    "/v2/repository/models/": "POST …/NAME/load or …/NAME/unload is all there is; NAME is an artifact's",
    "/v2/systemsharedmemory": SHARED,
    "/v2/cudasharedmemory": SHARED,
    "/v2/trace/": "traces are not offered; GET /metrics and …/stats say where the time goes",
    "/v2/logging": "log settings cannot be changed from outside",
}


READY_WORDS = {"": "the request must be an object; its `ready` true or false"}
CONTROL_WORDS = {
    "": "the request must be an object; its parameters hold unload_dependents at most: a model is loaded as "
    "its artifact's passport says",
}
CONTROL = msgspec.json.Decoder(ControlRequest)
INDEX = msgspec.json.Decoder(IndexRequest)


class Repository:
    """The handlers over the protocol's registry."""

    def __init__(
        self, protocol: Protocol, control: Control | None, counts: Callable[[], Awaitable[Counts]]
    ) -> None:
        """Without `control`, which models are served stays as it is; `counts` are of all processes."""
        self.protocol = protocol
        self.control = control
        self.counts = counts

    async def load(self, request: HttpRequest) -> Reply:
        """Serve a model of the folder, or open its newest artifact anew. Raises RefusedError (400)."""
        control = await self._controlled(request)
        try:
            await control.load(request.model)
        except CnnkitError as error:
            raise RefusedError(400, f"{request.model[:80]} cannot be loaded: {error}") from None
        return json_reply(Done())

    async def unload(self, request: HttpRequest) -> Reply:
        """Serve a model no more, once all who wait for it are answered. Raises RefusedError (400, 404)."""
        control = await self._controlled(request)
        self.protocol.model(request.model)
        try:
            await control.unload(request.model)
        except NotFoundError as error:  # who was first gave it up meanwhile
            raise RefusedError(404, str(error)) from None
        return json_reply(Done())

    async def _controlled(self, request: HttpRequest) -> Control:
        body = await request.read()
        if self.control is None:
            raise RefusedError(400, CLOSED)
        read(CONTROL, body if body.strip() else b"{}", CONTROL_WORDS)
        return self.control

    async def index(self, request: HttpRequest) -> Reply:
        """List every model and version; `{"ready": true}` in the body leaves out what takes no requests."""
        body = await request.read()
        only_ready = read(INDEX, body if body.strip() else b"{}", READY_WORDS).ready
        registry = self.protocol.registry
        rows = [
            _entry(model, version, registry.ready)
            for model in registry.models.values()
            for version in model.versions
        ]
        rows += [
            IndexEntry(name=name, version="", state="UNAVAILABLE", reason="unloaded")
            for name in sorted(registry.unloaded)
        ]
        return json_reply([row for row in rows if row.state == "READY" or not only_ready])

    async def all_statistics(self, request: HttpRequest) -> Reply:
        """Answer the statistics of every model."""
        return await self._statistics(self.protocol.registry.models.values(), None)

    async def statistics(self, request: HttpRequest) -> Reply:
        """Answer the statistics of a model, or of one version. Raises RefusedError (404)."""
        return await self._statistics([self.protocol.known(request)], request.version)

    async def _statistics(self, models: Iterable[ServedModel], asked: str | None) -> Reply:
        tallies = (await self.counts()).models
        return json_reply(
            StatisticsReply(
                [
                    tallies.get((model.name, version)) or ModelStatistics.none_yet(model.name, version)
                    for model in models
                    for version in model.versions
                    if asked in (None, version)
                ]
            )
        )


def refused(path: str) -> RefusedError:
    """Return why nothing of the API answers a path."""
    for start, why in REFUSED.items():
        if path.startswith(start):
            return RefusedError(400, why)
    return RefusedError(404, "there is nothing here; GET /openapi.json lists what is")


def _entry(model: ServedModel, version: str, ready: bool) -> IndexEntry:
    fault = model.fault(version)
    why = "stopping" if not ready else fault.why if fault else None
    if why is None:
        return IndexEntry(name=model.name, version=version, state="READY")
    return IndexEntry(name=model.name, version=version, state="UNAVAILABLE", reason=why)
