"""The parent: listens, hands connections over, replaces who dies, and does once what concerns all."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from serve.counts import Counts
from serve.lifetime import stopped_at_exit
from serve.processes.handover import Door
from serve.processes.line import LineClosedError
from serve.processes.member import ServingProcess
from serve.processes.messages import (
    Begin,
    BeReady,
    Count,
    Load,
    Message,
    Obeyed,
    OthersEnded,
    Said,
    Started,
    Stop,
    ToldToStop,
    Unload,
)
from serve.processes.together import Together
from serve.settings import ServeSettings
from toolkit.errors import CnnkitError
from toolkit.figures import mebibytes_text
from toolkit.telling import Tell

BACKLOG = 2048
# how long a listener that is to close takes up those who came before
ACCEPT_S = 0.05
COUNT_S = 1.0
# a process that dies again and again is started anew ever later
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
# what a process needs beyond a stop's own time to end
SPARE_S = 3.0


class Parent:
    """Runs until a signal, then until every process has answered whom it let in."""

    def __init__(
        self,
        models: tuple[str, ...],
        settings: ServeSettings,
        listener: socket.socket,
        tell: Tell,
        *,
        where: str,
    ) -> None:
        """`settings` are each process's own; `where` ends the sentence that says what is served."""
        self.models = models
        self.settings = settings
        self.listener = listener
        self.tell = tell
        self.where = where
        self.members: list[ServingProcess] = []
        self.together = Together(self._here, tell)
        self._gone = Counts()
        self._listens = False
        self._signals = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    def run(self) -> None:
        """Serve to the end; in a thread of its own where this one runs a loop already. Raises CnnkitError."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            self._run_beside()
            return
        with stopped_at_exit(self._stop_from_elsewhere):
            asyncio.run(self._serve())

    def _stop_from_elsewhere(self) -> None:
        self._loop.call_soon_threadsafe(self.stop)

    def _run_beside(self) -> None:
        with ThreadPoolExecutor(max_workers=1) as pool:
            running = pool.submit(asyncio.run, self._serve())
            try:
                running.result()
            except KeyboardInterrupt:
                self._loop.call_soon_threadsafe(self.stop)
                running.result()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._told = asyncio.Event()
        self._door = Door(self.listener, lambda: [m.way for m in self.members if m.takes_connections])
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._loop.add_signal_handler(number, self.stop)
        async with self._page_folder() as folder:
            self._page_socket = folder and folder / "page"
            try:
                told = asyncio.create_task(self._told.wait())
                await self._first_of(told, asyncio.create_task(self._begin()))
                if self._listens:
                    await told
                    await self._drain()
            finally:
                for task in self._tasks:
                    task.cancel()
                for member in self.members:
                    member.kill()

    async def _first_of(self, told: asyncio.Task[Any], beginning: asyncio.Task[None]) -> None:
        await asyncio.wait({told, beginning}, return_when=asyncio.FIRST_COMPLETED)
        if beginning.done():
            await beginning
        beginning.cancel()

    @contextlib.asynccontextmanager
    async def _page_folder(self) -> AsyncIterator[Path | None]:
        """Make a folder that no other user can look into, for the socket by which the page is asked."""
        folder = Path(tempfile.mkdtemp(prefix="cnnkit-processes-")) if self.settings.page else None
        try:
            yield folder
        finally:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)

    async def _begin(self) -> None:
        """Start every process, then take connections, and say so. Raises CnnkitError."""
        self.members = [self._made(number) for number in range(self.settings.processes)]
        try:
            async with asyncio.TaskGroup() as group:
                for member in self.members:
                    group.create_task(self._start(member))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        self._tell_all(self._readiness())
        self.listener.setblocking(False)
        self.listener.listen(BACKLOG)
        self._listens = True
        self._door.watch()
        for member in self.members:
            self._task(self._watch(member))
        self._task(self._every(self.together.every_s, self.together.look))
        self._task(self._every(COUNT_S, self._count))
        self._say_serving([member.started for member in self.members if member.started])

    def _say_serving(self, started: list[Started]) -> None:
        held = [one.memory_bytes for one in started if one.memory_bytes]
        memory = f" of up to {mebibytes_text(max(held))}" if held else ""
        threads = self.settings.opening.options().threads
        self.tell(
            f"serving {', '.join(started[0].names)} {self.where} by {len(started)} processes{memory} with "
            f"{threads} engine thread{'' if threads == 1 else 's'} each (Ctrl-C stops)"
        )

    def _made(self, number: int) -> ServingProcess:
        return ServingProcess(
            Begin(
                models=self.models,
                settings=self.settings,
                number=number,
                page_socket=self._page_socket,
                loaded=tuple(self.together.loaded),
                unloaded=tuple(self.together.unloaded),
            ),
            self._answer,
        )

    async def _start(self, member: ServingProcess) -> None:
        try:
            await member.start()
        except LineClosedError:
            raise CnnkitError(
                f"process {member.number} ended with status {await member.gone} before it served; "
                "`--processes 1` shows why"
            ) from None

    async def _watch(self, member: ServingProcess) -> None:
        """Replace a process once it has ended, and its successors, each later than the one before."""
        pause_s = FIRST_PAUSE_S
        while True:
            began = self._loop.time()
            status = await asyncio.shield(member.gone)
            self._gone.add(member.counts.remains())
            member.counts = Counts()
            if self._told.is_set():
                return
            lived_long = self._loop.time() - began > LONGEST_PAUSE_S
            pause_s = FIRST_PAUSE_S if lived_long else min(pause_s * 2, LONGEST_PAUSE_S)
            how = f"by signal {-status}" if status < 0 else f"with status {status}"
            self.tell(f"process {member.number} ended {how}; another one takes its place")
            member = await self._replaced(member, pause_s)
            self.tell(f"process {member.number} is there again")

    async def _replaced(self, member: ServingProcess, pause_s: float) -> ServingProcess:
        """Return what takes a process's place, once it is there."""
        while True:
            async with self.together.one:
                new = self._made(member.number)
                self.members[member.number] = new
                try:
                    await new.start()
                    new.line.tell(self._readiness())
                    self._door.watch()
                    return new
                except CnnkitError as error:
                    self.tell(f"process {member.number} cannot serve: {error}; it is tried again")
                    new.line.tell(Stop(now=True))
                except LineClosedError:
                    self.tell(f"process {member.number} ended before it served; it is tried again")
            await new.gone
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    async def _answer(self, member: ServingProcess, message: Message) -> Message | None:
        match message:
            case Count():
                return await self.counts()
            case Load(name):
                await self.together.load(name)
            case Unload(name):
                await self.together.unload(name)
            case Counts():
                member.counts = message
            case Said(text):
                self.together.say(text)
            case ToldToStop():
                self._task(self._let_go(member))
        return Obeyed()

    async def _let_go(self, member: ServingProcess) -> None:
        """End one process that was told to by a signal of its own; another takes its place."""
        await asyncio.sleep(ACCEPT_S)  # a signal to all of them comes to the parent, too
        if not self._told.is_set() and not self._signals:
            self._end(member)

    def _end(self, member: ServingProcess) -> None:
        member.leaving = True
        member.way.end()
        member.line.tell(Stop())

    async def counts(self) -> Counts:
        """Return what all processes counted, those that are gone too."""
        await self._count()
        total = Counts()
        for counts in (self._gone, *(member.counts for member in self.members)):
            total.add(counts)
        return total

    async def _count(self) -> None:
        async def of(member: ServingProcess) -> None:
            with contextlib.suppress(LineClosedError, TimeoutError, CnnkitError):
                counts = await member.line.ask(Count(), Counts, timeout_s=COUNT_S)
                # one that ended meanwhile was counted with those that are gone
                if not member.line.closed:
                    member.counts = counts

        await asyncio.gather(*(of(member) for member in self._here()))

    def _here(self) -> list[ServingProcess]:
        return [member for member in self.members if member.started and not member.line.closed]

    def _readiness(self) -> BeReady:
        """Return what a process that begins is to say: not ready, where a stop was asked for meanwhile."""
        return BeReady(not self._signals)

    def _tell_all(self, message: Message) -> None:
        for member in self.members:
            member.line.tell(message)

    def stop(self) -> None:
        """Be not ready at once, then drain; a second signal stops without waiting."""
        self._signals += 1
        if self._signals == 1:
            self._tell_all(BeReady(False))
            delay_s = self.settings.stop_delay_s
            if delay_s:
                self.tell(f"stopping in {delay_s:g} s: not ready, and still answering")
            self._loop.call_later(delay_s, self._told.set)
            return
        self._told.set()
        self._tell_all(Stop(now=True))
        for member in self.members:
            member.way.end()

    async def _drain(self) -> None:
        """Hand over who waits, then have every process answer and end, the one with the page as the last."""
        self.listener.listen(0)
        await asyncio.sleep(ACCEPT_S)
        self._door.close()
        for member in self.members:
            self._end(member)
        first, *others = self.members
        end = self._loop.time() + self.settings.drain_s + SPARE_S
        try:
            async with asyncio.timeout_at(end):
                await asyncio.gather(*(asyncio.shield(member.gone) for member in others))
                first.line.tell(OthersEnded())
                await asyncio.shield(first.gone)
        except TimeoutError:
            self.tell("not every process ended in time; the others are killed")

    def _task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _every(self, seconds: float, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            await work()
