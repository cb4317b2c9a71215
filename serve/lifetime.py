"""A server's life: put together, warm up, be ready, look for newer artifacts, drain when told to stop."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import gc
import math
import resource
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from serve.api import Application
from serve.api.access import Access, is_loopback
from serve.api.app import App
from serve.api.connection import MOST_CONNECTIONS, begin_to_stop, bounded
from serve.api.front import Front
from serve.api.metrics import ServerMetrics
from serve.api.observing import Observer, RequestLog, tracing
from serve.api.shortages import SHORTAGES, shortage
from serve.control import Control, ModelControl
from serve.counts import Counts
from serve.page.guard import PageGuard
from serve.page.mount import page_app
from serve.registry import Registry
from serve.reload import Reloader
from serve.rpc.listener import GrpcListener
from serve.served import ServedModel
from serve.settings import ServeSettings
from toolkit.telling import Tell, aloud

# how long a listener that takes nobody new takes up those who came before
ACCEPT_S = 0.05
SAY_EVERY_S = 10.0
# With the default of 5 ms an engine's thread waits that long for a busy event loop to let go.
SWITCH_S = 0.0005
# files that an engine's opening, a picture or an upload may need while all connections are open
FILES_KEPT = 24


@dataclass(frozen=True, kw_only=True)
class Among:
    """A process's place among several on one port: its number, and what concerns all of them.

    `page` passes the page's requests on to the process that has the page; None in that one.
    """

    number: int
    control: Control | None
    counts: Callable[[], Awaitable[Counts]]
    page: Application | None


@contextlib.contextmanager
def stopped_at_exit(stop: Callable[[], None]) -> Iterator[None]:
    """Have the interpreter's end stop what another thread than the main one runs, and wait for that.

    A thread that is inside an event loop's library when the interpreter goes ends the process with SIGSEGV.
    """
    if threading.current_thread() is threading.main_thread():
        yield
        return
    ended = threading.Event()

    def end() -> None:
        stop()
        ended.wait()

    atexit.register(end)
    try:
        yield
    finally:
        ended.set()
        atexit.unregister(end)


def most_connections() -> int:
    """Raise the process's limit of open files; return how many connections then leave room for files."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS + 124
    allowed = wanted if most == resource.RLIM_INFINITY else min(most, wanted)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, most))
    return max(4, min(MOST_CONNECTIONS, allowed - _open_files() - FILES_KEPT))


def _open_files() -> int:
    handles = Path("/proc/self/fd")
    return len(list(handles.iterdir())) if handles.is_dir() else 32


def assemble(
    served: Sequence[ServedModel], settings: ServeSettings, tell: Tell = aloud, among: Among | None = None
) -> App:
    """Put the API, and the page where it is wanted, before what is served; nothing is opened yet.

    `tell` hears of models that are loaded and unloaded. `among` is what others do for a process that is not
    alone.
    """
    metrics = ServerMetrics(among.number if among else 0)
    observers: list[Observer] = [RequestLog()] if settings.log_requests else []
    traced = tracing()
    if traced is not None:
        observers.append(traced[0])
        atexit.register(traced[1])
    front = Front.of(settings.public_names, settings.root_path, settings.trust_proxy)
    registry = Registry(served, settings.batching, metrics.batch)
    control = among.control if among else ModelControl(registry, settings, tell)
    page = among.page if among else None
    if settings.page and page is None:
        page = page_app(served, settings.opening.limits, front.root_path)
    return App(
        registry,
        metrics,
        access=Access(
            auth=settings.auth, token=settings.token, loopback=is_loopback(settings.host), front=front
        ),
        deadline_s=settings.deadline_s,
        observers=observers,
        control=control if settings.model_control else None,
        page=page,
        all_counts=among.counts if among else None,
    )


