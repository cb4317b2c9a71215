"""Which pictures of a batch each process of a training computes. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from toolkit.errors import CnnkitError

# fewer pictures than that are no batch: batch norm cannot train on a single one
_LEAST = 2
_FROM_LAUNCHER = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class ToldError(CnnkitError):
    """An error that every rank raises together, on one that need not say it: the first one does."""


@dataclass(frozen=True, kw_only=True)
class BatchPart:
    """The pictures `first` to before `last` of a batch of `total`: what one rank computes.

    A rank that the batch is too small for computes the first ones once more, and they do not count.
    """

    first: int
    last: int
    total: int
    counts: bool = True

    @property
    def rows(self) -> slice:
        """Return the rows of the batch."""
        return slice(self.first, self.last)

    @property
    def size(self) -> int:
        """Return how many pictures are computed."""
        return self.last - self.first

    @property
    def weight(self) -> float:
        """Return what part of the batch's mean the pictures' own mean is."""
        return self.size / self.total if self.counts else 0.0


@dataclass(frozen=True, kw_only=True)
class Seat:
    """One process, `rank`, of the `count` that train together; `here` of them share this machine.

    `local` is its number among those of its machine.
    """

    rank: int = 0
    count: int = 1
    local: int = 0
    here: int = 1

    @property
    def leads(self) -> bool:
        """Tell whether the process is the one that writes and speaks."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Tell whether no other process trains along."""
        return self.count == 1

    def share(self, total: int) -> BatchPart:
        """Return the process's part of a batch: in a row, nearly as many as others have, two at least."""
        workers = max(1, min(self.count, total // _LEAST))
        if self.rank >= workers:
            return BatchPart(first=0, last=min(_LEAST, total), total=total, counts=False)
        first, last = (total * number // workers for number in (self.rank, self.rank + 1))
        return BatchPart(first=first, last=last, total=total)

    def of(self, count: int) -> range:
        """Return the process's part of `count` things to do, in a row; there may be none."""
        return range(count * self.rank // self.count, count * (self.rank + 1) // self.count)


ALONE = Seat()


def seat_of(environment: Mapping[str, str] = os.environ) -> Seat:
    """Return the seat that torchrun, or `--ranks`, started this process with; alone where neither did.

    Raises CnnkitError where the launcher's variables are no numbers.
    """
    if any(name not in environment for name in _FROM_LAUNCHER):
        return ALONE
    try:
        rank, count = int(environment["RANK"]), int(environment["WORLD_SIZE"])
        local = int(environment.get("LOCAL_RANK", rank))
        here = int(environment.get("LOCAL_WORLD_SIZE", count))
    except ValueError:
        rank, count, local, here = -1, 0, 0, 1
    if not 0 <= rank < count:
        told = ", ".join(f"{name}={environment[name]}" for name in _FROM_LAUNCHER[:2])
        raise CnnkitError(
            f"the environment's {told} name no rank; start with torchrun or --ranks, or unset them"
        )
    return Seat(rank=rank, count=count, local=local, here=max(1, here))


def insist_that_batches_suffice(batch: int, count: int) -> None:
    """Raise CnnkitError where a batch has fewer pictures than there are ranks."""
    if batch < count:
        raise CnnkitError(
            f"a batch of {batch} has fewer pictures than there are ranks ({count}): give --batch "
            f"{_LEAST * count} or more, or start fewer ranks"
        )
