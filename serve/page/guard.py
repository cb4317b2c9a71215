"""What of Gradio's own routes the page needs; everything else is not there.

Gradio takes uploads, serves files by path, fetches URLs for whoever asks, keeps run histories and shows
monitoring. The page needs its frame alone, so what passes is listed and all else is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

from serve.api import Application, Message, Receive, RefusedError, Scope, Send
from serve.api.front import FORWARDED
from serve.page.routes import BASE, PageRoutes

# `app_id` is how an open page finds out that the server was started anew
EXACT = frozenset({"/", "/config", "/theme.css", "/favicon.ico", "/robots.txt", "/gradio_api/app_id"})
FOLDERS = ("/assets/", "/static/", "/svelte/")
METHODS = frozenset({"GET", "HEAD"})
# Gradio's frame is written with scripts inside; no host but this one is ever asked for anything
POLICY = (
    b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    b"img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; connect-src 'self'; "
    b"frame-src 'self'; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'"
)
HEADERS: Sequence[tuple[bytes, bytes]] = (
    (b"content-security-policy", POLICY),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


class PageGuard:
    """ASGI around Gradio's app and the page's own routes. Refusals are RefusedError: 404, 405."""

    def __init__(self, app: Application, routes: PageRoutes | None = None) -> None:
        self.app = app
        self.routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what the page needs."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path: str = scope["path"]
        if self.routes is not None and path.startswith(BASE):
            await self.routes(scope, receive, self._guarded(send))
            return
        if path not in EXACT and not path.startswith(FOLDERS):
            raise RefusedError(404, "there is nothing here")
        if scope["method"] not in METHODS:
            raise RefusedError(405, "this path takes GET, HEAD", {b"allow": b"GET, HEAD"})
        # Gradio would believe anybody's word for the address that the page has
        told = [pair for pair in scope["headers"] if pair[0] not in FORWARDED]
        if scope.get("scheme") == "https":  # which Gradio takes from a proxy's header alone
            told.append((b"x-forwarded-proto", b"https"))
        await self.app({**scope, "headers": told}, receive, self._guarded(send))

    def _guarded(self, send: Send) -> Send:
        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                have = {name.lower() for name, _ in message["headers"]}
                more = [pair for pair in HEADERS if pair[0] not in have]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        return told

    def close(self) -> None:
        """End the threads of the page's own routes."""
        if self.routes is not None:
            self.routes.close()
