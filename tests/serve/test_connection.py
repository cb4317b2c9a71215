"""Replies in one piece: what is written in one turn of the event loop leaves in one write, in order."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="uvicorn is not installed (extra page)")

from serve.api.connection import MOST_HELD, Together


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


def test_what_one_turn_writes_leaves_in_one_write() -> None:
    async def go() -> list[Any]:
        wire = Wire()
        together = Together(wire, asyncio.get_running_loop())
        together.write(b"head ")
        together.write(b"body")
        assert wire.events == []
        await asyncio.sleep(0)
        together.write(b"next")
        await asyncio.sleep(0)
        return wire.events

    assert asyncio.run(go()) == [b"head body", b"next"]


def test_closing_sends_what_is_held_first() -> None:
    async def go() -> Wire:
        wire = Wire()
        together = Together(wire, asyncio.get_running_loop())
        together.write(b"last")
        together.close()
        await asyncio.sleep(0)
        assert together.is_closing()
        return wire

    assert asyncio.run(go()).events == [b"last", "closed"]


def test_a_long_stream_is_not_held() -> None:
    async def go() -> list[int]:
        wire = Wire()
        together = Together(wire, asyncio.get_running_loop())
        for _ in range(3):
            together.write(bytes(MOST_HELD))
        sizes = [len(data) for data in wire.events]
        await asyncio.sleep(0)
        return [*sizes, sum(len(data) for data in wire.events)]

    assert asyncio.run(go()) == [2 * MOST_HELD, 3 * MOST_HELD]
