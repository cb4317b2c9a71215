"""Replies in one piece: a head waits for its body, nothing else waits."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="uvicorn is not installed (extra page)")

from serve.api.connection import Together


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
