"""The HTTP API as plain ASGI: what a request is, what a reply is, and the mistakes of clients.

Plain ASGI, because a framework's routing, validation and response classes cost more than a LeNet.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from msgspec import Struct, field

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

JSON = b"application/json"


class RefusedError(Exception):
    """A request that gets no answer: its status, and in words why."""

    def __init__(self, status: int, why: str, headers: Mapping[bytes, bytes] | None = None) -> None:
        super().__init__(why)
        self.status = status
        self.headers = dict(headers or {})


class GoneError(Exception):
    """The client closed its connection before its request was whole."""


class Reply(Struct, frozen=True, kw_only=True):
    """What goes back. `headers` are further ones; length and request id are added when it is sent."""

    body: bytes
    status: int = 200
    content_type: bytes = JSON
    headers: Mapping[bytes, bytes] = field(default_factory=dict)


class HttpRequest(Struct, frozen=True, kw_only=True):
    """A request whose head was read; `read` gives its body, decompressed, under the limit.

    `model` and `version` are the path's, where it names them. `came` and `deadline` are on the event loop's
    clock: all that is done for a request is done by then.
    """

    query: str
    headers: Mapping[bytes, bytes]
    came: float
    deadline: float
    read: Callable[[], Awaitable[bytes]]
    model: str = ""
    version: str | None = None


Handler = Callable[[HttpRequest], Awaitable[Reply]]
