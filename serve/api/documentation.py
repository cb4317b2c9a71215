"""`/openapi.json` and `/docs`: Swagger's files come from an installed package, never from another host."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from importlib.util import find_spec

import msgspec

from serve.api import Handler, HttpRequest, Reply
from serve.api.openapi import document

FILES = {
    "swagger-ui.css": b"text/css",
    "swagger-ui-bundle.js": b"text/javascript",
    "favicon-32x32.png": b"image/png",
}
# Only this server's own files, and no inline script but the one below.
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    b"img-src 'self' data:; connect-src 'self'; font-src 'self'"
)
PAGE = b"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>cnnkit API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="/docs/favicon-32x32.png"><link rel="stylesheet" href="/docs/swagger-ui.css"></head>
<body><div id="swagger"></div>
<script src="/docs/swagger-ui-bundle.js"></script><script src="/docs/start.js"></script></body></html>
"""
START = b'SwaggerUIBundle({url: "/openapi.json", dom_id: "#swagger", deepLinking: true, validatorUrl: null});'


def documentation(models: Sequence[str]) -> dict[str, Handler]:
    """Return what answers each path of the API's description, for a server with these models."""
    found = {"/openapi.json": _constant(msgspec.json.encode(document(models)), b"application/json")}
    if find_spec("swagger_ui_bundle") is not None:
        found["/docs"] = _constant(PAGE, b"text/html; charset=utf-8")
        found["/docs/start.js"] = _constant(START, b"text/javascript")
        found |= {f"/docs/{name}": _file(name, kind) for name, kind in FILES.items()}
    return found


def _constant(body: bytes, kind: bytes) -> Handler:
    async def handle(request: HttpRequest) -> Reply:
        return Reply(body=body, content_type=kind, headers={b"content-security-policy": POLICY})

    return handle


def _file(name: str, kind: bytes) -> Handler:
    async def handle(request: HttpRequest) -> Reply:
        vendor = resources.files("swagger_ui_bundle") / "vendor"
        folder = next(entry for entry in vendor.iterdir() if entry.name.startswith("swagger-ui"))
        headers = {b"cache-control": b"max-age=86400"}
        return Reply(body=(folder / name).read_bytes(), content_type=kind, headers=headers)

    return handle
