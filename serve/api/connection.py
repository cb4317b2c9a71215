"""uvicorn's protocol, bounded: so many connections, so much of each held; whole replies in one piece.

uvicorn writes head and body apart, each a system call and a packet; sets and cancels a timer for the wait
between any two requests, which costs as much as parsing one; waits for ever for a first request, and
for a client that does not read; makes a request of everything that is sent behind one which has no answer
yet; loses the body of a request that asks for another protocol; and tells no handler that its client left.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any, ClassVar

import httptools
import msgspec
from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from serve.api.messages import ErrorReply
from serve.api.whole import reply_whole, whole_body

# Below the 1,024 files that a process may commonly have open, so that models can still be read.
MOST_CONNECTIONS = 900
# From a connection's beginning, or a later head's first byte, to the head's end.
HEAD_S = 10.0
# How long a client may leave what it was sent unread.
UNREAD_S = 30.0
# A connection that waits for its next request is closed at a stop once it was quiet for so long.
QUIET_S = 1.0
# Bytes that are parsed before a look at whether a request waits behind another: a dozen small requests.
SLICE = 1_024
# A body's bytes are no requests, so they are parsed in larger pieces.
BODY_SLICE = 262_144
FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
    b"retry-after: 1\r\nconnection: close\r\n\r\n%s"
)
BAD = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"


def bounded(most: int) -> type[Connection]:
    """Return the protocol of a server that holds at most so many connections."""
    return type("BoundedConnection", (Connection,), {"most_connections": most})


def begin_to_stop(state: Any) -> None:
    """Have every connection that comes from now on be one of a server that stops."""
    state.cnnkit_stopping = True


class Connection(AutoHTTPProtocol):  # type: ignore[misc,valid-type]  # uvicorn chooses the class when imported
    """uvicorn's own protocol, with bounds, whose requests may be answered in one step."""

    most_connections: ClassVar[int] = MOST_CONNECTIONS
    head_s: ClassVar[float] = HEAD_S
    parser: Any
    unread_s: ClassVar[float] = UNREAD_S
    quiet_s: ClassVar[float] = QUIET_S
    on_lost: Callable[[], None] | None = None
    _alarm: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _answering: tuple[Any, asyncio.Task[None]] | None = None
    _stopping = False
    _quiet_since = 0.0
    _waits_for_next = False
    _keeping: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Take up a connection, for which one that is quiet makes room; answer 503 where none is."""
        super().connection_made(transport)
        self._held = b""
        self._quiet_since = self.loop.time()
        if len(self.connections) > self.most_connections and not self._make_room():
            error = b'{"error":"%d connections are open already; try again soon"}' % self.most_connections
            self.transport.write(FULL % (len(error), error))
            self.transport.close()
            return
        self._expect_head()
        if getattr(self.server_state, "cnnkit_stopping", False):
            self.shutdown()

    def _make_room(self) -> bool:
        """Close the connection that waits the longest for its next request; False where none does."""
        kept = [c for c in self.connections if c._waits_for_next and c.is_quiet]
        if kept:
            min(kept, key=lambda connection: connection._quiet_since).transport.close()
        return bool(kept)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection, and give up the answer to a request of the API that nobody waits for."""
        if self._answering is not None:
            cycle, task = self._answering
            if not task.done():
                cycle.disconnected = True
                if cycle.scope.get("cnnkit.cancellable"):
                    task.cancel()
        super().connection_lost(exc)
        if self.on_lost is not None:
            self.on_lost()
        self._head_came()
        self._read_on()
        if self._keeping is not None:
            self._keeping.cancel()
        self._held = b""
        self.pipeline.clear()

    @property
    def is_quiet(self) -> bool:
        """Tell whether no request is being read or answered."""
        return not (self._asked() or self.pipeline or self._held or self.transport.is_closing())

    def data_received(self, data: bytes) -> None:
        """Read on, but not beyond a request that waits for another's answer: the bytes behind it are held."""
        self._waits_for_next = False
        if self._held:
            self._held += data
        else:
            self._held = data
        self._parse()

    def _parse(self) -> None:
        """Parse what is held, slice by slice; most often it is one request, of which nothing is copied."""
        if not self._held:
            return
        held, at = memoryview(self._held), 0
        self._held = b""
        while at < len(held) and not self.pipeline and not self.transport.is_closing():
            size = BODY_SLICE if self._asked() and self.cycle.more_body else SLICE
            part = held[at : at + size]
            at += len(part)
            try:
                self.parser.feed_data(part)
            except httptools.HttpParserUpgrade as upgrade:
                if not any(name == b"upgrade" for name, _ in self.headers):  # CONNECT alone needs none
                    self._refuse_tunnel()
                    return
                held, at = memoryview(self._stay() + held[at - len(part) + upgrade.args[0] :]), 0
            except httptools.HttpParserError as error:
                self._refuse(error)
                return
        if self.transport.is_closing():
            return
        if at < len(held):
            self._held = bytes(held[at:])
            self.flow.pause_reading()
        elif self._alarm is None and not self._asked():
            self._expect_head()

    def _stay(self) -> bytes:
        """Return a request's head without its wish for another protocol, which RFC 9110 (7.8) allows.

        The parser stops where the other protocol would begin: before the body.
        """
        wishes = {b"upgrade", b"http2-settings"}
        kept: list[bytes] = []
        for name, value in self.headers:
            if name == b"connection":
                words = [word.strip() for word in value.split(b",")]
                left = b", ".join(word for word in words if word.lower() not in wishes)
                kept.append(b"connection: %s\r\n" % left if left else b"")
            elif name not in wishes:
                kept.append(b"%s: %s\r\n" % (name, value))
        line = self.parser.get_method(), self.url, self.parser.get_http_version().encode()
        self.parser = httptools.HttpRequestParser(self)
        return b"%s %s HTTP/%s\r\n%s\r\n" % (*line, b"".join(kept))

    def _refuse(self, error: Exception) -> None:
        """Answer what is no HTTP in words, after the answers that are due, and hang up."""
        said = str(error) if type(error) is not httptools.HttpParserCallbackError else "its first line"
        self._hang_up(400, f"the request is no HTTP/1.1 that can be read: {said}")

    def _refuse_tunnel(self) -> None:
        """Answer who takes this server for a proxy, as those are who sent what is no HTTP."""
        self._hang_up(
            405, "CONNECT is for a proxy, which this server is not; GET /openapi.json lists what is"
        )

    def _hang_up(self, status: int, why: str) -> None:
        if self.transport.is_closing():
            return
        if self._asked() and not self.cycle.more_body:
            self.cycle.keep_alive = False
        else:
            self._last_words(status, why)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP as every refusal is answered, and hang up."""
        self._last_words(400, msg)

    def _last_words(self, status: int, why: str) -> None:
        body = msgspec.json.encode(ErrorReply(why))
        self.transport.write(b"".join((STATUS_LINE[status], BAD % len(body), body)))
        self.transport.close()

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
        if self.parser.should_upgrade():
            return
        before = self.cycle
        super().on_headers_complete()
        self._head_came()
        cycle = self.cycle
        if self._stopping:
            cycle.keep_alive = False
            if before is not None and not before.response_complete:
                before.keep_alive = True  # the connection ends with the last answer, not before
        scope: Any = cycle.scope  # uvicorn types its own keys alone
        scope["cnnkit.whole_body"] = functools.partial(whole_body, cycle)
        scope["cnnkit.reply_whole"] = functools.partial(reply_whole, cycle)

    def on_message_complete(self) -> None:
        """End a request's body."""
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        task = self.loop.create_task(cycle.run_asgi(app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)
        self._answering = cycle, task

    def on_response_complete(self) -> None:
        """Go on with the request behind, if there is one; only then is more read."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        self._quiet_since = self.loop.time()
        behind = self.pipeline.pop() if self.pipeline else None
        if behind is not None:
            self._start_asgi_task(*behind)
        if self.pipeline:
            self.flow.pause_reading()
        elif self._held:
            self.loop.call_soon(self._parse)
        elif behind is None:
            self._wait_for_next()

    def _wait_for_next(self) -> None:
        self._waits_for_next = True
        if self._keeping is None:
            self._keeping = self.loop.call_later(self.timeout_keep_alive, self._keep)

    def _keep(self) -> None:
        """Close a connection that waited for its next request for too long; look at another one later."""
        left_s = self.timeout_keep_alive
        if self._waits_for_next:
            left_s += self._quiet_since - self.loop.time()
        self._keeping = None
        if left_s <= 0:
            self.transport.close()
        else:
            self._keeping = self.loop.call_later(left_s, self._keep)

    def pause_writing(self) -> None:
        """Wait for a client that does not read its answer, but not for ever."""
        super().pause_writing()
        self._unread = self.loop.call_later(self.unread_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: the client read."""
        super().resume_writing()
        self._read_on()

    def _read_on(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def shutdown(self) -> None:
        """Answer what is asked or on its way, say that the answer is the last, close what is quiet."""
        self._stopping = True
        if self._asked():
            self.cycle.keep_alive = False
        self._close_when_quiet()

    def _close_when_quiet(self) -> None:
        if self.transport.is_closing():
            return
        left_s = self._quiet_since + self.quiet_s - self.loop.time()
        if self.is_quiet and left_s <= 0:
            self.transport.close()
        else:
            self.loop.call_later(max(left_s, 0.05), self._close_when_quiet)
