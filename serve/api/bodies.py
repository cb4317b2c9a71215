"""Bodies in and replies out: byte limits before anything is held, compression, JSON as types, request ids."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import zlib
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from serve.api import GoneError, Receive, RefusedError, Reply, Scope, Send
from serve.api.messages import ErrorReply
from toolkit.allocation import give_back_freed_memory

Body = TypeVar("Body")

# under one network packet, compressing saves nothing and costs the caller's time
COMPRESS_FROM = 1_400
_WBITS = {b"gzip": 31, b"deflate": 15}
# each member's tail is copied, so that many tiny ones would cost the square of their number
MOST_MEMBERS = 64
# bodies that fit what a connection reads ahead anyway
SMALL = 65_536
# of all bodies that are read or worked on; JSON's numbers take eight times one of them for a moment
MOST_BODY_BYTES = 256 * 1024 * 1024
TRIM_AFTER_S = 0.25
_ID = re.compile(rb"[\w.:-]{1,128}")
_boot = os.urandom(4).hex().encode()
_count = itertools.count(1)


class Room:
    """What one request's body takes of the budget."""

    __slots__ = ("_budget", "taken")

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self.taken = 0

    def take(self, size: int) -> None:
        """Take so many bytes in all. Raises RefusedError (503) where others have them."""
        more = size - self.taken
        if more <= 0 or size <= SMALL:
            return
        if self._budget.taken + more > self._budget.most:
            raise RefusedError(
                503,
                f"{self._budget.taken:,} bytes of large bodies are being worked on; try again soon",
                {b"retry-after": b"1", b"connection": b"close"},
            )
        self._budget.taken += more
        self.taken = size

    def give_back(self) -> None:
        """Give all of it back, and what the C library kept of the body to the system."""
        self._budget.taken -= self.taken
        self.taken = 0
        self._budget.trim()


class BodyBudget:
    """How many bytes of large bodies are held at once, over all requests; small ones are not counted."""

    def __init__(self, most: int = MOST_BODY_BYTES) -> None:
        self.most = most
        self.taken = 0
        self._trimming = False

    def room(self) -> Room:
        """Return what a new request's body is counted by."""
        return Room(self)

    def trim(self) -> None:
        """Give memory back once the loop has nothing more urgent: soon, and once for many bodies."""
        if not self._trimming:
            self._trimming = True
            asyncio.get_running_loop().call_later(TRIM_AFTER_S, self._trim)

    def _trim(self) -> None:
        self._trimming = False
        give_back_freed_memory()


def request_id(headers: Mapping[bytes, bytes]) -> bytes:
    """Return the caller's own X-Request-Id where it is plain text, else a new one."""
    given = headers.get(b"x-request-id")
    return given if given and _ID.fullmatch(given) else b"%s-%x" % (_boot, next(_count))


async def read_body(
    headers: Mapping[bytes, bytes],
    receive: Receive,
    limit: int,
    deadline: float,
    *,
    room: Room | None = None,
    whole: bytes | None = None,
) -> bytes:
    """Return a request's body, decompressed; all of it must have come by `deadline`, on the loop's clock.

    `whole` is a body that is there: waiting for one costs more than all else that is done here. `room` counts
    what the body takes of all that bodies may. Raises RefusedError (400, 408, 413, 415, 503) or GoneError.
    """
    length = headers.get(b"content-length", b"0")
    if not length.isdigit():
        raise RefusedError(400, "Content-Length is no number")
    if int(length) > limit:
        raise _too_large(limit)
    if room is not None:
        room.take(int(length))
    body = await _whole_body(receive, limit, deadline, room) if whole is None else whole
    if len(body) > limit:
        raise _too_large(limit)
    if room is not None:
        room.take(len(body))
    encoding = headers.get(b"content-encoding")
    if encoding is None:
        return body
    encoding = encoding.strip().lower()
    if encoding in (b"identity", b""):
        return body
    if encoding not in _WBITS:
        raise RefusedError(415, "Content-Encoding must be gzip, deflate or identity")
    inflated = await asyncio.to_thread(_inflate, body, _WBITS[encoding], limit)
    if room is not None:
        room.take(len(inflated))
    return inflated


