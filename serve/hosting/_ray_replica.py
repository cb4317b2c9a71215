"""One replica on a cluster: the very app, its life told by ASGI's lifespan, its counts shared."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from serve.api import Application, Receive, Scope, Send
from serve.api.app import App
from serve.counts import Counts
from serve.lifetime import SWITCH_S, Among, assemble
from serve.lineup import line_up
from serve.reload import Reloader
from serve.settings import ServeSettings
from toolkit.errors import CnnkitError
from toolkit.telling import aloud

REPORT_S = 0.5
# of a replica that is silent for so long, what waits in it and its memory are told no more
GONE_S = 20 * REPORT_S
# replicas that are gone and whose counts are remembered
MOST_GONE = 64


class Gatherer:
    """What all replicas counted, in a process of its own, and whether they are to say that they are ready."""

    def __init__(self) -> None:
        self.counts: dict[str, bytes] = {}
        self.told_at: dict[str, float] = {}
        self.stopping = False

    def report(self, replica: str, counts: bytes) -> bool:
        """Take what a replica counted; return whether all are to stop."""
        self.counts.pop(replica, None)
        self.counts[replica] = counts
        self.told_at[replica] = time.monotonic()
        since = time.monotonic() - GONE_S
        # in the order of their last reports
        gone = [name for name in self.counts if self.told_at[name] < since]
        for name in gone[: max(0, len(gone) - MOST_GONE)]:
            del self.counts[name], self.told_at[name]
        return self.stopping

    def all(self, gone_s: float = GONE_S) -> dict[str, tuple[bytes, bool]]:
        """Return what each replica counted, by its name, and whether it told so of late."""
        since = time.monotonic() - gone_s
        return {name: (counts, self.told_at[name] >= since) for name, counts in self.counts.items()}

    def stop(self) -> None:
        """Have all replicas say that they are not ready."""
        self.stopping = True


def counts_of(told: bytes, lives: bool) -> Counts:
    """Return what a replica told; of one that is gone, what still counts."""
    counts = msgspec.msgpack.decode(told, type=Counts)
    return counts if lives else counts.remains()


class Replica:
    """An ASGI application that opens its models when its lifespan begins, and frees them when it ends."""

    def __init__(
        self,
        models: Sequence[str],
        settings: ServeSettings,
        name: str,
        gatherer: Any,
        page: Application | None,
    ) -> None:
        """`gatherer` is the handle of a Gatherer's actor; `page` passes the page's requests on."""
        self.name, self.gatherer = name, gatherer
        served = line_up(
            models, settings.backend, settings.opening, others=False, choices=settings.choices, tell=aloud
        )
        among = Among(number=0, control=None, counts=self._all_counts, page=page)
        self.app: App = assemble(served, settings, aloud, among)
        self._tasks: list[asyncio.Task[None]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or live."""
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return
        await receive()
        try:
            self._begin()
        except CnnkitError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._end()
        await send({"type": "lifespan.shutdown.complete"})

    def _begin(self) -> None:
        sys.setswitchinterval(SWITCH_S)
        self.app.registry.start()
        gc.freeze()
        reloader = Reloader(self.app.registry, self.app.metrics, aloud)
        self._tasks = [asyncio.create_task(reloader.run()), asyncio.create_task(self._report())]

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await self.app.registry.close()
        self.app.classify.decoders.close()

    async def _report(self) -> None:
        while True:
            try:
                stopping = await self.gatherer.report.remote(
                    self.name, msgspec.msgpack.encode(self.app.counts())
                )
                self.app.registry.ready = not stopping
            except Exception as error:  # its machine may be gone, and Ray begins another
                aloud(f"not reported: {type(error).__name__}: {error}")
            await asyncio.sleep(REPORT_S)

    async def _all_counts(self) -> Counts:
        """Return what all replicas counted: of others as they told it last, of this one what it is by now."""
        mine = self.app.counts()
        told = dict(await self.gatherer.all.remote())
        parts = {name: counts_of(*one) for name, one in told.items()}
        parts[self.name] = mine
        found = Counts(parts=parts)
        for counts in parts.values():
            found.add(counts)
        return found
