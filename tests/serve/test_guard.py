"""What passes to the page's framework, without the framework."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from serve.api import Message, Receive, RefusedError, Scope, Send
from serve.page.guard import PageGuard


async def nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


def asked(path: str, method: str = "GET", headers: Any = (), **more: Any) -> tuple[Scope, list[Message]]:
    """Return what the framework was given for a request, and what went back."""
    given: list[Scope] = []
    told: list[Message] = []

    async def frame(scope: Scope, receive: Receive, send: Send) -> None:
        given.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Message) -> None:
        told.append(message)

    scope: Scope = {"type": "http", "path": path, "method": method, "headers": list(headers), **more}
    asyncio.run(PageGuard(frame)(scope, nothing, send))
    return given[0], told


@pytest.mark.parametrize("path", ["/", "/config", "/assets/a.js", "/gradio_api/app_id"])
def test_the_frames_own_files_pass_with_a_policy(path: str) -> None:
    _, told = asked(path)
    policy = dict(told[0]["headers"])[b"content-security-policy"].decode()
    assert "default-src 'self'" in policy
    assert "connect-src 'self'" in policy
    assert "http" not in policy


@pytest.mark.parametrize("path", ["/gradio_api/upload", "/gradio_api/file=/etc/passwd", "/x", "/monitoring"])
def test_all_else_is_not_there(path: str) -> None:
    with pytest.raises(RefusedError, match="there is nothing here") as refused:
        asked(path)
    assert refused.value.status == 404


def test_the_frame_takes_no_bodies() -> None:
    with pytest.raises(RefusedError, match="GET, HEAD"):
        asked("/config", "POST")


def test_nobodys_word_for_the_pages_address_is_believed() -> None:
    scope, _ = asked(
        "/", headers=[(b"x-forwarded-host", b"evil.example"), (b"host", b"here")], scheme="https"
    )
    assert scope["headers"] == [(b"host", b"here"), (b"x-forwarded-proto", b"https")]
