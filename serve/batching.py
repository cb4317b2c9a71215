"""Dynamic batching: callers' rows are run together, off the event loop, behind a bounded queue.

A lone caller never waits: a batch leaves at once when the engine is idle, unless the last batch had
company. Then it waits until as many rows are there as were around when the last one ended, but never
longer than `delay_ms`, nor than half of what the engine took: waiting must cost less than it saves. Where
`cnnkit choose` measured what batches take, that tells what waiting saves, and how many rows pay together.

An engine that takes less than a hand-over to its thread costs (`HERE_S`) runs on the event loop itself: at
once for a lone caller, for callers in company at the end of the loop's turn with all rows that came in it.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from serve.settings import BatchingSettings
from toolkit.choices import CurvePoint

Arrays = list[NDArray[Any]]
Run = Callable[[NDArray[Any]], Arrays]


# What an engine may hold up the event loop: a few times what two threads take to hand a batch over and back
# (a LeNet's batch of 16 takes 0.1 ms, the hand-over up to 0.2 ms of a busy loop).
HERE_S = 0.000_5
# the quickest of so many last batches tells what an engine takes: others' work makes single ones slow
RECENT = 8
# of the most rows a second: what larger batches add is not worth their latency
NEAR_BEST = 0.97


class QueueFullError(Exception):
    """The queue is full; `retry_after_s` is in how many whole seconds to come back, at least 1."""

    def __init__(self, waiting: int, seconds: float, what: str = "rows") -> None:
        """`seconds` is how long what waits will take, as far as that was measured."""
        self.retry_after_s = max(1, math.ceil(seconds))
        super().__init__(f"{waiting} {what} are waiting already; try again in {self.retry_after_s} s")


class DeadlineError(Exception):
    """A request's time was up before its answer was there."""


class StoppedError(Exception):
    """The batcher takes no requests any more."""


class Timing(Struct, frozen=True, kw_only=True):
    """Where one request's time went in here, and how many rows ran together."""

    queue_ms: float
    infer_ms: float
    rows: int


class _Caller(Struct, kw_only=True, eq=False):
    rows: NDArray[Any]
    run: Run
    came: float
    done: asyncio.Future[tuple[Arrays, Timing]]
    deadline_s: float | None
    waiting: bool = True
    held: bool = False
    alarm: asyncio.TimerHandle | None = None


