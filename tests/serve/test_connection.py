"""Replies in one piece: a head leaves with its body. Connections: so many, so long."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="uvicorn is not installed (extra serve)")

import uvicorn

from serve.api import Receive, Scope, Send
from serve.api.connection import Connection
from serve.api.whole import reply_whole


class Wire:
    """A transport that keeps what it is given."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def write(self, data: bytes) -> None:
        self.events.append(data)

    def close(self) -> None:
        self.events.append("closed")

    def is_closing(self) -> bool:
        return "closed" in self.events


class Cycle:
    """What a request's cycle of uvicorn holds, as far as a reply in one step looks at it."""

    def __init__(self, **changed: Any) -> None:
        self.response_started = self.response_complete = self.disconnected = self.access_log = False
        self.waiting_for_100_continue = False
        self.keep_alive = True
        self.flow = SimpleNamespace(write_paused=False)
        self.scope = {"method": "POST"}
        self.default_headers = [(b"server", b"uvicorn")]
        self.transport = Wire()
        self.message_event = asyncio.Event()
        self.ended = 0
        vars(self).update(changed)

    def on_response(self) -> None:
        self.ended += 1


def test_a_whole_reply_is_one_write_and_ends_the_request() -> None:
    cycle = Cycle()
    assert reply_whole(cycle, 404, [(b"content-length", b"2")], b"no")
    assert cycle.transport.events == [
        b"HTTP/1.1 404 Not Found\r\nserver: uvicorn\r\ncontent-length: 2\r\n\r\nno"
    ]
    assert cycle.response_started
    assert cycle.response_complete
    assert cycle.message_event.is_set()
    assert cycle.ended == 1


def test_the_last_reply_of_a_connection_says_so_and_ends_it() -> None:
    cycle = Cycle(keep_alive=False)
    assert reply_whole(cycle, 200, [], b"")
    assert cycle.transport.events == [
        b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\nconnection: close\r\n\r\n",
        "closed",
    ]
    assert cycle.ended == 1


@pytest.mark.parametrize(
    "rare",
    [
        {"response_started": True},
        {"disconnected": True},
        {"flow": SimpleNamespace(write_paused=True)},
        {"scope": {"method": "HEAD"}},
        {"access_log": True},
    ],
    ids=lambda rare: next(iter(rare)),
)
def test_what_is_rare_is_left_to_uvicorn(rare: dict[str, Any]) -> None:
    cycle = Cycle(**rare)
    assert not reply_whole(cycle, 200, [], b"")
    assert cycle.transport.events == []
    assert cycle.ended == 0


def test_a_header_cannot_begin_another_one() -> None:
    cycle = Cycle()
    with pytest.raises(ValueError, match="line break"):
        reply_whole(cycle, 200, [(b"x-name", b"a\r\nset-cookie: b")], b"")
    assert cycle.transport.events == []


SLOW_S, SOON_S, LONG_S = 0.6, 0.3, 60.0
ASK = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def slow(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.sleep(SLOW_S)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@contextlib.asynccontextmanager
async def listening(connection: type[Connection], app: Any = slow) -> AsyncIterator[int]:
    """Run uvicorn with this protocol on a free port of this machine."""
    config = uvicorn.Config(app, http=connection, lifespan="off", log_level="error", ws="none")
    server = uvicorn.Server(config)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield int(sock.getsockname()[1])
        server.should_exit = True
        await serving


class Hasty(Connection):
    head_s = SOON_S


class Few(Connection):
    most_connections = 2
    head_s = LONG_S


@pytest.mark.parametrize("sent", [b"", ASK[:9]], ids=["nothing", "half a head"])
def test_who_sends_no_head_is_hung_up_on(sent: bytes) -> None:
    async def go() -> bytes:
        async with listening(Hasty) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            ended = await asyncio.wait_for(reader.read(), LONG_S)
            writer.close()
            return ended

    assert asyncio.run(go()) == b""


def test_a_request_may_take_longer_than_its_head_and_a_second_head_may_not() -> None:
    async def go() -> None:
        async with listening(Hasty) as port:
            # the head is there before the connection is taken up, and so in time however slow the machine is
            sock = socket.create_connection(("127.0.0.1", port))
            sock.sendall(ASK)
            reader, writer = await asyncio.open_connection(sock=sock)
            assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
            writer.write(ASK)
            assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
            writer.write(ASK[:9])
            assert await asyncio.wait_for(reader.read(), LONG_S) == b""
            writer.close()

    asyncio.run(go())


def test_a_connection_too_many_is_503_and_the_others_go_on() -> None:
    async def go() -> None:
        async with listening(Few) as port:
            first, second, third = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
            refused = await asyncio.wait_for(third[0].read(), LONG_S)
            assert refused.startswith(b"HTTP/1.1 503 ")
            assert b"2 connections are open already" in refused
            for reader, writer in (first, second):
                writer.write(ASK)
                assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
            first[1].close()
            await first[1].wait_closed()
            await asyncio.sleep(SOON_S)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(ASK)
            assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
            for _, opened in (second, third, (reader, writer)):
                opened.close()

    asyncio.run(go())
