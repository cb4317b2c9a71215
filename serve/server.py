"""One process, one port: opens what is served, listens, says when it is ready, drains when told to stop."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from serve.classifier import Choice, Limits
from serve.lineup import Entry, line_up
from toolkit.errors import CnnkitError, MissingExtraError
from toolkit.opening import describe


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What `cnnkit serve` was told."""

    models: tuple[str, ...]
    backend: str
    choice: Choice
    host: str = "127.0.0.1"
    port: int = 7860
    page: bool = True
    limits: Limits = field(default_factory=Limits)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket bound to host and port. Raises CnnkitError in words when that cannot be."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError as error:
        raise CnnkitError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; `--port 0` takes any free one"
        ) from None
    return sock


def address(sock: socket.socket, host: str) -> str:
    """Return the URL that people open."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{sock.getsockname()[1]}"


def run(settings: Settings, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C. Raises CnnkitError when a model cannot be served."""
    try:
        import uvicorn
    except ImportError:
        raise MissingExtraError("uvicorn", "page") from None
    sock = listen(settings.host, settings.port)
    entries = line_up(settings.models, settings.backend, settings.choice, others=settings.page)
    for entry in entries:
        if entry.backend == settings.backend and entry.artifact:
            say(f"opened {describe(entry.artifact)}")
            entry.classifier()
    server = uvicorn.Server(
        uvicorn.Config(_application(settings, entries), log_level="warning", access_log=False)
    )
    url = address(sock, settings.host)
    say(f"serving {', '.join(dict.fromkeys(e.model for e in entries))} on {url} (Ctrl-C stops)")
    server.run(sockets=[sock])


def _application(settings: Settings, entries: list[Entry]) -> Any:
    from serve.page.mount import page_app

    return page_app(entries, settings.limits)
