"""Pictures wait for a decoder in bounded number and to their deadline, and a decoder is never lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from serve.api.pictures import Decoders
from serve.batching import DeadlineError, QueueFullError

SOON_S, LATE_S = 0.05, 60.0


class Work:
    """A decoder's work that goes on until it is told to end, and remembers what was begun."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun: list[int] = []

    def of(self, number: int) -> Callable[[], int]:
        def work() -> int:
            self.begun.append(number)
            self.go.wait(30)
            return number

        return work


def run(main: Callable[[Decoders, Work], Awaitable[None]], **limits: int) -> Work:
    work = Work()

    async def go() -> None:
        decoders = Decoders(**{"most_waiting": 2, "threads": 1, **limits})
        try:
            await main(decoders, work)
        finally:
            work.go.set()
            decoders.close()

    asyncio.run(go())
    return work


def asked(
    decoders: Decoders, work: Work, number: int, left_s: float = LATE_S
) -> asyncio.Task[tuple[int, float]]:
    deadline = asyncio.get_running_loop().time() + left_s
    return asyncio.ensure_future(decoders.run(work.of(number), 10, deadline))


def test_pictures_are_decoded_in_their_order_and_their_wait_is_told() -> None:
    async def main(decoders: Decoders, work: Work) -> None:
        tasks = [asked(decoders, work, number) for number in range(3)]
        for _ in range(100):  # a busy machine begins the first one late
            await asyncio.sleep(SOON_S)
            if decoders.waiting == 2:
                break
        assert decoders.waiting == 2
        work.go.set()
        made = await asyncio.gather(*tasks)
        assert [number for number, _ in made] == [0, 1, 2]
        assert made[0][1] < made[1][1] <= made[2][1]
        assert decoders.waiting == 0

    assert run(main).begun == [0, 1, 2]


@pytest.mark.parametrize("limits", [{"most_waiting": 2}, {"most_waiting": 99, "most_bytes": 20}], ids=str)
def test_beyond_the_bound_a_picture_is_refused_at_once(limits: dict[str, int]) -> None:
    async def main(decoders: Decoders, work: Work) -> None:
        tasks = [asked(decoders, work, number) for number in range(3)]
        await asyncio.sleep(SOON_S)
        with pytest.raises(QueueFullError, match="2 pictures are waiting") as full:
            await asked(decoders, work, 3)
        assert full.value.retry_after_s >= 1
        work.go.set()
        await asyncio.gather(*tasks)
        assert (await asked(decoders, work, 4))[0] == 4

    assert run(main, **limits).begun == [0, 1, 2, 4]


def test_a_picture_whose_deadline_passes_is_never_decoded() -> None:
    async def main(decoders: Decoders, work: Work) -> None:
        first, late = asked(decoders, work, 0), asked(decoders, work, 1, SOON_S)
        with pytest.raises(DeadlineError):
            await late
        assert decoders.waiting == 0
        work.go.set()
        await first

    assert run(main).begun == [0]


def test_a_decoder_is_taken_until_it_is_done_and_then_free_again() -> None:
    async def main(decoders: Decoders, work: Work) -> None:
        with pytest.raises(DeadlineError):
            await asked(decoders, work, 0, SOON_S)
        following = asked(decoders, work, 1)
        await asyncio.sleep(SOON_S)
        assert decoders.waiting == 1
        work.go.set()
        assert (await following)[0] == 1

    assert run(main).begun == [0, 1]


def test_a_picture_that_cannot_be_decoded_leaves_its_decoder_to_the_next() -> None:
    def fail() -> int:
        raise ValueError("no picture")

    async def main(decoders: Decoders, work: Work) -> None:
        deadline = asyncio.get_running_loop().time() + LATE_S
        for _ in range(3):
            with pytest.raises(ValueError, match="no picture"):
                await decoders.run(fail, 10, deadline)
        work.go.set()
        assert (await asked(decoders, work, 1))[0] == 1

    run(main)
