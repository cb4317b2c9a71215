"""Replies in one piece: a head waits for its body, nothing else waits."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="uvicorn is not installed (extra page)")

from serve.api.connection import Together, reply_whole


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


def test_head_and_body_leave_in_one_write_and_at_once() -> None:
    async def go() -> list[Any]:
        wire = Wire()
        together = Together(wire, asyncio.get_running_loop())
        together.write(b"HTTP/1.1 200 OK\r\n\r\n")
        assert wire.events == []
        together.write(b"body")
        together.write(b"more")
        return wire.events

    assert asyncio.run(go()) == [b"HTTP/1.1 200 OK\r\n\r\nbody", b"more"]


def test_a_head_without_a_body_leaves_with_the_next_turn() -> None:
    async def go() -> list[Any]:
        wire = Wire()
        Together(wire, asyncio.get_running_loop()).write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.sleep(0)
        return wire.events

    assert asyncio.run(go()) == [b"HTTP/1.1 200 OK\r\n\r\n"]


def test_closing_sends_what_is_held_first() -> None:
    async def go() -> Wire:
        wire = Wire()
        together = Together(wire, asyncio.get_running_loop())
        together.write(b"HTTP/1.1 429")
        together.close()
        await asyncio.sleep(0)
        assert together.is_closing()
        return wire

    assert asyncio.run(go()).events == [b"HTTP/1.1 429", "closed"]


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


@pytest.mark.parametrize(
    "rare",
    [
        {"response_started": True},
        {"disconnected": True},
        {"keep_alive": False},
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
