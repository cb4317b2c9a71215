"""One of several processes: serves as one alone does, but connections and orders come from the parent."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn

from serve.api.app import App
from serve.api.connection import MOST_CONNECTIONS, bounded
from serve.api.metrics import resident_bytes
from serve.control import ModelControl
from serve.counts import Counts
from serve.lifetime import SWITCH_S, Among, Server, assemble
from serve.lineup import line_up
from serve.page.guard import PageGuard
from serve.processes.forward import Forward, FromOthers
from serve.processes.handover import Taking
from serve.processes.line import Line, LineClosedError, receive, send
from serve.processes.messages import (
    Begin,
    BeReady,
    Count,
    FoundVersion,
    FoundVersions,
    Frame,
    Load,
    Look,
    Message,
    Obeyed,
    OpenedModel,
    OthersEnded,
    Refused,
    Said,
    Started,
    Stop,
    TakeUp,
    ToldToStop,
    Unload,
)
from serve.reload import Newer, Reloader
from serve.served import ServedModel
from toolkit.errors import CnnkitError
from toolkit.opening import describe

# the process with the page gives up waiting for the others so long before it is out of time itself
ENDS_BEFORE_S = 0.5


class Asked:
    """What this process asks the parent for, on behalf of all."""

    line: Line

    async def counts(self) -> Counts:
        """Return what all processes counted."""
        return await self.line.ask(Count(), Counts)

    async def load(self, name: str) -> None:
        """Have all serve a model. Raises CnnkitError."""
        await self.line.ask(Load(name), Obeyed)

    async def unload(self, name: str) -> None:
        """Have all serve a model no more."""
        await self.line.ask(Unload(name), Obeyed)


class Worker(Server):
    """A server without a listener."""

    def __init__(self, begin: Begin, begun: int, line: socket.socket, way: socket.socket) -> None:
        """`begun` is the number of the parent's question that `begin` came in."""
        self.begin_message, self._begun = begin, begun
        self._line_socket, self._way = line, way
        self.asked = Asked()
        self.held: ServedModel | None = None
        self.newer: list[Newer] = []
        self._arriving: set[asyncio.Task[None]] = set()
        self._page_door: asyncio.Server | None = None
        self.drain_s = begin.settings.drain_s - ENDS_BEFORE_S
        super().__init__(self._app(), self._say, where="", settings=begin.settings)

    def _app(self) -> App:
        begin, settings = self.begin_message, self.begin_message.settings
        models = tuple(name for name in begin.models if name not in begin.unloaded)
        has_page = settings.page and begin.number == 0
        served = (
            line_up(models, settings.backend, settings.opening, others=has_page, choices=settings.choices)
            if models
            else []
        )
        forward = (
            Forward(begin.page_socket, settings.opening.limits.max_bytes)
            if begin.page_socket and not has_page
            else None
        )
        among = Among(number=begin.number, control=self.asked, counts=self.asked.counts, page=forward)
        return assemble([m for m in served if m.name not in begin.unloaded], settings, self._say, among)

    def _say(self, text: str) -> None:
        self.asked.line.tell(Said(text))

    async def startup(self, sockets: Any = None) -> None:
        """Open the models, and what was loaded since; take connections from the parent."""
        loop = asyncio.get_running_loop()
        self.asked.line = Line(self._line_socket, self._answer)
        self._others_ended = asyncio.Event()
        registry, settings = self.app.registry, self.begin_message.settings
        registry.unloaded.update(self.begin_message.unloaded)
        self.control = ModelControl(registry, settings, self._say)
        for name in self.begin_message.loaded:
            registry.take_up(await self.control.opened(name))
        self.reloader = Reloader(registry, self.app.metrics, self._say)
        await super().startup(sockets=[])
        if self.begin_message.page_socket is not None and isinstance(self.app.page, PageGuard):
            self._page_door = await self._open_page_door(self.begin_message.page_socket)
        self._taking = Taking(self._way, self._take)
        started = Started(tuple(registry.models), resident_bytes())
        send(self._line_socket, Frame(self._begun, True, started))
        self._reading = loop.create_task(self._read())

    async def _open_page_door(self, path: Path) -> asyncio.Server:
        """Answer the page's requests that other processes pass on."""
        path.unlink(missing_ok=True)  # of the process whose place this one takes
        config = uvicorn.Config(
            FromOthers(self.app),
            log_level="warning",
            access_log=False,
            http=bounded(MOST_CONNECTIONS),
            ws="none",
            lifespan="off",
            server_header=False,
            date_header=False,
            proxy_headers=False,
        )
        config.load()
        loop = asyncio.get_running_loop()
        return await loop.create_unix_server(lambda: self._protocol(config), path=str(path))

    def begin(self, where: str) -> None:
        """Be not ready before all are; the parent says what is served, and when to look for what is newer."""
        self.app.registry.ready = False

    async def _read(self) -> None:
        await self.asked.line.run()
        if not self.should_exit:  # the parent is gone: who was let in is answered
            self._others_ended.set()
            await self._end(now=False)

    def _take(self, connection: socket.socket) -> None:
        """Take up a connection that the parent hands over."""
        connection.setblocking(False)
        task = asyncio.create_task(self._connect(connection))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)

    async def _connect(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(lambda: self._protocol(self.config), sock=connection)
        except OSError:  # its client has left already
            connection.close()
            self._taking.closed()

    def _protocol(self, config: uvicorn.Config) -> Any:
        """Return what answers one connection: one of the parent's, or of a process that has no page."""
        kind: Any = config.http_protocol_class
        made = kind(config=config, server_state=self.server_state, app_state=self.lifespan.state)
        if config is self.config:
            made.on_lost = self._taking.closed
        return made

    async def _answer(self, message: Message) -> Message | None:
        registry = self.app.registry
        match message:
            case BeReady(ready):
                registry.ready = ready
            case Count():
                return self.app.counts()
            case Look():
                self.newer = await self.reloader.find()
                return FoundVersions(self._versions())
            case Load(name):
                self.held = await self.control.opened(name)
                assert self.held.artifact is not None
                return OpenedModel(describe(self.held.artifact))
            case TakeUp():
                self._take_up(message)
            case Unload(name):
                if name in registry.models:
                    await registry.give_up(name)
            case Stop(now):
                await self._end(now)
            case OthersEnded():
                self._others_ended.set()
        return Obeyed()

    def _versions(self) -> list[FoundVersion]:
        newer = {(one.model.name, one.version): one.classifier.artifact.passport.sha256 for one in self.newer}
        serving = {
            (model.name, version): classifier.artifact.passport.sha256
            for model in self.app.registry.models.values()
            for version, classifier in model.opened.items()
        }
        return [FoundVersion(*key, serving.get(key), newer.get(key)) for key in serving | newer]

    def _take_up(self, message: TakeUp) -> None:
        for newer in self.newer:
            version = newer.model.name, newer.version
            if version in message.versions:
                self.reloader.take_up(newer, counts=version in message.counted)
        if self.held is not None and message.loaded:
            self.app.registry.take_up(self.held)
        self.newer, self.held = [], None

    async def _end(self, now: bool) -> None:
        """Be not ready, take up who was handed over, then drain; `now`, wait for nobody."""
        self.app.registry.ready = False
        if now:
            self._others_ended.set()
            self.stop(at_once=True)
            return
        await self._taking.ended.wait()
        while self._arriving:
            await asyncio.sleep(0)
        self.should_exit = True

    async def _wait_tasks_to_complete(self) -> None:
        """Wait for every answer; with the page, for those that other processes pass on, too."""
        await super()._wait_tasks_to_complete()
        if self._page_door is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._others_ended.wait(), self.drain_s)
            self._page_door.close()
            await super()._wait_tasks_to_complete()

    async def shutdown(self, sockets: Any = None) -> None:
        """Drain, and tell the parent at the end what was counted until then."""
        await super().shutdown(sockets)
        self.asked.line.tell(self.app.counts())

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave it to the parent to stop: a signal may come to all processes, or to this one alone."""
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._told_to_stop)
        yield

    def _told_to_stop(self) -> None:
        self.asked.line.tell(ToldToStop())


def main() -> None:
    """Serve as the parent says, by the line and the way whose handles are the first two arguments."""
    line, way = (socket.socket(fileno=int(handle)) for handle in sys.argv[1:3])
    try:
        frame = receive(line)
    except LineClosedError:
        return
    assert isinstance(frame.message, Begin)
    sys.setswitchinterval(SWITCH_S)
    try:
        Worker(frame.message, frame.number, line, way).run([])
    except CnnkitError as error:
        with contextlib.suppress(OSError):
            send(line, Frame(frame.number, True, Refused(str(error), error.exit_status)))
