"""uvicorn's protocol, bounded: so many connections, so long for a request's head; whole replies in one piece.

uvicorn writes head and body apart, each a system call and a packet, and waits for ever for a first request.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from typing import Any, ClassVar

from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

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


def reply_whole(cycle: Any, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
    """Send a reply whose headers hold its length; False where uvicorn's own, slower way must be taken.

    Two messages through uvicorn's `send`, each header through two regular expressions, cost a tenth
    of a LeNet's answer. What is rare (a client that went away, a slow reader) is left to it.
    """
    rare = cycle.response_started or cycle.disconnected or cycle.flow.write_paused or cycle.access_log
    if rare or cycle.scope["method"] == "HEAD":
        return False
    ending = [] if cycle.keep_alive else [(b"connection", b"close")]
    lines = [b"%s: %s\r\n" % pair for pair in (*cycle.default_headers, *headers, *ending)]
    head = b"".join((STATUS_LINE[status], *lines, b"\r\n"))
    if head.count(b"\n") != len(lines) + 2 or head.count(b"\r") != len(lines) + 2:
        raise ValueError("a header holds a line break")
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    cycle.transport.write(head + body if len(body) < COPIED else head)
    if len(body) >= COPIED:
        cycle.transport.write(body)
    cycle.message_event.set()
    if ending:
        cycle.transport.close()
    cycle.on_response()
    return True


class Connection(AutoHTTPProtocol):  # type: ignore[misc,valid-type]  # uvicorn chooses the class when imported
    """uvicorn's own protocol, with bounds, whose requests may be answered in one step."""

    most_connections: ClassVar[int] = MOST_CONNECTIONS
    head_s: ClassVar[float] = HEAD_S
    _alarm: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Take up a connection, or answer 503 where there are too many; those that there are go on."""
        super().connection_made(transport)
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
        cycle = self.cycle
        if isinstance(cycle, RequestResponseCycle) and cycle.scope is self.scope:
            scope: Any = self.scope  # uvicorn types its own keys alone
            scope["cnnkit.body_is_whole"] = lambda: not cycle.more_body
            scope["cnnkit.reply_whole"] = functools.partial(reply_whole, cycle)
