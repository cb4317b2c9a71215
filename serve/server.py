"""One process, one port: opens what is served, listens, says when it is ready, drains when told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from serve.batching import Policy
from serve.classifier import Choice, Limits
from serve.served import Entry, line_up
from toolkit.errors import CnnkitError, MissingExtraError
from toolkit.opening import describe

if TYPE_CHECKING:
    from serve.versions import Registry

Say = Callable[[str], None]

# With the default of 5 ms an engine's thread waits that long for a busy event loop to let go.
SWITCH_S = 0.0005
# What a stop takes longer than the longest request may.
DRAIN_MARGIN_S = 1.0


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
    policy: Policy = field(default_factory=Policy)
    deadline_s: float = 10.0
    auth: str | None = None
    token: str | None = None

    @property
    def drain_s(self) -> int:
        """Return how long a stop may take: who was let in last has an answer or a 504 by then."""
        return math.ceil(self.deadline_s + DRAIN_MARGIN_S)


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


def run(settings: Settings, say: Say) -> None:
    """Serve until SIGTERM or Ctrl-C. Raises CnnkitError when a model cannot be served."""
    try:
        import orjson  # noqa: F401  (the API cannot speak without it)
        import prometheus_client  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise MissingExtraError(str(error.name), "page") from None
    from serve.api.access import is_loopback

    if not is_loopback(settings.host) and settings.auth is None and settings.token is None:
        say(
            f"warning: {settings.host} can be reached by other machines and nobody is asked who they are; "
            "`--auth USER:PASSWORD` or `--token TOKEN` changes that"
        )
    with contextlib.closing(listen(settings.host, settings.port)) as sock:
        _serve(settings, sock, uvicorn, say)


def _serve(settings: Settings, sock: socket.socket, uvicorn: Any, say: Say) -> None:
    from serve.api.connection import Connection

    entries = line_up(settings.models, settings.backend, settings.choice, others=settings.page)
    for entry in entries:
        if entry.backend == settings.backend and entry.artifact:
            say(f"opened {describe(entry.artifact)}")
    sys.setswitchinterval(SWITCH_S)
    server, application = _assemble(settings, entries, say)
    config = uvicorn.Config(
        application,
        log_level="warning",
        access_log=False,
        http=Connection,
        ws="none",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=settings.drain_s,
    )
    server.serve(uvicorn, config, sock, f"on {address(sock, settings.host)}")


def _assemble(settings: Settings, entries: list[Entry], say: Say) -> tuple[Service, Any]:
    from serve.api.access import Access, is_loopback
    from serve.api.app import App
    from serve.api.metrics import Metrics
    from serve.versions import Registry

    metrics = Metrics()
    registry = Registry(entries, settings.backend, settings.policy, metrics.batch)
    page = None
    if settings.page:
        from serve.page.mount import page_app

        page = page_app(entries, settings.limits)
    access = Access(auth=settings.auth, token=settings.token, loopback=is_loopback(settings.host))
    app = App(
        registry,
        metrics,
        access=access,
        limits=settings.limits,
        deadline_s=settings.deadline_s,
        page=page,
    )
    return Service(registry=registry, app=app, metrics=metrics, say=say), app


@dataclass(kw_only=True)
class Service:
    """A server's life: warm up, be ready, look for newer artifacts, drain."""

    registry: Registry
    app: Any
    metrics: Any
    say: Say

    def serve(self, uvicorn: Any, config: Any, sock: socket.socket, where: str) -> None:
        """Run until a signal; returns when everyone who was let in has an answer, or the limit passed."""
        service = self

        class Server(uvicorn.Server):  # type: ignore[misc]  # imported where it is needed
            async def startup(self, sockets: Any = None) -> None:
                service.registry.start()
                await super().startup(sockets=sockets)
                gc.freeze()  # what lives as long as the server is not looked through again
                service.reloading = asyncio.create_task(service.reloader())
                names = ", ".join(service.registry.models)
                service.say(f"serving {names} {where} (Ctrl-C stops)")

            async def shutdown(self, sockets: Any = None) -> None:
                service.registry.ready = False
                service.reloading.cancel()
                if service.app.page is not None:
                    from serve.page.streams import end_streams

                    end_streams(service.app.page.app)
                await super().shutdown(sockets=sockets)
                if not self.force_exit:
                    await service.registry.close()
                service.app.classify.close()

            @contextlib.contextmanager
            def capture_signals(self) -> Iterator[None]:
                # uvicorn's own raises the signal again afterwards, which ends a drained server with 143
                loop = asyncio.get_running_loop()
                for number in (signal.SIGINT, signal.SIGTERM):
                    loop.add_signal_handler(number, service.stop, self)
                yield

        Server(config).run(sockets=[sock])

    reloading: Any = None

    async def reloader(self) -> None:
        """Look for newer artifacts until cancelled."""
        from serve.reload import Reloader

        await Reloader(self.registry, self.metrics, self.say).run()

    def stop(self, server: Any) -> None:
        """Be not ready at once, then drain; a second signal stops without waiting."""
        self.registry.ready = False
        server.force_exit = server.should_exit
        server.should_exit = True
        if server.force_exit:
            # from Python 3.12 on a listener is closed only when its last connection is
            for connection in list(server.server_state.connections):
                connection.transport.abort()
