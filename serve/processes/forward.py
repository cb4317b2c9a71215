"""The page's requests, passed on to the one process that has the page and its engines.

Each is whole in itself, as is its answer: no stream passes here.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httptools

from serve.api import Receive, RefusedError, Scope, Send
from serve.api.app import App
from serve.api.bodies import BodyBudget, read_body
from serve.page.routes import BODY_S

# what the process that passes a request on tells of it; from anybody else it counts for nothing
SCHEME, CLIENT = b"x-cnnkit-scheme", b"x-cnnkit-client"
# of one connection alone (RFC 9110, 7.6.1), or of a body as it came
OWN = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"upgrade",
        b"te",
        b"expect",
        b"http2-settings",
        b"transfer-encoding",
        b"content-length",
        SCHEME,
        CLIENT,
    }
)
GONE = "the page's process is being replaced; try again soon"


class Forward:
    """ASGI that asks the page's process over a Unix socket, a connection a request."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        """`max_bytes` is what a request's body may weigh."""
        self.path = str(path)
        self.max_bytes = max_bytes
        self.bodies = BodyBudget()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, and its answer back. Raises RefusedError or GoneError."""
        if scope["type"] != "http":
            raise ValueError(f"no {scope['type']} is served")
        room = self.bodies.room()
        try:
            end = asyncio.get_running_loop().time() + BODY_S
            body = await read_body(dict(scope["headers"]), receive, self.max_bytes, end, room=room)
            reply = await self._ask(_head(scope, len(body)) + body)
        finally:
            if room.taken:
                room.give_back()
        if not reply.is_whole(scope["method"]):
            raise RefusedError(503, GONE, {b"retry-after": b"1"})
        headers = [pair for pair in reply.headers if pair[0] not in OWN]
        if scope["method"] != "HEAD":
            headers.append((b"content-length", b"%d" % len(reply.body)))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": bytes(reply.body)})

    async def _ask(self, request: bytes) -> _Reply:
        try:
            reader, writer = await asyncio.open_unix_connection(self.path)
        except OSError:
            raise RefusedError(503, GONE, {b"retry-after": b"1"}) from None
        reply = _Reply()
        try:
            writer.write(request)
            reply.read(await reader.read())
        except (OSError, httptools.HttpParserError):
            raise RefusedError(503, GONE, {b"retry-after": b"1"}) from None
        finally:
            writer.close()
        return reply


def _head(scope: Scope, length: int) -> bytes:
    query = scope["query_string"]
    target = scope["raw_path"] + (b"?" + query if query else b"")
    told = [(n, value) for n, value in scope["headers"] if n not in OWN and n != b"content-encoding"]
    told += [
        (SCHEME, scope["scheme"].encode()),
        (CLIENT, ((scope.get("client") or ("",))[0] or "").encode()),
        (b"content-length", b"%d" % length),
        (b"connection", b"close"),
    ]
    lines = b"".join(b"%s: %s\r\n" % pair for pair in told)
    return b"%s %s HTTP/1.1\r\n%s\r\n" % (scope["method"].encode(), target, lines)


class _Reply:
    """An answer as the parser finds it."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = bytearray()
        self.ended = False

    def read(self, data: bytes) -> None:
        """Read all that came. Raises HttpParserError."""
        parser = httptools.HttpResponseParser(self)
        parser.feed_data(data)
        self.status = parser.get_status_code()

    def is_whole(self, method: str) -> bool:
        """Tell whether the answer did not end on the way; to HEAD there is a head alone."""
        return self.status > 0 and (self.ended or method == "HEAD")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.ended = True


class FromOthers:
    """ASGI before the page, for what other processes pass on: client and scheme are what they say."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the page answer what was checked, and is counted, where it came from."""
        told: dict[bytes, Any] = {name: value for name, value in scope["headers"] if name in (SCHEME, CLIENT)}
        scope["scheme"] = told.get(SCHEME, b"http").decode()
        scope["client"] = (told.get(CLIENT, b"").decode(), 0)
        scope["headers"] = [pair for pair in scope["headers"] if pair[0] not in (SCHEME, CLIENT)]
        await self.app.show_page(scope, receive, send)