class Server(uvicorn.Server):
    """Runs until a signal, then until everyone who was let in has an answer, or the time for that passed."""

    reloading: asyncio.Task[None] | None = None
    _told = False
    _said_at = -math.inf

    def __init__(self, app: App, say: Callable[[str], None], *, where: str, settings: ServeSettings) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                http=bounded(most_connections()),
                ws="none",
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=settings.keep_alive_s,  # type: ignore[arg-type]  # call_later takes parts, too
                timeout_graceful_shutdown=settings.drain_s,
            )
        )
        self.app = app
        self.stop_delay_s = settings.stop_delay_s
        self.grpc = (
            None
            if settings.grpc_port is None
            else GrpcListener(app, settings.host, settings.grpc_port, shared=settings.processes > 1)
        )
        self.say = say
        self.where = where

    def run(self, sockets: Any = None) -> None:
        """Serve to the end; in a thread of its own where this one runs a loop already: in a notebook."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            self._run_beside(sockets)
            return
        with stopped_at_exit(lambda: setattr(self, "should_exit", True)):
            super().run(sockets)

    def _run_beside(self, sockets: Any) -> None:
        with ThreadPoolExecutor(max_workers=1) as pool:
            running = pool.submit(super().run, sockets)
            try:
                running.result()
            except KeyboardInterrupt:
                self.stop()
                running.result()

    async def startup(self, sockets: Any = None) -> None:
        """Open the models, then take requests, and say so."""
        asyncio.get_running_loop().set_exception_handler(self._troubled)
        registry = self.app.registry
        registry.start()
        await super().startup(sockets=sockets)
        where = self.where
        if self.grpc is not None:
            await self.grpc.start()
            where = f"{where} and gRPC on port {self.grpc.port}"
        gc.freeze()  # what lives as long as the server is not looked through again
        self.begin(where)

    def begin(self, where: str) -> None:
        """Say that requests are taken, and look for newer artifacts from now on."""
        registry = self.app.registry
        self.reloading = asyncio.create_task(Reloader(registry, self.app.metrics, self.say).run())
        self.say(f"serving {', '.join(registry.models)} {where} (Ctrl-C stops)")

    async def shutdown(self, sockets: Any = None) -> None:
        """Drain, then free the engines and end the threads."""
        self.app.registry.ready = False
        if self.reloading is not None:
            self.reloading.cancel()
        # both take nobody new from now on, and end together
        ending = asyncio.create_task(self._stop_grpc())
        for sock in sockets or []:
            sock.listen(0)
        # who connected before is taken up: closing the listener would reset those that wait in its queue
        await asyncio.sleep(ACCEPT_S)
        begin_to_stop(self.server_state)
        await super().shutdown(sockets=sockets)
        await ending
        if not self.force_exit:
            await self.app.registry.close()
        self.app.classify.decoders.close()
        if isinstance(self.app.page, PageGuard):
            self.app.page.close()

    async def _stop_grpc(self) -> None:
        if self.grpc is not None:
            await self.grpc.stop(self.config.timeout_graceful_shutdown or 0)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at a signal; uvicorn's own way raises it again, which ends a drained server with 143.

        Only a process's main thread hears of signals.
        """
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, self.stop)
        yield

    def stop(self, *, at_once: bool = False) -> None:
        """Be not ready at once, then drain; a second signal, or `at_once`, stops without waiting."""
        again, self._told = self._told or at_once, True
        self.app.registry.ready = False
        if not again and self.stop_delay_s:
            self.say(f"stopping in {self.stop_delay_s:g} s: not ready, and still answering")
            asyncio.get_running_loop().call_later(self.stop_delay_s, setattr, self, "should_exit", True)
            return
        self.force_exit = again
        self.should_exit = True
        if self.force_exit:
            # from Python 3.12 on a listener is closed only when its last connection is
            for connection in list(self.server_state.connections):
                connection.transport.abort()

    def _troubled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Say in a line, now and then, that there are no file handles left; all else is a mistake of ours."""
        error = context.get("exception")
        if not (isinstance(error, OSError) and error.errno in SHORTAGES):
            loop.default_exception_handler(context)
        elif loop.time() - self._said_at > SAY_EVERY_S:
            self._said_at = loop.time()
            self.say(f"short of what the system gives: {shortage(error)}")
