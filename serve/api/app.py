"""The one application: routes of the API by hand, everything else to the page where there is one."""

from __future__ import annotations

import asyncio
import functools
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from serve.api import (
    Application,
    GoneError,
    Handler,
    HttpRequest,
    Message,
    Receive,
    RefusedError,
    Reply,
    Scope,
    Send,
)
from serve.api.access import Access
from serve.api.admission import Admission
from serve.api.bodies import BodyBudget, error_reply, read_body, request_id, respond
from serve.api.classify import Classify
from serve.api.metrics import ServerMetrics, metrics_page
from serve.api.observing import AnsweredRequest, Observer
from serve.api.openapi import LOAD, MODEL, REPOSITORY, UNLOAD, VERSION, documentation
from serve.api.protocol import Protocol
from serve.api.repository import Repository, refused
from serve.api.shortages import short_of, shortage
from serve.control import Control
from serve.counts import Counts
from serve.registry import Registry

MAX_BODY = 32 * 1024 * 1024
# what a request is counted as whose client left before its answer
LEFT = 499
# paths whose answer is remembered: a client that asks for many others makes nothing grow
MOST_KEPT, LONGEST_KEPT = 256, 256


class Match(NamedTuple):
    """A path's pattern, under which it is answered and counted, and the model and version that it names."""

    pattern: str
    model: str = ""
    version: str | None = None


OTHER = Match("other")
PAGE = Match("page")


