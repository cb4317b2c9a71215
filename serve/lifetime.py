"""A server's life: put together, warm up, be ready, look for newer artifacts, drain when told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import uvicorn

from serve.api.access import Access, is_loopback
from serve.api.app import App
from serve.api.connection import Connection
from serve.api.metrics import ServerMetrics
from serve.page.guard import PageGuard
from serve.page.mount import end_streams, page_app
from serve.registry import Registry
from serve.reload import Reloader
from serve.served import ServedModel
from serve.settings import ServeSettings


def assemble(served: Sequence[ServedModel], settings: ServeSettings) -> App:
    """Put the API, and the page where it is wanted, before what is served; nothing is opened yet."""
    metrics = ServerMetrics()
    return App(
        Registry(served, settings.backend, settings.batching, metrics.batch),
        metrics,
        access=Access(auth=settings.auth, token=settings.token, loopback=is_loopback(settings.host)),
        deadline_s=settings.deadline_s,
        page=page_app(served, settings.opening.limits) if settings.page else None,
    )


class Server(uvicorn.Server):
    """Runs until a signal, then until everyone who was let in has an answer, or `drain_s` passed."""

    reloading: asyncio.Task[None]

    def __init__(self, app: App, say: Callable[[str], None], *, where: str, drain_s: int) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                http=Connection,
                ws="none",
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=drain_s,
            )
        )
        self.app = app
        self.say = say
        self.where = where

    def run(self, sockets: Any = None) -> None:
        """Serve to the end; in a thread of its own where this one runs a loop already: in a notebook."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            super().run(sockets)
            return
        with ThreadPoolExecutor(max_workers=1) as pool:
            running = pool.submit(super().run, sockets)
            try:
                running.result()
            except KeyboardInterrupt:
                self.stop()
                running.result()

    async def startup(self, sockets: Any = None) -> None:
        """Open the models, then take requests, and say so."""
        registry = self.app.registry
        registry.start()
        await super().startup(sockets=sockets)
        gc.freeze()  # what lives as long as the server is not looked through again
        self.reloading = asyncio.create_task(Reloader(registry, self.app.metrics, self.say).run())
        self.say(f"serving {', '.join(registry.models)} {self.where} (Ctrl-C stops)")

    async def shutdown(self, sockets: Any = None) -> None:
        """Drain, then free the engines and end the threads."""
        self.app.registry.ready = False
        self.reloading.cancel()
        if isinstance(self.app.page, PageGuard):
            end_streams(self.app.page.app)
        await super().shutdown(sockets=sockets)
        if not self.force_exit:
            await self.app.registry.close()
        self.app.classify.decoders.close()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at a signal; uvicorn's own way raises it again, which ends a drained server with 143.

        Only a process's main thread hears of signals.
        """
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, self.stop)
        yield

    def stop(self) -> None:
        """Be not ready at once, then drain; a second signal stops without waiting."""
        self.app.registry.ready = False
        self.force_exit = self.should_exit
        self.should_exit = True
        if self.force_exit:
            # from Python 3.12 on a listener is closed only when its last connection is
            for connection in list(self.server_state.connections):
                connection.transport.abort()
