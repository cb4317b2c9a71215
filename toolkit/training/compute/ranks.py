"""Several processes, ranks, that train one network: what they tell each other, and how a lost one is named.

Each rank has the whole network and a part of every batch; gradients are summed, so all of them take the same
step. Words go by gloo, a GPU's gradients by NCCL.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from toolkit.errors import CnnkitError
from toolkit.training import Job
from toolkit.training.compute.seats import (
    ALONE,
    BatchPart,
    Seat,
    ToldError,
    insist_that_batches_suffice,
    seat_of,
)

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import Work
    from torch.distributed.distributed_c10d import Store

T = TypeVar("T")

# before the first step ranks may wait for one another while data is read
_GATHERING_S = 1800.0
# of the stall limit: then the lost rank is still named within it
_WAIT_SHARE, _NAMING_SHARE, _MOST_NAMING_S = 0.6, 0.1, 3.0


class LostRankError(CnnkitError):
    """Another rank ended, or did not answer in time; `ranks` are those that are missing."""

    def __init__(self, text: str, ranks: tuple[int, ...]) -> None:
        super().__init__(text)
        self.ranks = ranks


@dataclass(frozen=True, kw_only=True)
class RankFault:
    """What a rank could not do, as others hear of it."""

    text: str
    exit_status: int


class Ranks:
    """The ranks of a training as one of them sees them; this class is a process that trains alone."""

    def __init__(self, seat: Seat = ALONE) -> None:
        self.seat = seat

    @property
    def leads(self) -> bool:
        """Tell whether this rank writes and speaks."""
        return self.seat.leads

    @property
    def alone(self) -> bool:
        """Tell whether there is no other rank."""
        return self.seat.alone

    def share(self, total: int) -> BatchPart:
        """Return this rank's part of a batch."""
        return self.seat.share(total)

    def begin(self, *, steps: bool) -> None:
        """Wait for others no longer than the stall limit allows; without `steps`, longer again."""

    def add(self, values: Tensor) -> None:
        """Replace values by their sum over all ranks, in place."""

    def add_later(self, values: Tensor) -> Work | None:
        """Begin to replace values by their sum over all ranks; `wait` for what is returned."""
        return None

    def spread(self, values: list[Tensor]) -> None:
        """Give every rank the first one's values, in place."""

    def wait(self, work: Work | None) -> None:
        """Wait for a sum that was begun."""

    def gather(self, value: T) -> list[T]:
        """Return every rank's value, by rank."""
        return [value]

    def together(self, do: Callable[[], T]) -> T:
        """Do on every rank what may fail on some; an error of any is raised on all, by its number."""
        return do()

    def lead(self, make: Callable[[], T]) -> T:
        """Return on every rank what the first one makes; its error is raised on all."""
        return make()

    def only_lead(self, do: Callable[[], T]) -> T | None:
        """Do something on the first rank, for whose error all wait; None on the others."""
        return do()


class GroupedRanks(Ranks):
    """Ranks of a process group."""

    def __init__(self, seat: Seat, store: Store, steps: Any, limit_s: float | None) -> None:
        super().__init__(seat)
        self._store, self._steps = store, steps
        self._wait_s, self._naming_s = _GATHERING_S, _MOST_NAMING_S
        if limit_s is not None:
            self._wait_s, self._naming_s = _WAIT_SHARE * limit_s, min(_MOST_NAMING_S, _NAMING_SHARE * limit_s)
        self._group: Any = None

    def begin(self, *, steps: bool) -> None:
        self._group = self._steps if steps else None

    def add(self, values: Tensor) -> None:
        import torch.distributed as dist

        with self._waiting():
            dist.all_reduce(values, group=self._group)

    def add_later(self, values: Tensor) -> Work | None:
        import torch.distributed as dist

        with self._waiting():
            return dist.all_reduce(values, group=self._group, async_op=True)

    def wait(self, work: Work | None) -> None:
        if work is not None:
            with self._waiting():
                work.wait()

    def spread(self, values: list[Tensor]) -> None:
        import torch.distributed as dist

        with self._waiting():
            for value in values:
                plain = value.contiguous()
                dist.broadcast(plain, 0, group=self._group)
                if plain is not value:
                    value.copy_(plain)

    def gather(self, value: T) -> list[T]:
        import torch.distributed as dist

        found: list[Any] = [None] * self.seat.count
        with self._waiting():
            dist.all_gather_object(found, value, group=self._group)
        return found

    def together(self, do: Callable[[], T]) -> T:
        made: T
        made, error = _attempt(do)
        faults = self.gather(_fault(error))
        for rank, fault in enumerate(faults):
            if fault is not None:
                self._tell(fault, error if self.leads and rank == 0 else None, rank)
        return made

    def lead(self, make: Callable[[], T]) -> T:
        made, error = _attempt(make) if self.leads else (None, None)
        found, fault = self.gather((made, _fault(error)))[0]
        if fault is not None:
            self._tell(fault, error, 0)
        return found  # type: ignore[return-value]  # the first rank's, which made it

    def only_lead(self, do: Callable[[], T]) -> T | None:
        made, error = _attempt(do) if self.leads else (None, None)
        fault = self.gather(_fault(error))[0]
        if fault is not None:
            self._tell(fault, error, 0)
        return made

    def _tell(self, fault: RankFault, own: CnnkitError | None, rank: int) -> NoReturn:
        """Raise what a rank could not do; on the ranks that need not say it, as one that was said."""
        if own is not None:
            raise own
        text = f"rank {rank}: {fault.text}" if rank else fault.text
        told = CnnkitError(text) if self.leads else ToldError(text)
        told.exit_status = fault.exit_status
        raise told

    @contextlib.contextmanager
    def _waiting(self) -> Iterator[None]:
        """Turn what a group says of a lost rank into words. Raises LostRankError."""
        try:
            yield
        except RuntimeError as error:
            raise self._lost(str(error)) from None

    def _lost(self, text: str) -> LostRankError:
        """Ask who else waits: those who do not say so are missing."""
        import torch

        mine, others = f"waiting/{self.seat.rank}", set(range(self.seat.count)) - {self.seat.rank}
        until = time.monotonic() + self._naming_s
        with contextlib.suppress(RuntimeError, torch.distributed.DistError):
            self._store.set(mine, "1")
            while others and time.monotonic() < until:
                others -= {rank for rank in others if self._store.check([f"waiting/{rank}"])}
                time.sleep(0.05)
        which = ", ".join(map(str, sorted(others)))
        late = "imed out" in text or "timeout" in text.lower()
        what = f"did not answer for {self._wait_s:.0f} s" if late else "ended"
        if not others:
            return LostRankError(f"the ranks lost each other: {' '.join(text.split())[:200]}", ())
        return LostRankError(
            f"rank{'s' if len(others) > 1 else ''} {which} {what}; the same command with --resume goes on",
            tuple(sorted(others)),
        )


