"""What of Gradio's own routes the page needs; everything else is not there.

Gradio serves files by path, fetches URLs for whoever asks, keeps run histories and shows monitoring.
A page with one's own models needs none of it, so what passes is listed and the rest is refused.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serve.api import Application, Message, Receive, RefusedError, Scope, Send
from serve.api.bodies import read_body
from serve.api.front import FORWARDED
from serve.api.shortages import SHORTAGES, short_of
from toolkit.figures import mebibytes_text

FILE = "/gradio_api/file="
UPLOAD = "/gradio_api/upload"
EXACT = frozenset({"/", "/config", "/theme.css", "/favicon.ico", "/robots.txt", "/manifest.json"})
FOLDERS = ("/assets/", "/static/", "/svelte/", "/gradio_api/heartbeat/", "/gradio_api/component_server")
CALLS = frozenset(
    {
        "/gradio_api/queue/join",
        "/gradio_api/queue/data",
        UPLOAD,
        "/gradio_api/upload_progress",
        "/gradio_api/startup-events",
        "/gradio_api/cancel",
        "/gradio_api/reset",
    }
)
MAX_JOIN = 1024 * 1024
# a phone's slow connection needs minutes for what may be uploaded; a body that stops is not waited for
UPLOAD_S = 600.0
# room on the disk for what the page makes of an upload
SPARE = 1024 * 1024


class PageGuard:
    """ASGI around Gradio's app. Refusals are RefusedError: 404 for what is not offered, 413, 400."""

    def __init__(
        self, app: Application, cache: Path, *, max_body: int, max_upload: int, upload_s: float = UPLOAD_S
    ) -> None:
        """`cache` is the one folder whose files the page shows; an upload holds all of a visitor's files."""
        self.app = app
        self.cache = Path(os.path.realpath(cache))
        self.max_body = max_body
        self.max_upload = max_upload
        self.upload_s = upload_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what the page needs."""
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            # Gradio would believe anybody's word for the address that the page has
            told = [pair for pair in scope["headers"] if pair[0] not in FORWARDED]
            if scope.get("scheme") == "https":  # which Gradio takes from a proxy's header alone
                told.append((b"x-forwarded-proto", b"https"))
            scope = {**scope, "headers": told}
            path: str = scope["path"]
            self._check_path(path)
            if path == "/gradio_api/queue/join":
                receive = await self._checked_join(headers, receive)
            elif scope["method"] == "POST":
                receive = self._limited(path, headers, receive)
        await self.app(scope, receive, send)

    def _check_path(self, path: str) -> None:
        if path.startswith(FILE):
            if not self._cached(path.removeprefix(FILE)):
                raise RefusedError(404, "there is no such file")
        elif path not in EXACT and path not in CALLS and not path.startswith(FOLDERS):
            raise RefusedError(404, "there is nothing here")

    def _cached(self, text: str) -> bool:
        """Tell whether a name is a file's in the page's own folder; looks at no other file."""
        normal = os.path.normpath(text)
        if "\0" in text or not Path(normal).is_absolute() or not Path(normal).is_relative_to(self.cache):
            return False
        return Path(os.path.realpath(normal)).is_relative_to(self.cache)

    async def _checked_join(self, headers: Mapping[bytes, bytes], receive: Receive) -> Receive:
        """Read an event's JSON and refuse files that are not uploads to this page."""
        body = await read_body(headers, receive, MAX_JOIN, asyncio.get_running_loop().time() + self.upload_s)
        try:
            json.loads(body, object_hook=self._check_file)  # as Gradio's own framework reads the event
        except (ValueError, RecursionError):
            raise RefusedError(400, "the event is no JSON") from None
        waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return waiting.pop() if waiting else await receive()

        return replay

    def _check_file(self, found: dict[str, Any]) -> None:
        """Refuse an object of an event that names a file which is no upload to this page."""
        path = found.get("path")
        if path is not None and not (isinstance(path, str) and self._cached(path)):
            raise RefusedError(400, "a file must be uploaded first")

    def _limited(self, path: str, headers: Mapping[bytes, bytes], receive: Receive) -> Receive:
        limit = self.max_upload if path == UPLOAD else self.max_body
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > limit:
            raise RefusedError(
                413,
                f"the upload is over the limit of {mebibytes_text(limit)} for all its files; "
                "send fewer at once",
                {b"connection": b"close"},  # the rest of the upload is never read
            )
        if path == UPLOAD and shutil.disk_usage(self.cache).free < int(length) + SPARE:
            raise short_of(SHORTAGES[errno.ENOSPC])
        end: float | None = asyncio.get_running_loop().time() + self.upload_s
        seen = 0

        async def counted() -> Message:
            nonlocal seen, end
            try:
                async with asyncio.timeout_at(end):
                    message = await receive()
            except TimeoutError:
                return {"type": "http.disconnect"}
            seen += len(message.get("body", b""))
            end = end if message.get("more_body", False) else None  # the connection's end may come any time
            # an upload that lied about its length, or named none, is cut off like a lost connection
            return message if seen <= limit else {"type": "http.disconnect"}

        return counted
