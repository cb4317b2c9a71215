"""A request's body and its reply in one piece each, beside uvicorn's own messages.

A `cycle` is what uvicorn keeps of one request.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

# longer bodies are written apart rather than copied behind their head
COPIED = 65_536


def whole_body(cycle: Any) -> bytes | None:
    """Return a request's body where all of it is there, and nobody read it or hung up; else None."""
    if cycle.more_body or cycle.disconnected or cycle.response_complete:
        return None
    body = bytes(cycle.body)
    cycle.body.clear()
    cycle.message_event.clear()
    cycle.flow.resume_reading()  # of a long body no more was read; a client that hangs up is to be heard
    return body


@functools.lru_cache(maxsize=256)
def head_lines(headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """Return headers as they are sent. Raises ValueError for one that would begin another."""
    lines = b"".join([b"%s: %s\r\n" % pair for pair in headers])
    if lines.count(b"\n") != len(headers) or lines.count(b"\r") != len(headers):
        raise ValueError("a header holds a line break")
    return lines


def reply_whole(
    cycle: Any,
    status: int,
    headers: Sequence[tuple[bytes, bytes]],
    body: bytes,
    shared: tuple[tuple[bytes, bytes], ...] = (),
) -> bool:
    """Send a reply whose headers hold its length; False where uvicorn's own, slower way must be taken.

    The lines of `shared` headers, which many replies have in common, are kept. Two messages through uvicorn's
    `send`, each header through two regular expressions, cost a tenth of a LeNet's answer. What is rare (a
    client that went away, a slow reader) is left to it.
    """
    rare = cycle.response_started or cycle.disconnected or cycle.flow.write_paused or cycle.access_log
    if rare or cycle.scope["method"] == "HEAD":
        return False
    ending = [] if cycle.keep_alive else [(b"connection", b"close")]
    own = head_lines.__wrapped__((*cycle.default_headers, *headers, *ending))
    head = b"".join((STATUS_LINE[status], own, head_lines(shared), b"\r\n"))
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
