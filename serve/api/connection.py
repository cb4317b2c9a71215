"""uvicorn's protocol, bounded: so many connections, so long for a request's head; replies leave in one piece.

uvicorn writes head and body apart, each a system call and a packet, and waits for ever for a first request.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from typing import Any, ClassVar

from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

HEAD = b"HTTP/1."
# longer bodies are written apart rather than copied behind their head
COPIED = 65_536
# Below the 1,024 files that a process may commonly have open, so that models can still be read.
MOST_CONNECTIONS = 900
# From a connection's beginning, or a later head's first byte, to the head's end.
HEAD_S = 10.0
FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
    b"retry-after: 1\r\nconnection: close\r\n\r\n%s"
)


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


def body_is_whole(cycle: Any) -> bool:
    """Tell whether all of a request's body is there, so that reading it waits for nothing."""
    return not cycle.more_body


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

    most_connections: ClassVar[int] = MOST_CONNECTIONS
    head_s: ClassVar[float] = HEAD_S
    _alarm: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Take up a connection, or answer 503 where there are too many; those that there are go on."""
        super().connection_made(Together(transport, self.loop))
        if len(self.connections) > self.most_connections:
            error = b'{"error":"%d connections are open already; try again soon"}' % self.most_connections
            self.transport.write(FULL % (len(error), error))
            self.transport.close()
        else:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        super().connection_lost(exc)
        self._head_came()

    def data_received(self, data: bytes) -> None:
        """Read on, and do not wait for ever for the rest of a head that began."""
        super().data_received(data)
        if self._alarm is None and not self._asked():
            self._expect_head()

    def _asked(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _expect_head(self) -> None:
        self._alarm = self.loop.call_later(self.head_s, self._head_is_late)

    def _head_came(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _head_is_late(self) -> None:
        self._alarm = None
        if not self._asked() and not self.transport.is_closing():
            self.transport.close()

    def on_headers_complete(self) -> None:
        """Begin a request, and let the application answer it in one step."""
        super().on_headers_complete()
        self._head_came()
        if isinstance(self.cycle, RequestResponseCycle) and self.cycle.scope is self.scope:
            scope: Any = self.scope  # uvicorn types its own keys alone
            scope["cnnkit.body_is_whole"] = functools.partial(body_is_whole, self.cycle)
            scope["cnnkit.reply_whole"] = functools.partial(reply_whole, self.cycle)
