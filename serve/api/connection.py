"""Replies leave in one piece: uvicorn writes head and body apart, each a system call and a packet."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

HEAD = b"HTTP/1."
# longer bodies are written apart rather than copied behind their head
COPIED = 65_536


class Together:
    """A transport that holds a reply's head until its body comes, or the event loop's next turn."""

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        """Leave all but writing and closing to the transport itself."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Hold a head; send anything else at once, so that its reader works while the next is made."""
        if self._head:
            data, self._head = self._head + data, b""
            self._transport.write(data)
        elif data.startswith(HEAD):
            self._head = data
            self._loop.call_soon(self._flush)  # replies to HEAD have no body
        else:
            self._transport.write(data)

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def close(self) -> None:
        """Send what is held, then close."""
        self._flush()
        self._transport.close()


def reply_whole(cycle: Any, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
    """Send a reply whose headers hold its length; False where uvicorn's own, slower way must be taken.

    Two messages through uvicorn's `send`, each header through two regular expressions, cost a tenth
    of a LeNet's answer. What is rare (an end of the connection, a slow reader) is left to it.
    """
    if cycle.response_started or cycle.disconnected or not cycle.keep_alive or cycle.flow.write_paused:
        return False
    if cycle.scope["method"] == "HEAD" or cycle.access_log:
        return False
    lines = [b"%s: %s\r\n" % pair for pair in (*cycle.default_headers, *headers)]
    head = b"".join((STATUS_LINE[status], *lines, b"\r\n"))
    if head.count(b"\n") != len(lines) + 2 or head.count(b"\r") != len(lines) + 2:
        raise ValueError("a header holds a line break")
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    cycle.transport.write(head + body if len(body) < COPIED else head)
    if len(body) >= COPIED:
        cycle.transport.write(body)
    cycle.message_event.set()
    cycle.on_response()
    return True


class Connection(AutoHTTPProtocol):  # type: ignore[misc,valid-type]  # uvicorn chooses the class when imported
    """uvicorn's own protocol over a transport that sends replies in one piece."""

    def connection_made(self, transport: Any) -> None:
        """Take up a connection."""
        super().connection_made(Together(transport, self.loop))

    def on_headers_complete(self) -> None:
        """Begin a request, and let the application answer it in one step."""
        super().on_headers_complete()
        if isinstance(self.cycle, RequestResponseCycle) and self.cycle.scope is self.scope:
            scope: Any = self.scope  # uvicorn types its keys, and this one is ours
            scope["cnnkit.reply_whole"] = functools.partial(reply_whole, self.cycle)
