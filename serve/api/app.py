"""The one application: routes of the API by hand, everything else to the page where there is one."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from serve.api import (
    GoneError,
    Handler,
    HttpRequest,
    Receive,
    RefusedError,
    Reply,
    Scope,
    Send,
)
from serve.api.access import Access
from serve.api.admission import Admission
from serve.api.bodies import error_reply, read_body, request_id, respond
from serve.api.classify import Classify
from serve.api.documentation import Documentation
from serve.api.metrics import ServerMetrics
from serve.api.protocol import Protocol
from serve.api.repository import Repository, refused
from serve.registry import Registry
from serve.settings import Limits

if TYPE_CHECKING:
    from serve.page.guard import PageGuard

MAX_BODY = 32 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Route:
    """What answers a path: by method, and under which pattern it is counted."""

    pattern: str
    methods: Mapping[str, Handler]


class App:
    """Plain ASGI over a registry. Refusals are JSON; what nobody foresaw is a 500, its traceback logged."""

    def __init__(
        self,
        registry: Registry,
        metrics: ServerMetrics,
        *,
        access: Access,
        limits: Limits,
        deadline_s: float,
        max_body: int = MAX_BODY,
        page: PageGuard | None = None,
    ) -> None:
        """`page` answers every path that is no API's."""
        self.registry = registry
        self.metrics = metrics
        self.access = access
        self.max_body = max_body
        self.deadline_s = deadline_s
        self.page = page
        admission = Admission(metrics, deadline_s)
        self.protocol = Protocol(registry, admission)
        self.repository = Repository(self.protocol)
        self.classify = Classify(self.protocol, admission, limits)
        self.fixed = self._fixed(Documentation(list(registry.models)))

    def _fixed(self, documentation: Documentation) -> dict[str, Route]:
        async def metrics(request: HttpRequest) -> Reply:
            for model in self.registry.models.values():
                self.metrics.waiting.labels(model.name).set(self.registry.rows_waiting(model.name))
            self.metrics.waiting_pictures.set(self.classify.decoders.waiting)
            return self.metrics.page()

        found: dict[str, Mapping[str, Handler]] = {
            "/v2": _get(self.protocol.server),
            "/v2/health/live": _get(self.protocol.live),
            "/v2/health/ready": _get(self.protocol.ready),
            "/v2/repository/index": {"POST": self.repository.index},
            "/v1/models": _get(self.classify.models),
            "/v1/classify": {"POST": self.classify.classify},
            "/metrics": _get(metrics),
            **{path: _get(handler) for path, handler in documentation.handlers().items()},
        }
        return {path: Route(pattern=path, methods=methods) for path, methods in found.items()}

    def route(self, path: str) -> Route | None:
        """Return what answers a path of the API; None for the page's. Raises RefusedError (404)."""
        fixed = self.fixed.get(path)
        if fixed is not None:
            return fixed
        if path.startswith("/v2/models/"):
            return self._model_route(path)
        if path.startswith(("/v1/", "/v2/")) or self.page is None:
            raise refused(path)
        return None

    def _model_route(self, path: str) -> Route:
        name, *rest = path.split("/")[3:]
        if name == "stats" and not rest and name not in self.registry.models:
            return Route(pattern=path, methods=_get(self.repository.all_statistics))
        version = None
        pattern = "/v2/models/{model}"
        if len(rest) >= 2 and rest[0] == "versions":
            version, rest = rest[1], rest[2:]
            pattern += "/versions/{version}"
        action = "/".join(rest)
        protocol = self.protocol
        targets = {
            "": ("GET", protocol.metadata),
            "ready": ("GET", protocol.model_ready),
            "config": ("GET", protocol.config),
            "stats": ("GET", self.repository.statistics),
            "infer": ("POST", protocol.infer),
        }
        if action not in targets:
            raise refused(f"/v2/{action}")
        method, target = targets[action]

        async def handle(request: HttpRequest) -> Reply:
            return await target(request, name, version)

        methods = _get(handle) if method == "GET" else {method: handle}
        return Route(pattern=f"{pattern}/{action}" if action else pattern, methods=methods)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on to the page."""
        if scope["type"] == "lifespan":
            await (self.page or _no_lifespan)(scope, receive, send)
            return
        if scope["type"] != "http":
            raise ValueError(f"no {scope['type']} is served")
        headers = dict(scope["headers"])
        ident = request_id(headers)
        pattern = "other"
        try:
            self.access.check(scope["path"], headers)
            route = self.route(scope["path"])
            if route is None:
                assert self.page is not None
                await self.page(scope, receive, send)
                return
            pattern = route.pattern
            reply = await self._answer(route, scope, headers, receive)
        except RefusedError as refused:
            reply = error_reply(refused)
        except GoneError:
            return
        except Exception:
            traceback.print_exc()
            reply = error_reply(RefusedError(500, "this server made a mistake; its log says which"))
        self.metrics.answered(pattern, reply.status)
        await respond(send, scope, reply, ident, headers.get(b"accept-encoding", b""))

    async def _answer(
        self, route: Route, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive
    ) -> Reply:
        handler = route.methods.get(scope["method"])
        if handler is None:
            allowed = ", ".join(route.methods)
            raise RefusedError(405, f"this path takes {allowed}", {b"allow": allowed.encode()})
        came = asyncio.get_running_loop().time()
        deadline = came + self.deadline_s
        whole = scope.get("cnnkit.body_is_whole")

        def read() -> Awaitable[bytes]:
            waits = whole is None or not whole()
            return read_body(headers, receive, self.max_body, deadline if waits else None)

        request = HttpRequest(
            method=scope["method"],
            path=scope["path"],
            query=scope["query_string"].decode("latin-1"),
            headers=headers,
            came=came,
            deadline=deadline,
            read=read,
        )
        return await handler(request)


def _get(handler: Handler) -> dict[str, Handler]:
    return {"GET": handler, "HEAD": handler}


async def _no_lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
