from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import Awaitable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.batching import Batcher, BatchingSettings, DeadlineError, QueueFullError, Run, StoppedError


class Doubling:
    """A real engine in small: doubles its rows, remembers its batches, and can be held up."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.threads: set[int] = set()
        self.go = threading.Event()
        self.go.set()

    def run(self, rows: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
        self.go.wait(10)
        self.batches.append(len(rows))
        self.threads.add(threading.get_ident())
        return [rows * 2]


def row(value: float, count: int = 1) -> np.ndarray[Any, Any]:
    return np.full((count, 2), value, dtype=np.float32)


async def ended(batcher: Batcher, work: Awaitable[Any]) -> Any:
    try:
        return await work
    finally:
        await batcher.close()


def test_a_lone_caller_is_answered_alone_and_off_the_event_loop() -> None:
    engine = Doubling()

    async def main() -> None:
        batcher = Batcher(BatchingSettings())
        arrays, timing = await ended(batcher, batcher.submit(row(3.0), engine.run))
        assert arrays[0].tolist() == [[6.0, 6.0]]
        assert timing.rows == 1

    asyncio.run(main())
    assert engine.batches == [1]
    assert threading.get_ident() not in engine.threads


def test_callers_that_come_while_the_engine_runs_share_the_next_batch() -> None:
    engine = Doubling()
    engine.go.clear()

    async def main() -> list[Any]:
        batcher = Batcher(BatchingSettings(max_batch=4))
        waiting = [batcher.submit(row(float(i)), engine.run) for i in range(8)]
        engine.go.set()
        return await ended(batcher, asyncio.gather(*waiting))

    answers = asyncio.run(main())
    assert [arrays[0][0, 0] for arrays, _ in answers] == [2.0 * i for i in range(8)]
    assert engine.batches[0] == 1
    assert max(engine.batches) == 4
    assert sum(engine.batches) == 8


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=25),
    max_batch=st.integers(1, 16),
    delay=st.sampled_from([0.0, 2.0]),
)
def test_everyone_gets_their_own_rows_back_whatever_shares_a_batch(
    sizes: list[int], max_batch: int, delay: float
) -> None:
    engine = Doubling()

    async def main() -> list[Any]:
        batcher = Batcher(BatchingSettings(max_batch=max_batch, delay_ms=delay))
        waiting = [batcher.submit(row(float(i), size), engine.run) for i, size in enumerate(sizes)]
        return await ended(batcher, asyncio.gather(*waiting))

    for i, (arrays, _) in enumerate(asyncio.run(main())):
        assert arrays[0].shape == (sizes[i], 2)
        assert (arrays[0] == 2.0 * i).all()
    # only a caller with more rows than a batch may hold goes beyond it, and alone
    assert all(count <= max_batch or count in sizes for count in engine.batches)


def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    engine = Doubling()
    engine.go.clear()

    async def main() -> None:
        batcher = Batcher(BatchingSettings(max_waiting=3))
        running = batcher.submit(row(0.0), engine.run)
        waiting = [batcher.submit(row(1.0), engine.run) for _ in range(3)]
        with pytest.raises(QueueFullError, match="3 rows are waiting") as full:
            batcher.submit(row(9.0), engine.run)
        assert full.value.retry_after_s >= 1
        engine.go.set()
        await ended(batcher, asyncio.gather(running, *waiting))

    asyncio.run(main())


def test_a_request_past_its_deadline_never_reaches_the_engine() -> None:
    engine = Doubling()
    engine.go.clear()

    async def main() -> None:
        batcher = Batcher(BatchingSettings())
        running = batcher.submit(row(0.0), engine.run)
        late = batcher.submit(row(1.0), engine.run, deadline_s=0.02)
        with pytest.raises(DeadlineError):
            await late
        engine.go.set()
        await ended(batcher, running)

    asyncio.run(main())
    assert engine.batches == [1]


def test_a_caller_that_goes_away_costs_the_others_nothing() -> None:
    engine = Doubling()
    engine.go.clear()

    async def main() -> Any:
        batcher = Batcher(BatchingSettings())
        batcher.submit(row(0.0), engine.run).cancel()
        gone, stays = batcher.submit(row(1.0), engine.run), batcher.submit(row(2.0), engine.run)
        gone.cancel()
        engine.go.set()
        return await ended(batcher, stays)

    arrays, _ = asyncio.run(main())
    assert arrays[0][0, 0] == 4.0
    assert sum(engine.batches) == 2


def test_an_engine_that_fails_tells_each_caller_and_goes_on() -> None:
    calls = []

    def run(rows: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
        calls.append(len(rows))
        if len(calls) == 1:
            raise ValueError("no")
        return [rows]

    async def main() -> None:
        batcher = Batcher(BatchingSettings())
        with pytest.raises(ValueError, match="no"):
            await batcher.submit(row(1.0), run)
        arrays, _ = await ended(batcher, batcher.submit(row(2.0), run))
        assert arrays[0][0, 0] == 2.0

    asyncio.run(main())


def test_an_output_without_a_row_for_each_picture_goes_whole_to_everyone() -> None:
    engine = Doubling()
    engine.go.clear()

    def run(rows: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
        return [*engine.run(rows), np.array(7.0), np.arange(9)]

    async def main() -> list[Any]:
        batcher = Batcher(BatchingSettings())
        waiting = [batcher.submit(row(float(i), i + 1), run, deadline_s=5) for i in range(3)]
        engine.go.set()
        return await ended(batcher, asyncio.gather(*waiting))

    for i, (arrays, _) in enumerate(asyncio.run(main())):
        assert arrays[0].tolist() == [[2.0 * i, 2.0 * i]] * (i + 1)
        assert (float(arrays[1]), len(arrays[2])) == (7.0, 9)


def test_an_engine_that_answers_with_no_arrays_tells_each_caller() -> None:
    def run(rows: np.ndarray[Any, Any]) -> Any:
        return None

    async def main() -> None:
        batcher = Batcher(BatchingSettings())
        with pytest.raises(TypeError):
            await batcher.submit(row(1.0), run, deadline_s=5)
        await batcher.close()

    asyncio.run(main())


def test_who_waits_when_a_newer_engine_takes_over_is_answered_by_the_old_one() -> None:
    old, new = Doubling(), Doubling()
    old.go.clear()

    async def main() -> None:
        batcher = Batcher(BatchingSettings())
        first, second = batcher.submit(row(1.0), old.run), batcher.submit(row(2.0), old.run)
        third = batcher.submit(row(3.0), new.run)
        old.go.set()
        await ended(batcher, asyncio.gather(first, second, third))

    asyncio.run(main())
    assert sum(old.batches) == 2
    assert new.batches == [1]


def test_an_engine_is_let_go_with_its_last_caller() -> None:
    old, new = Doubling(), Doubling()
    alive = weakref.ref(old)

    async def main(runs: list[Run]) -> bool:
        batcher = Batcher(BatchingSettings())
        for run in runs:
            await batcher.submit(row(1.0), run)
        runs.clear()
        del run
        end = time.monotonic() + 5
        while alive() is not None and time.monotonic() < end:
            await asyncio.sleep(0.01)  # the engine's thread may still be on its way out of the first run
        kept = alive() is not None
        await batcher.close()
        return kept

    runs = [old.run, new.run]
    del old
    assert asyncio.run(main(runs)) is False


def test_closing_answers_everyone_and_then_takes_nobody() -> None:
    engine = Doubling()

    def slowly(rows: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
        time.sleep(0.02)
        return engine.run(rows)

    async def main() -> None:
        batcher = Batcher(BatchingSettings(max_batch=1))
        waiting = [batcher.submit(row(float(i)), slowly) for i in range(4)]
        await batcher.close()
        assert all(future.done() for future in waiting)
        with pytest.raises(StoppedError):
            batcher.submit(row(0.0), slowly)

    asyncio.run(main())
    assert engine.batches == [1, 1, 1, 1]


def test_an_engine_that_takes_less_than_a_hand_over_runs_on_the_loop_with_all_of_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("serve.batching.HERE_S", 60.0)  # however busy the machine is
    engine = Doubling()
    threads: list[str] = []

    def run(rows: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
        threads.append(threading.current_thread().name)
        return engine.run(rows)

    async def main() -> None:
        batcher = Batcher(BatchingSettings(max_batch=8))
        await batcher.submit(row(0.0), run)  # how long it takes is not known yet
        for _ in range(2):
            answers = await asyncio.gather(*(batcher.submit(row(float(i)), run) for i in range(12)))
            assert [float(arrays[0][0, 0]) for arrays, _ in answers] == [2.0 * i for i in range(12)]
        await batcher.close()

    asyncio.run(main())
    # of the first turn the first caller was taken for a lone one, who is answered at once
    assert engine.batches == [1, 1, 8, 3, 8, 4]
    assert threads[0].startswith("cnnkit-engine")
    assert set(threads[1:]) == {"MainThread"}


def test_an_engine_that_takes_long_never_runs_on_the_loop() -> None:
    threads: set[str] = set()

    def run(rows: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
        threads.add(threading.current_thread().name)
        time.sleep(0.002)
        return [rows]

    async def main() -> None:
        batcher = Batcher(BatchingSettings())
        for _ in range(5):
            await asyncio.gather(*(batcher.submit(row(1.0), run) for _ in range(3)))
        await batcher.close()

    asyncio.run(main())
    assert all(name.startswith("cnnkit-engine") for name in threads)
