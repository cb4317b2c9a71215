"""The application without a socket: what a refusal leaves undone, and what is no mistake of the server."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prometheus_client", reason="prometheus_client is not installed (extra serve)")

from serve.api import Message, Scope
from serve.api.app import App
from serve.api.shortages import short_of, shortage
from serve.classifier import Classifier
from serve.lifetime import assemble
from serve.lineup import line_up
from serve.settings import BatchingSettings, OpeningSettings, ServeSettings
from tests.serve.conftest import MODEL, png
from tests.serve.test_api import parts
from toolkit.errors import CnnkitError, OutOfMemoryError

CLASSIFY = "/v1/classify"


@pytest.fixture
def made(shipped: Path, tmp_path: Path) -> Callable[..., App]:
    """Return what puts an application before the network that ships, opened; `batching` are its settings."""

    def make(**batching: Any) -> App:
        opening = OpeningSettings(root=tmp_path)
        settings = ServeSettings(opening=opening, batching=BatchingSettings(**batching), page=False)
        app = assemble(line_up([MODEL], settings.backend, opening, others=False), settings)
        app.registry.start()
        return app

    return make


async def asked(app: App, path: str, body: bytes, content_type: str) -> tuple[int, Any]:
    told: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        told.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", content_type.encode())]
    scope: Scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [*headers, (b"content-length", b"%d" % len(body))],
    }
    await app(scope, receive, send)
    return told[0]["status"], json.loads(told[1]["body"])


def test_of_pictures_that_are_refused_together_none_goes_on_waiting(
    made: Callable[..., App], monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    begun: list[bytes] = []
    prepare = Classifier.prepare

    def held(classifier: Classifier, picture: bytes, **how: Any) -> Any:
        begun.append(picture)
        go.wait(30)
        return prepare(classifier, picture, **how)

    monkeypatch.setattr(Classifier, "prepare", held)

    async def main() -> None:
        app = made(max_waiting=3)
        try:
            body, headers = parts(*[("file", png())] * 9)
            status, told = await asked(app, CLASSIFY, body, headers["Content-Type"])
            assert (status, "pictures are waiting already" in told["error"]) == (429, True)
            await asyncio.sleep(0.05)
            assert app.classify.decoders.waiting == 0
            go.set()
            status, _ = await asked(app, CLASSIFY, png(), "image/png")
            assert status == 200
        finally:
            go.set()
            await app.registry.close()
            app.classify.decoders.close()

    asyncio.run(main())
    # two decoders had begun, and the last is the picture that came afterwards
    assert len(begun) == 3


def test_an_engine_without_memory_is_503_and_other_errors_are_mistakes() -> None:
    error = OutOfMemoryError("cuda has no memory for a batch of 32 of lenet in ort")
    what = shortage(error)
    assert what is not None
    refused = short_of(what)
    assert (refused.status, "no memory left" in str(refused)) == (503, True)
    assert shortage(CnnkitError("it was closed")) is None