class Batcher:
    """Runs engines for many callers of one event loop. Results are exactly the callers' own rows.

    It keeps no engine: each caller brings the one that its rows were made for, so that one which a newer
    took over from is let go with its last caller. `rows_waiting` is how many rows wait for an engine.
    """

    def __init__(
        self,
        settings: BatchingSettings,
        *,
        on_batch: Callable[[int, float], None] = lambda rows, seconds: None,
    ) -> None:
        """`on_batch` is told of each batch's rows and seconds."""
        self.settings = settings
        self._most = min(settings.max_batch, best_batch(settings.curve) or settings.max_batch)
        self._on_batch = on_batch
        self._waiting: deque[_Caller] = deque()
        self.rows_waiting = 0
        self._busy = False
        self._company = False
        self._at_once = 0  # who was answered before the loop's turn ended
        self._around = 0
        self._last_s: float | None = None
        self._recent: deque[tuple[float, float]] = deque(maxlen=RECENT)
        self._turn_ends: asyncio.Handle | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._stopped = False
        self._seconds_per_row: float | None = None
        # one thread: an engine answers one batch at a time, and the event loop stays free
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="cnnkit-engine")

    def submit(
        self, rows: NDArray[Any], run: Run, *, deadline_s: float | None = None, let_in: bool = False
    ) -> asyncio.Future[Any]:
        """Queue (N, …) rows, N ≥ 1; the future gives (arrays with N rows each, Timing).

        `run` is the engine that these rows were made for: it maps (N, …) to arrays with N rows each.
        Raises QueueFullError or StoppedError at once; the future raises DeadlineError when
        `deadline_s` seconds pass first. A caller that cancels its future costs no engine time
        unless its batch runs already, and its place is another's. `let_in` rows are the rest of a batch
        whose first rows the queue had room for.
        """
        if self._stopped:
            raise StoppedError("this server is stopping")
        full = self.rows_waiting and self.rows_waiting + len(rows) > self.settings.max_waiting
        if full and not let_in:
            raise QueueFullError(self.rows_waiting, self.rows_waiting * (self._seconds_per_row or 0.0))
        loop = asyncio.get_running_loop()
        caller = _Caller(
            rows=rows, run=run, came=time.perf_counter(), done=loop.create_future(), deadline_s=deadline_s
        )
        self._waiting.append(caller)
        self.rows_waiting += len(rows)
        self._consider()
        # who is answered at the end of this turn of the loop neither runs out of time nor leaves before
        if self._turn_ends is None or self.rows_waiting > self._most:
            self._hold(caller)
        return caller.done

    def _hold(self, caller: _Caller) -> None:
        """Look after a caller who waits for longer than a turn of the loop."""
        if caller.held:
            return
        caller.held = True
        caller.done.add_done_callback(lambda _: self._left(caller))
        if caller.deadline_s is not None:
            loop = asyncio.get_running_loop()
            caller.alarm = loop.call_later(caller.deadline_s, _expire, caller.done)

    def _left(self, caller: _Caller) -> None:
        """Note that a caller has its answer, or waits for none any more."""
        if caller.alarm is not None:
            caller.alarm.cancel()
        if caller.waiting:
            caller.waiting = False
            self._waiting.remove(caller)
            self.rows_waiting -= len(caller.rows)

    def _consider(self) -> None:
        """Start a batch now, or set the alarm for it."""
        if self._busy or not self._waiting or self._turn_ends is not None:
            return
        if self._is_quick():
            self._turn_ends = asyncio.get_running_loop().call_soon(self._end_turn)
            if not self._company:
                self._at_once = 1
                self._run_here(self._take())
            return
        fewer = self.rows_waiting < min(self._most, self._around)
        if self._company and fewer and not self._stopped:
            window = self._window_s()
            left = window - (time.perf_counter() - self._waiting[0].came)
            if left > 0:
                if self._alarm is None:
                    self._alarm = asyncio.get_running_loop().call_later(left, self._start)
                return
        self._start()

    def _window_s(self) -> float:
        """Return how long those who wait may wait for more."""
        if self.settings.curve:
            saved = saved_s(self.settings.curve, self.rows_waiting, min(self._most, self._around))
            given_ms = self.settings.delay_ms
            return saved if given_ms is None else min(saved, given_ms / 1e3)
        return min(self.settings.most_delay_ms / 1e3, (self._last_s or 0.0) / 2)

    def _is_quick(self) -> bool:
        """Tell whether the engine takes less for what waits than the hand-over to its thread."""
        if not self._recent:
            return False
        rows = min(self.rows_waiting, self._most)
        return min(self._recent)[0] < HERE_S and min(per for _, per in self._recent) * rows < HERE_S

    def _end_turn(self) -> None:
        """Run who came in this turn of the event loop and has no answer yet."""
        self._turn_ends = None
        batch = [] if self._busy else self._take()
        self._company = len(batch) + self._at_once > 1
        self._at_once = 0
        if batch:
            self._run_here(batch)
        for caller in self._waiting:
            self._hold(caller)

    def _run_here(self, batch: list[_Caller]) -> None:
        """Run a batch on the event loop."""
        self._busy = True
        self._finish(batch, *_run(batch))

    def _start(self) -> None:
        """Start a batch while none runs; nothing happens where everyone who waited went away."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        batch = self._take()
        if not batch:
            return
        for caller in batch:
            self._hold(caller)
        self._busy = True
        self._company = len(batch) > 1
        self._pool.submit(self._work, asyncio.get_running_loop(), batch)

    def _take(self) -> list[_Caller]:
        """Take callers of one row shape, in their order, up to the batch limit; a larger one goes alone."""
        batch: list[_Caller] = []
        count = 0
        while self._waiting:
            caller = self._waiting[0]
            # who came before a newer engine took over is answered by the one that it came to
            alike = not batch or (
                caller.run == batch[0].run and caller.rows.shape[1:] == batch[0].rows.shape[1:]
            )
            full = batch and count + len(caller.rows) > self._most
            if full or not alike:
                break
            self._waiting.popleft()
            caller.waiting = False
            self.rows_waiting -= len(caller.rows)
            if not caller.done.done():  # else its deadline passed, or it went away, and nobody was told yet
                batch.append(caller)
                count += len(caller.rows)
        return batch

    def _work(self, loop: asyncio.AbstractEventLoop, batch: list[_Caller]) -> None:
        """Run one batch in the engine's thread."""
        loop.call_soon_threadsafe(self._finish, batch, *_run(batch))

    def _finish(
        self, batch: list[_Caller], outcome: list[Arrays] | Exception, start: float, seconds: float
    ) -> None:
        self._busy = False
        total = sum(len(caller.rows) for caller in batch)
        self._around = total + self.rows_waiting
        if not isinstance(outcome, Exception):
            self._seconds_per_row = smoothed(self._seconds_per_row, seconds / total)
            self._last_s = seconds
            self._recent.append((seconds, seconds / total))
            self._on_batch(total, seconds)
        for index, caller in enumerate(batch):
            if caller.done.done():
                continue
            if isinstance(outcome, Exception):
                caller.done.set_exception(outcome)
            else:
                timing = Timing(queue_ms=(start - caller.came) * 1e3, infer_ms=seconds * 1e3, rows=total)
                caller.done.set_result((outcome[index], timing))
        self._consider()

    async def close(self) -> None:
        """Take nobody new, answer everyone who waits, and end the thread."""
        self._stopped = True
        self._consider()
        await self.emptied()
        self._pool.shutdown(wait=True)

    async def emptied(self) -> None:
        """Return once everyone who waits is answered; who was let in before may still come."""
        while self._busy or self._waiting:
            await asyncio.sleep(0.005)


