"""What passes to the page's framework, without the framework."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from serve.api import Message, Receive, RefusedError, Scope, Send
from serve.page.guard import PageGuard


class Reader:
    """An application that reads a body to its end and remembers what came."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        more = True
        while more:
            message = await receive()
            self.seen.append(message["type"])
            more = message.get("more_body", False)


async def send(message: Message) -> None:
    raise AssertionError(f"nothing is answered here: {message}")


def sent(folder: Path, path: str, *bodies: bytes, headers: Any = (), **limits: Any) -> list[str]:
    """Return what the application saw of a POST whose client then says no more."""
    reader = Reader()
    chunks = list(bodies)

    async def receive() -> Message:
        if not chunks:
            await asyncio.sleep(30)
        return {"type": "http.request", "body": chunks.pop(0), "more_body": True}

    settings: dict[str, Any] = {"max_body": 10, "max_upload": 20, "upload_s": 0.05, **limits}
    guard = PageGuard(reader, folder, **settings)
    scope: Scope = {"type": "http", "path": path, "method": "POST", "headers": headers}
    asyncio.run(guard(scope, receive, send))
    return reader.seen


def test_a_body_that_stops_is_cut_off(tmp_path: Path) -> None:
    assert sent(tmp_path, "/gradio_api/upload", b"a") == ["http.request", "http.disconnect"]


@pytest.mark.parametrize(("path", "limit"), [("upload", 20), ("component_server", 10)])
def test_a_body_longer_than_it_said_is_cut_off(tmp_path: Path, path: str, limit: int) -> None:
    half = bytes(limit // 2)
    seen = sent(tmp_path, f"/gradio_api/{path}", half, half, b"a", b"a", upload_s=20)
    assert seen == ["http.request", "http.request", "http.disconnect"]


@pytest.mark.parametrize(("path", "limit"), [("upload", 20), ("component_server", 10)])
def test_a_body_that_says_it_is_too_long_is_refused(tmp_path: Path, path: str, limit: int) -> None:
    headers = [(b"content-length", b"%d" % (limit + 1))]
    with pytest.raises(RefusedError, match="over the limit") as refused:
        sent(tmp_path, f"/gradio_api/{path}", headers=headers)
    assert refused.value.status == 413
