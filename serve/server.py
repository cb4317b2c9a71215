"""One process, one port: what is served, behind the API and the page, on a socket."""

from __future__ import annotations

import contextlib
import socket
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from serve.api.access import is_loopback
from serve.served import line_up
from serve.settings import ServeSettings
from toolkit.artifacts import artifacts_root
from toolkit.errors import CnnkitError, MissingExtraError
from toolkit.telling import Tell, aloud

# With the default of 5 ms an engine's thread waits that long for a busy event loop to let go.
SWITCH_S = 0.0005


def listen(host: str, port: int) -> socket.socket:
    """Return a socket bound to host and port. Raises CnnkitError in words when that cannot be."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, port))
        except OSError:
            sock.close()
            raise
    except OSError as error:
        raise CnnkitError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; `--port 0` takes any free one"
        ) from None
    return sock


def address(sock: socket.socket, host: str) -> str:
    """Return the URL that people open."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{sock.getsockname()[1]}"


def serve(
    *models: str | Path,
    settings: ServeSettings | None = None,
    root: Path | str | None = None,
    tell: Tell = aloud,
) -> None:
    """Serve models, the newest where none is named, on one port until SIGTERM or Ctrl-C.

    A model is a name or a file's path. `root` stands for the settings' own folder of artifacts. `tell` hears
    the address, and what happens. In a thread other than the main one no signal stops it.

    Raises CnnkitError when a model cannot be served, MissingExtraError without the extra for it.
    """
    settings = settings or ServeSettings()
    if root is not None:
        settings = replace(settings, opening=replace(settings.opening, root=artifacts_root(root)))
    # httptools is uvicorn's faster parser, which the API's own protocol stands on
    for package in ("httptools", "prometheus_client", "python_multipart", "uvicorn"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "serve")
    if settings.grpc_port is not None:
        from serve.rpc.listener import require_grpc

        require_grpc()
    from serve.lifetime import Server, assemble

    if not is_loopback(settings.host) and settings.auth is None and settings.token is None:
        tell(
            f"warning: {settings.host} can be reached by other machines and nobody is asked who they are; "
            "`--auth USER:PASSWORD` or `--token TOKEN` changes that"
        )
    with contextlib.closing(listen(settings.host, settings.port)) as sock:
        served = line_up(
            tuple(map(str, models)),
            settings.backend,
            settings.opening,
            others=settings.page,
            choices=settings.choices,
            tell=tell,
        )
        for model in served:
            if model.main and model.artifact:
                tell(f"opened {model.said}")
        sys.setswitchinterval(SWITCH_S)
        Server(
            assemble(served, settings, tell),
            tell,
            where=f"on {address(sock, settings.host)}",
            settings=settings,
        ).run([sock])
