"""The page's requests, passed on to the one process that has the page, its queue and its visitors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httptools

from serve.api import GoneError, Message, Receive, RefusedError, Scope, Send
from serve.api.app import App

# what the process that passes a request on tells of it; from anybody else it counts for nothing
SCHEME, CLIENT = b"x-cnnkit-scheme", b"x-cnnkit-client"
# of one connection alone (RFC 9110, 7.6.1), or answered already
OWN = frozenset(
    {b"connection", b"keep-alive", b"upgrade", b"te", b"expect", b"http2-settings", SCHEME, CLIENT}
)
CHUNK = 65_536
GONE = "the page's process is being replaced; try again soon"


class Forward:
    """ASGI that asks the page's process over a Unix socket, a connection a request."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, and its answer back as it comes. Raises RefusedError (503) or GoneError."""
        if scope["type"] != "http":
            raise ValueError(f"no {scope['type']} is served")
        try:
            reader, writer = await asyncio.open_unix_connection(self.path)
        except OSError:
            raise RefusedError(503, GONE, {b"retry-after": b"1"}) from None
        body = _Body(scope, receive, writer)
        passing = asyncio.create_task(body.pass_on())
        begun = False
        try:
            writer.write(_head(scope))
            async for message in _messages(scope, reader, body):
                begun = True
                await send(message)
        except (OSError, httptools.HttpParserError):
            raise GoneError from None
        finally:
            passing.cancel()
            writer.close()
        if body.gone:
            raise GoneError
        if not begun:
            raise RefusedError(503, GONE, {b"retry-after": b"1"})


def _head(scope: Scope) -> bytes:
    query = scope["query_string"]
    target = scope["raw_path"] + (b"?" + query if query else b"")
    told = [(name, value) for name, value in scope["headers"] if name not in OWN]
    told += [
        (SCHEME, scope["scheme"].encode()),
        (CLIENT, ((scope.get("client") or ("",))[0] or "").encode()),
        (b"connection", b"close"),
    ]
    lines = b"".join(b"%s: %s\r\n" % pair for pair in told)
    return b"%s %s HTTP/1.1\r\n%s\r\n" % (scope["method"].encode(), target, lines)


class _Body:
    """A request's body on its way; `whole` once all of it is passed on, `gone` once its client left."""

    def __init__(self, scope: Scope, receive: Receive, writer: asyncio.StreamWriter) -> None:
        self.whole = self.gone = False
        self._chunked = any(name == b"transfer-encoding" for name, _ in scope["headers"])
        self._receive, self._writer = receive, writer

    async def pass_on(self) -> None:
        """Pass the body on, then wait for the client to leave, and leave then, too."""
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.gone = True
                self._writer.transport.abort()
                return
            body = message.get("body", b"")
            if self._chunked and body:
                body = b"%x\r\n%s\r\n" % (len(body), body)
            if not message.get("more_body", False):
                body += b"0\r\n\r\n" if self._chunked and not self.whole else b""
                self.whole = True
            try:
                self._writer.write(body)
                await self._writer.drain()
            except OSError:  # the page answered without all of it
                return


class _Reply:
    """What the parser has found and nobody has sent on yet."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.found: list[bytes] = []
        self.headed = self.whole = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.headed = True

    def on_body(self, body: bytes) -> None:
        self.found.append(body)

    def on_message_complete(self) -> None:
        self.whole = True


async def _messages(scope: Scope, reader: asyncio.StreamReader, body: _Body) -> AsyncIterator[Message]:
    """Yield the answer as ASGI's messages; nothing where the connection ended before there was one."""
    reply = _Reply()
    parser = httptools.HttpResponseParser(reply)
    begun = False
    while not reply.whole:
        data = await reader.read(CHUNK)
        if not data:
            if begun:
                raise ConnectionResetError("the page's process ended in the middle of an answer")
            return
        parser.feed_data(data)
        if reply.headed and not begun:
            begun = True
            headers = [pair for pair in reply.headers if pair[0] not in OWN | {b"transfer-encoding"}]
            # what was not read of the body would be taken for the next request
            headers += [] if body.whole else [(b"connection", b"close")]
            yield {"type": "http.response.start", "status": parser.get_status_code(), "headers": headers}
            if scope["method"] == "HEAD":
                break
        if reply.found and begun:
            part = b"".join(reply.found)
            reply.found.clear()
            yield {"type": "http.response.body", "body": part, "more_body": True}
    yield {"type": "http.response.body", "body": b"", "more_body": False}


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
