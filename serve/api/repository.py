"""Triton's extensions beside inference: the repository's index, statistics, and what is not offered."""

from __future__ import annotations

from typing import Any

import orjson

from serve.api import HttpRequest, RefusedError, Reply
from serve.api.protocol import Protocol
from serve.served import ServedModel
from serve.tally import Tally

CLOSED = (
    "which models are served is fixed when `cnnkit serve MODEL…` starts; a newer export of one is taken up"
)
SHARED = "shared memory is not offered: a request's data travel in its body"
# The beginning of a path, and why nothing is there.
REFUSED = {
    "/v2/repository/models/": CLOSED,
    "/v2/systemsharedmemory": SHARED,
    "/v2/cudasharedmemory": SHARED,
    "/v2/trace/": "traces are not offered; GET /metrics and …/stats say where the time goes",
    "/v2/logging": "log settings cannot be changed from outside",
}


class Repository:
    """The handlers over the protocol's registry."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol

    async def index(self, request: HttpRequest) -> Reply:
        """List every model and version; `{"ready": true}` in the body leaves out what takes no requests."""
        only_ready = _only_ready(await request.read())
        registry = self.protocol.registry
        if only_ready and not registry.ready:
            return Reply(body=b"[]")
        rows = [
            {"name": model.name, "version": version, **_state(model, version, registry.ready)}
            for model in registry.models.values()
            for version in model.versions
            if not (only_ready and model.fault(version))
        ]
        return Reply(body=orjson.dumps(rows))

    async def all_statistics(self, request: HttpRequest) -> Reply:
        """Answer the statistics of every model."""
        return _statistics(
            [row for model in self.protocol.registry.models.values() for row in self._rows(model)]
        )

    async def statistics(self, request: HttpRequest, name: str, version: str | None) -> Reply:
        """Answer the statistics of a model, or of one version. Raises RefusedError (404)."""
        model = self.protocol.known(name, version)
        return _statistics([row for row in self._rows(model) if version in (None, row["version"])])

    def _rows(self, model: ServedModel) -> list[dict[str, Any]]:
        queues = self.protocol.registry.queues
        tallies = {version: queue.tally for (name, version), queue in queues.items() if name == model.name}
        never = Tally()
        return [tallies.get(name, never).as_json(model.name, name) for name in model.versions]


def refused(path: str) -> RefusedError:
    """Return why nothing of the API answers a path."""
    for start, why in REFUSED.items():
        if path.startswith(start):
            return RefusedError(400, why)
    return RefusedError(404, "there is nothing here; GET /openapi.json lists what is")


def _state(model: ServedModel, version: str, ready: bool) -> dict[str, str]:
    fault = model.fault(version)
    why = "stopping" if not ready else fault.why if fault else None
    return {"state": "UNAVAILABLE", "reason": why} if why else {"state": "READY"}


def _only_ready(body: bytes) -> bool:
    if not body.strip():
        return False
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RefusedError(400, f"the request is no JSON: {error}") from None
    ready = data.get("ready", False) if isinstance(data, dict) else None
    if not isinstance(ready, bool):
        raise RefusedError(400, "the request must be an object; its `ready` true or false")
    return ready


def _statistics(rows: list[dict[str, Any]]) -> Reply:
    return Reply(body=orjson.dumps({"model_stats": rows}))
