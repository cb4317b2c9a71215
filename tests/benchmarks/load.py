"""A load generator that costs little: raw asyncio sockets, one request in flight a connection."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a round of requests came to."""

    seconds: float
    latencies_ms: list[float]
    failures: int

    @property
    def rate(self) -> float:
        """Return good answers a second."""
        return len(self.latencies_ms) / self.seconds

    def percentile(self, share: float) -> float:
        """Return a percentile of the latencies in ms."""
        ordered = sorted(self.latencies_ms)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    @property
    def median_ms(self) -> float:
        return statistics.median(self.latencies_ms)


class _Connection(asyncio.Protocol):
    """Sends one prepared request again and again, and times each answer."""

    def __init__(self, request: bytes, budget: _Budget) -> None:
        self.request, self.budget = request, budget
        self.buffer = bytearray()
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._next()

    def _next(self) -> None:
        if not self.budget.take():
            self.transport.close()
            if not self.done.done():
                self.done.set_result(None)
            return
        self.sent = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head = self.buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        lowered = bytes(self.buffer[:head]).lower()
        at = lowered.index(b"content-length:") + 15
        length = int(lowered[at : (lowered + b"\r\n").index(b"\r\n", at)])
        if len(self.buffer) < head + 4 + length:
            return
        if lowered.startswith(b"http/1.1 200"):
            self.budget.latencies_ms.append((time.perf_counter() - self.sent) * 1e3)
        else:
            self.budget.failures += 1
        del self.buffer[: head + 4 + length]
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.budget.failures += 1
            self.done.set_result(None)


class _Budget:
    def __init__(self, requests: int) -> None:
        self.left = requests
        self.latencies_ms: list[float] = []
        self.failures = 0

    def take(self) -> bool:
        self.left -= 1
        return self.left >= 0


def http_request(port: int, path: str, body: bytes, *headers: str) -> bytes:
    """Return the bytes of a POST."""
    lines = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def _drive(port: int, request: bytes, requests: int, connections: int) -> Load:
    loop, budget = asyncio.get_running_loop(), _Budget(requests)
    start = time.perf_counter()
    made = [
        await loop.create_connection(lambda: _Connection(request, budget), "127.0.0.1", port)
        for _ in range(connections)
    ]
    await asyncio.gather(*(protocol.done for _, protocol in made))
    return Load(
        seconds=time.perf_counter() - start, latencies_ms=budget.latencies_ms, failures=budget.failures
    )


def drive(port: int, request: bytes, *, requests: int, connections: int = 16) -> Load:
    """Send `requests` equal requests over some connections to this machine; return what came of it."""
    import uvloop

    return uvloop.run(_drive(port, request, requests, connections))