def _attempt(do: Callable[[], T]) -> tuple[Any, CnnkitError | None]:
    try:
        return do(), None
    except CnnkitError as error:
        return None, error


def _fault(error: CnnkitError | None) -> RankFault | None:
    return None if error is None else RankFault(text=str(error), exit_status=error.exit_status)


@contextlib.contextmanager
def joined(job: Job) -> Iterator[Ranks]:
    """Meet the other ranks that a job trains with, and part from them at the end. Alone, nothing is made.

    Raises CnnkitError where the job cannot be trained so.
    """
    seat = seat_of()
    if job.ranks not in (1, seat.count):
        raise CnnkitError(
            f"--ranks {job.ranks} was asked for, and the launcher started {seat.count}; leave out --ranks"
        )
    if seat.alone:
        yield Ranks()
        return
    insist_that_batches_suffice(job.recipe.batch, seat.count)
    ranks = _group(job, seat)
    import torch.distributed as dist

    try:
        yield ranks
        # a rank that leaves while others still talk has torchrun abort now and then
        ranks.gather(None)
    except BaseException:
        _leave(job)
        raise
    dist.destroy_process_group()


def _leave(job: Job) -> None:
    """Part from the other ranks where something failed, without a wait for those that are lost."""
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import _abort_process_group

    if not job.device.startswith("cuda"):
        dist.destroy_process_group()
        return
    # NCCL would wait for sums that a lost rank never adds to, and what failed would never be told
    with contextlib.suppress(Exception):
        _abort_process_group()


def _group(job: Job, seat: Seat) -> Ranks:
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    on_gpu = job.device.startswith("cuda")
    if on_gpu:
        _take_gpu(job, seat)
    limit_s = job.stall_limit_s
    try:
        store, _, _ = next(rendezvous("env://", timeout=timedelta(seconds=_GATHERING_S)))
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
            store=PrefixStore("cnnkit", store),
            rank=seat.rank,
            world_size=seat.count,
            timeout=timedelta(seconds=_GATHERING_S),
        )
        wait_s = _GATHERING_S if limit_s is None else _WAIT_SHARE * limit_s
        steps = dist.new_group(timeout=timedelta(seconds=wait_s))
    except RuntimeError as error:
        raise CnnkitError(
            f"the ranks did not find each other: {' '.join(str(error).split())[:300]}"
        ) from None
    return GroupedRanks(seat, PrefixStore("cnnkit-words", store), steps, limit_s)


def _take_gpu(job: Job, seat: Seat) -> None:
    """Give each rank of a machine a GPU of its own."""
    import torch

    if ":" in job.device:
        raise CnnkitError(
            f"--device {job.device} names one GPU; --device cuda gives each rank one of its own"
        )
    count = torch.cuda.device_count()
    if seat.here > count:
        raise CnnkitError(
            f"{seat.here} ranks need as many GPUs, and this machine has {count}; start {max(1, count)} ranks"
        )
    torch.cuda.set_device(seat.local)
