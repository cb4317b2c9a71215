"""The page on a cluster: one replica has it, and those of the API pass its requests on, bodies whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from serve.api import GoneError, Message, Receive, RefusedError, Scope, Send
from serve.api.app import MAX_BODY
from serve.lifetime import assemble
from serve.lineup import line_up
from serve.reload import Reloader
from serve.settings import ServeSettings
from toolkit.telling import aloud

# what of a request's scope travels: the rest belongs to the replica that it came to
KEPT = (
    "type",
    "http_version",
    "method",
    "scheme",
    "path",
    "raw_path",
    "query_string",
    "root_path",
    "headers",
)


class PageReplica:
    """The one replica that has the page, and the engines that it compares."""

    def __init__(self, names: Sequence[str], settings: ServeSettings) -> None:
        served = line_up(names, settings.backend, settings.opening, others=True, choices=settings.choices)
        self.app = assemble(served, settings, aloud)
        self.app.registry.start()
        self._alive: asyncio.Event | None = None

    async def _begun(self) -> None:
        """Have the page live as in a server of its own, from its first request on."""
        if self._alive is None:
            self._alive = asyncio.Event()
            self._life = asyncio.create_task(self._live(self._alive))
            reloader = Reloader(self.app.registry, self.app.metrics, aloud)
            self._reloading = asyncio.create_task(reloader.run())
        await self._alive.wait()

    async def _live(self, alive: asyncio.Event) -> None:
        told: asyncio.Queue[Message] = asyncio.Queue()
        told.put_nowait({"type": "lifespan.startup"})

        async def send(message: Message) -> None:
            alive.set()

        await self.app({"type": "lifespan", "asgi": {"version": "3.0"}}, told.get, send)

    async def answer(self, scope: Scope, body: bytes) -> AsyncIterator[Message]:
        """Yield the page's answer to a request that another replica let in and counts."""
        await self._begun()
        answers: asyncio.Queue[Message | None] = asyncio.Queue()
        left = asyncio.Event()
        given = iter(({"type": "http.request", "body": body, "more_body": False},))

        async def receive() -> Message:
            for message in given:
                return message
            await left.wait()
            return {"type": "http.disconnect"}

        async def ask() -> None:
            try:
                await self.app.show_page(scope, receive, answers.put)
            finally:
                answers.put_nowait(None)

        asking = asyncio.create_task(ask())
        try:
            while (message := await answers.get()) is not None:
                yield message
        finally:
            left.set()
            asking.cancel()


class PageElsewhere:
    """ASGI that asks the page's replica by its handle."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle.options(stream=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, and its answer back as it comes. Raises RefusedError or GoneError."""
        body = await _whole(receive)
        told = {name: scope[name] for name in KEPT if name in scope}
        told["client"] = tuple(scope.get("client") or ("", 0))
        begun = False
        try:
            async for message in self.handle.answer.remote(told, body):
                begun = True
                await send(message)
        except Exception as error:  # of Ray, whose own are many
            if begun:
                raise GoneError from error
            raise RefusedError(
                503, "the page's replica is being replaced; try again soon", {b"retry-after": b"1"}
            ) from error


async def _whole(receive: Receive) -> bytes:
    parts = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise GoneError
        parts += message.get("body", b"")
        if len(parts) > MAX_BODY:
            raise RefusedError(413, f"more than {MAX_BODY:,} bytes", {b"connection": b"close"})
        if not message.get("more_body", False):
            return bytes(parts)