def best_batch(curve: Sequence[CurvePoint]) -> int | None:
    """Return the smallest batch that answers all but the most rows a second; None without a curve."""
    rates = {point.batch: point.batch / point.latency_ms for point in curve}
    enough = NEAR_BEST * max(rates.values(), default=0.0)
    return next((batch for batch, rate in rates.items() if rate >= enough), None)


def taken_ms(curve: Sequence[CurvePoint], rows: int) -> float:
    """Return what a batch takes, between the measured ones in proportion, beyond the last at its rate."""
    last = curve[-1]
    if rows > last.batch:
        return last.latency_ms * rows / last.batch
    batches, times = ([point.batch for point in curve], [point.latency_ms for point in curve])
    return float(np.interp(rows, batches, times))


def saved_s(curve: Sequence[CurvePoint], waiting: int, whole: int) -> float:
    """Return the seconds that one batch of `whole` rows takes less than those waiting and then the others."""
    if waiting >= whole:
        return 0.0
    apart = taken_ms(curve, waiting) + taken_ms(curve, whole - waiting)
    return max(0.0, apart - taken_ms(curve, whole)) / 1e3


def smoothed(old: float | None, new: float) -> float:
    """Return a figure that follows what is measured, a tenth of the way at a time."""
    return new if old is None else 0.9 * old + 0.1 * new


def _run(batch: list[_Caller]) -> tuple[list[Arrays] | Exception, float, float]:
    """Return each caller's answers or what went wrong, when the engine began, and how long it took in s."""
    start = time.perf_counter()
    try:
        rows = batch[0].rows if len(batch) == 1 else np.concatenate([c.rows for c in batch])
        outcome: list[Arrays] | Exception = _shares(batch, batch[0].run(rows))
    except Exception as error:  # every caller of the batch gets the error and knows what it means
        outcome = error
    return outcome, start, time.perf_counter() - start


def _shares(batch: list[_Caller], arrays: Arrays) -> list[Arrays]:
    """Return each caller's own rows; an output with no row for each of theirs goes whole to everyone."""
    if len(batch) == 1:
        return [list(arrays)]
    ends = [0, *itertools.accumulate(len(caller.rows) for caller in batch)]
    return [
        [array[start:end] if array.shape[:1] == (ends[-1],) else array for array in arrays]
        for start, end in itertools.pairwise(ends)
    ]


def _expire(done: asyncio.Future[Any]) -> None:
    if not done.done():
        done.set_exception(DeadlineError("the deadline passed before the answer was there"))