async def _whole_body(receive: Receive, limit: int, deadline: float, room: Room | None) -> bytes:
    try:
        async with asyncio.timeout_at(deadline):
            return await _received(receive, limit, room)
    except TimeoutError:
        raise RefusedError(
            408,
            "the body did not come in time; send it at once, or raise the server's --deadline",
            {b"connection": b"close"},
        ) from None


async def _received(receive: Receive, limit: int, room: Room | None) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise GoneError
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        if room is not None:
            room.take(size)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


def _inflate(body: bytes, wbits: int, limit: int) -> bytes:
    """Decompress a body, never beyond the limit; gzip may have several members (RFC 1952, 2.2)."""
    found = bytearray()
    members = 0
    while body or not members:
        machine = zlib.decompressobj(wbits)
        try:
            found += machine.decompress(body, limit + 1 - len(found))
        except zlib.error as error:
            raise RefusedError(400, f"the body cannot be decompressed: {error}") from None
        if len(found) > limit:
            raise _too_large(limit)
        members += 1
        if not machine.eof or members > MOST_MEMBERS or (machine.unused_data and wbits == _WBITS[b"deflate"]):
            raise RefusedError(400, "the compressed body is cut short, or has a tail or too many members")
        body = machine.unused_data
    return bytes(found)


def _too_large(limit: int) -> RefusedError:
    # the rest of such a body is never read, so the connection cannot go on
    return RefusedError(413, f"the body is over the limit of {limit:,} bytes", {b"connection": b"close"})


def compress(body: bytes, accepted: bytes) -> tuple[bytes, bytes | None]:
    """Return the body as the caller takes it, and its encoding; None where it stays as it is."""
    if not accepted or len(body) < COMPRESS_FROM:
        return body, None
    names = {part.split(b";")[0].strip() for part in accepted.lower().split(b",") if b"q=0" not in part}
    for name, wbits in _WBITS.items():
        if name in names:
            return zlib.compress(body, 1, wbits), name
    return body, None


async def respond(send: Send, scope: Scope, reply: Reply, ident: bytes, accepted: bytes) -> None:
    """Send one reply whole."""
    body, encoding = compress(reply.body, accepted)
    headers = [(b"content-length", b"%d" % len(body)), (b"x-request-id", ident)]
    if encoding is not None:
        headers += [(b"content-encoding", encoding), (b"vary", b"accept-encoding")]
    shared = ((b"content-type", reply.content_type), *reply.headers.items())
    whole = None if b"connection" in reply.headers else scope.get("cnnkit.reply_whole")
    if whole is not None and whole(reply.status, headers, body, shared):
        return
    await send({"type": "http.response.start", "status": reply.status, "headers": [*shared, *headers]})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def error_reply(refused: RefusedError) -> Reply:
    """Return a refusal as the protocol's `{"error": …}`."""
    return json_reply(ErrorReply(str(refused)), refused.status, refused.headers)


def read(decoder: msgspec.json.Decoder[Body], body: bytes, words: Mapping[str, str]) -> Body:
    """Read a body. Raises RefusedError (400) with the path of what is wrong.

    `words` say what belongs into a field; those of "" are of the whole body.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise wrong(error, words) from None
    except (ValueError, RecursionError) as error:  # text that is no UTF-8; brackets without end
        raise RefusedError(400, f"the request is no JSON: {error}") from None


def wrong(error: msgspec.ValidationError, words: Mapping[str, str]) -> RefusedError:
    """Return what a value of a wrong type is answered: the words of its field, and its path."""
    path = re.findall(r"[.](\w+)", str(error).rpartition("`$")[2])
    field = next((name for name in reversed(path) if name in words), "")
    return RefusedError(400, f"{words[field]}: {error}")


def json_reply(message: Any, status: int = 200, headers: Mapping[bytes, bytes] | None = None) -> Reply:
    """Return a message, or a list of them, as what goes back."""
    return Reply(body=msgspec.json.encode(message), status=status, headers=headers or {})
