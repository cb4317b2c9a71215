"""Replies leave in one piece: uvicorn writes head and body apart, each a system call and a packet."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

# What may be held until the event loop's next turn; more than this goes out at once.
MOST_HELD = 64 * 1024


class Together:
    """A transport that holds what is written until the event loop's next turn, and sends it whole."""

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []
        self._size = 0

    def __getattr__(self, name: str) -> Any:
        """Leave all but writing and closing to the transport itself."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Hold some bytes; the first of a turn arranges for all of them to be sent."""
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held.append(data)
        self._size += len(data)
        if self._size > MOST_HELD:
            self._flush()

    def _flush(self) -> None:
        if self._held:
            held, self._held, self._size = self._held, [], 0
            self._transport.write(held[0] if len(held) == 1 else b"".join(held))

    def close(self) -> None:
        """Send what is held, then close."""
        self._flush()
        self._transport.close()


class Connection(AutoHTTPProtocol):  # type: ignore[misc,valid-type]  # uvicorn chooses the class when imported
    """uvicorn's own protocol over a transport that sends replies in one piece."""

    def connection_made(self, transport: Any) -> None:
        """Take up a connection."""
        super().connection_made(Together(transport, self.loop))
