"""Batches through torch's DataLoader: worker processes read, decode and augment whole batches ahead.

What comes out is what one process deals out by itself, bit for bit, with any number of workers.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from toolkit.datasets import Split
from toolkit.errors import CnnkitError
from toolkit.models import Recipe
from toolkit.processes import end_with_parent
from toolkit.training.compute.seats import ALONE, Seat
from toolkit.training.data.batches import IN_ORDER, Dealer, InputTransform


class Places(Sampler[tuple[int, int]]):
    """The (epoch, step) places of an epoch, whose `steps` are set before each pass."""

    def __init__(self) -> None:
        self.epoch, self.steps = 0, range(0)

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((self.epoch, step) for step in self.steps)


class Told:
    """A dealer whose errors are handed over as they are: a loader would bury them in a worker's traceback."""

    def __init__(self, dealer: Dealer) -> None:
        self._dealer = dealer

    def __len__(self) -> int:
        return len(self._dealer)

    def __getitem__(self, place: tuple[int, int]) -> tuple[Tensor, Tensor] | CnnkitError:
        """Return the pictures and labels of (epoch, step), or why there are none."""
        try:
            return self._dealer[place]
        except CnnkitError as error:
            return error


class WorkerBatches:
    """A training split dealt out by a DataLoader with so many worker processes; 0 is this process.

    The processes stay from epoch to epoch: starting them again would fork and read everything again.
    """

    def __init__(
        self,
        data: Split,
        recipe: Recipe,
        seed: int,
        transform: InputTransform,
        *,
        workers: int,
        seat: Seat = ALONE,
    ) -> None:
        dealer = Dealer(data, recipe, seed, seat)
        self._transform = transform
        self._places = Places()
        self._loader: DataLoader[tuple[Tensor, Tensor] | CnnkitError] = DataLoader(
            Told(dealer),  # type: ignore[arg-type]  # DataLoader asks only for the two methods
            batch_size=None,  # the dealer's items are batches
            sampler=self._places,
            num_workers=workers,
            persistent_workers=workers > 0,
            # a worker would decode on for the seconds that torch's own look at its parent takes
            worker_init_fn=end_with_parent,
            pin_memory=transform.device.type == "cuda",
            generator=torch.Generator(),  # or it would draw from the one that dropout draws from
        )
        self.steps, self.images, self.count = dealer.steps, dealer.images, dealer.count
        self.seat, self._in_order = seat, range(dealer.steps_in_order)

    def plain(self) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Yield (input, labels) of every picture in its own order, nothing augmented."""
        return self._dealt(IN_ORDER, self._in_order)

    def epoch(self, epoch: int, first: int = 0) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Yield (input, labels) on the training device, from step `first` of an epoch on.

        Closed before its end, it ends the processes: what they have read ahead is of no use.
        """
        return self._dealt(epoch, range(first, self.steps))

    def _dealt(self, epoch: int, steps: range) -> Generator[tuple[Tensor, Tensor], None, None]:
        self._places.epoch, self._places.steps = epoch, steps
        try:
            for dealt in self._loader:
                if isinstance(dealt, CnnkitError):
                    raise dealt
                images, labels = dealt
                yield self._transform(images), labels.to(self._transform.device, non_blocking=True)
        except BaseException:
            self._end_processes()
            raise

    def _end_processes(self) -> None:
        """End the workers now: the garbage collector takes their queues first, and waits 5 s for each."""
        at_work = self._loader._iterator
        self._loader._iterator = None
        if isinstance(at_work, _MultiProcessingDataLoaderIter):
            at_work._shutdown_workers()  # torch has no public word for it