class App:
    """Plain ASGI over a registry. Refusals are JSON; what nobody foresaw is a 500, its traceback logged."""

    def __init__(
        self,
        registry: Registry,
        metrics: ServerMetrics,
        *,
        access: Access,
        deadline_s: float,
        page: Application | None = None,
        observers: Sequence[Observer] = (),
        control: Control | None = None,
        all_counts: Callable[[], Awaitable[Counts]] | None = None,
    ) -> None:
        """`page` answers every path that is no API's; what stands before the server is in `access`.

        `observers` are told of every answered request; `control` loads and unloads models, where allowed;
        `all_counts` gives what was counted by all processes, where this one is not alone.
        """
        self.registry = registry
        self.metrics = metrics
        self.access = access
        self.deadline_s = deadline_s
        self.page = page
        self.observers = tuple(observers)
        self.bodies = BodyBudget()
        self.protocol = protocol = Protocol(registry, Admission(metrics, deadline_s))
        self.classify = Classify(protocol)
        self.all_counts = all_counts or self._own_counts
        self.repository = Repository(protocol, control, self.all_counts)
        self.routes = self._routes(protocol, self.repository, self.classify)
        self._matched = functools.lru_cache(MOST_KEPT)(self.match)

    def _routes(
        self, protocol: Protocol, repository: Repository, classify: Classify
    ) -> dict[str, dict[str, Handler]]:
        """Return what answers each pattern, by method."""
        gets: dict[str, Handler] = {
            "/v2": protocol.server,
            "/v2/health/live": protocol.live,
            "/v2/health/ready": protocol.ready,
            "/v1/models": classify.models,
            "/metrics": self._metrics,
            **documentation(list(self.registry.models), self.access.front.root_path),
        }
        if "stats" not in self.registry.models:
            gets["/v2/models/stats"] = repository.all_statistics
        posts: dict[str, Handler] = {
            "/v2/repository/index": repository.index,
            LOAD: repository.load,
            UNLOAD: repository.unload,
            "/v1/classify": classify.classify,
        }
        for base in (MODEL, VERSION):
            gets[base] = protocol.metadata
            gets[f"{base}/ready"] = protocol.model_ready
            gets[f"{base}/config"] = protocol.config
            gets[f"{base}/stats"] = repository.statistics
            posts[f"{base}/infer"] = protocol.infer
        return {
            **{path: {"GET": handler, "HEAD": handler} for path, handler in gets.items()},
            **{path: {"POST": handler} for path, handler in posts.items()},
        }

    def counts(self) -> Counts:
        """Return what this process counted, and what waits in it now."""
        queues = self.registry.queues
        counts = self.metrics.counts(
            {version: queue.batcher.rows_waiting for version, queue in queues.items()},
            self.classify.decoders.waiting,
        )
        counts.models = {version: queue.tally for version, queue in queues.items()}
        return counts

    async def _own_counts(self) -> Counts:
        return self.counts()

    async def _metrics(self, request: HttpRequest) -> Reply:
        return metrics_page(await self.all_counts())

    def match(self, path: str) -> Match | None:
        """Return what answers a path of the API; None for the page's. Raises RefusedError (400, 404)."""
        if path in self.routes:
            return Match(path)
        if path.startswith("/v2/models/"):
            name, *rest = path.split("/")[3:]
            base, version = MODEL, None
            if len(rest) >= 2 and rest[0] == "versions":
                base, version, rest = VERSION, rest[1], rest[2:]
            pattern = "/".join((base, *rest))
            if pattern in self.routes:
                return Match(pattern, name, version)
            path = "/".join(("/v2", *rest))
        elif path.startswith(REPOSITORY) and path.endswith(("/load", "/unload")) and path.count("/") == 5:
            _, name, action = path.rsplit("/", 2)
            return Match(LOAD if action == "load" else UNLOAD, name)
        elif self.page is not None and not path.startswith(("/v1/", "/v2/")):
            return None
        raise refused(path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on to the page; end quietly where its client hung up meanwhile."""
        try:
            await self._serve(scope, receive, send)
        except asyncio.CancelledError:
            if not scope.get("cnnkit.cancellable"):
                raise

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" and self.page is not None:
            await self.page(scope, receive, send)
            return
        if scope["type"] != "http":  # to a server, an error here says that there is no lifespan to wait for
            raise ValueError(f"no {scope['type']} is served")
        headers = dict(scope["headers"])
        if self.access.front:
            headers = self.access.front.received(scope, headers)
        came = time.perf_counter()
        ident = request_id(headers)
        found: Match | None = OTHER
        try:
            self.access.check(scope["path"], headers)
            path = scope["path"]
            found = self._matched(path) if len(path) <= LONGEST_KEPT else self.match(path)
            if found is None:
                status = await self._show_page(scope, receive, send)
                self.answered(scope, headers, ident, found=PAGE, status=status, came=came)
                return
            scope["cnnkit.cancellable"] = True
            reply = await self._answer(found, scope, headers, receive)
        except RefusedError as refused:
            reply = error_reply(refused)
        except (GoneError, asyncio.CancelledError) as left:
            if isinstance(left, asyncio.CancelledError) and not scope.get("cnnkit.cancellable"):
                raise
            self.answered(scope, headers, ident, found=found or PAGE, status=LEFT, came=came)
            return
        except Exception as error:
            reply = error_reply(self._mistake(error))
        self.answered(scope, headers, ident, found=found or PAGE, status=reply.status, came=came)
        await respond(send, scope, reply, ident, headers.get(b"accept-encoding", b""))

    def answered(
        self,
        scope: Scope,
        headers: Mapping[bytes, bytes],
        ident: bytes,
        *,
        found: Match,
        status: int,
        came: float,
    ) -> None:
        """Count an answered request, and tell those who observe; `came` is on `time.perf_counter`'s clock."""
        seconds = time.perf_counter() - came
        self.metrics.answered(found.pattern, status, seconds)
        if self.observers:
            asked = AnsweredRequest(
                id=ident.decode(),
                method=scope["method"],
                path=scope["path"],
                route=found.pattern,
                status=status,
                seconds=seconds,
                client=(scope.get("client") or ("",))[0],
                model=found.model,
                version=found.version or "",
                headers=headers,
            )
            for observe in self.observers:
                observe(asked)

    async def show_page(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the page answer what another process let in and counts."""
        headers = dict(scope["headers"])
        try:
            await self._show_page(scope, receive, send)
            return
        except RefusedError as refused:
            reply = error_reply(refused)
        except GoneError:
            return
        except Exception as error:
            reply = error_reply(self._mistake(error))
        await respond(send, scope, reply, request_id(headers), headers.get(b"accept-encoding", b""))

    async def _show_page(self, scope: Scope, receive: Receive, send: Send) -> int:
        """Have the page answer, and return its status, 499 where its visitor left before it had one.

        Where the system is short of something, Gradio's own answer is kept back.
        """
        assert self.page is not None
        begun, failed = 0, False

        async def watched(message: Message) -> None:
            nonlocal begun, failed
            if message["type"] == "http.response.start" and message["status"] == 500:
                failed = True
                return
            if message["type"] == "http.response.start":
                begun = message["status"]
            if begun:
                await send(message)

        try:
            await self.page(scope, receive, watched)
        except GoneError:
            if not begun:
                raise
        except Exception:
            if begun:
                traceback.print_exc()
                return 500
            raise
        if failed and not begun:
            raise RefusedError(500, "the page made a mistake; the server's log says which")
        return begun or LEFT

    def _mistake(self, error: Exception) -> RefusedError:
        what = shortage(error)
        if what is not None:
            return short_of(what)
        traceback.print_exc()
        return RefusedError(500, "this server made a mistake; its log says which")

    async def _answer(
        self, found: Match, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive
    ) -> Reply:
        handlers = self.routes[found.pattern]
        if scope["method"] not in handlers:
            allowed = ", ".join(handlers)
            raise RefusedError(405, f"this path takes {allowed}", {b"allow": allowed.encode()})
        came = asyncio.get_running_loop().time()
        deadline = came + self.deadline_s
        there = scope.get("cnnkit.whole_body")
        room = self.bodies.room()

        def read() -> Awaitable[bytes]:
            return read_body(headers, receive, MAX_BODY, deadline, room=room, whole=there and there())

        request = HttpRequest(
            query=scope["query_string"].decode("latin-1"),
            headers=headers,
            came=came,
            deadline=deadline,
            read=read,
            model=found.model,
            version=found.version,
        )
        try:
            return await handlers[scope["method"]](request)
        finally:
            if room.taken:
                room.give_back()
