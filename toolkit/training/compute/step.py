"""What the ranks of a training do together in a step: draw, normalise, sum, and agree on what comes next."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from toolkit.training.compute.draws import GlobalDraws
from toolkit.training.compute.norms import SharedNorms, running_figures
from toolkit.training.compute.ranks import Ranks
from toolkit.training.compute.seats import BatchPart
from toolkit.training.compute.sums import Sums


class SharedStep:
    """The ranks in a step of one module; alone, nothing is summed and nothing drawn otherwise.

    `shares_norms` has batch norm take its figures of the whole batch; without it each rank's running
    figures are averaged.
    """

    def __init__(self, ranks: Ranks, *, shares_norms: bool) -> None:
        self._ranks, self._shares_norms = ranks, shares_norms
        self.accord = Accord(ranks)
        self._sums: Sums | None = None

    def follow(self, module: nn.Module) -> None:
        """Sum the gradients of what learns in a module from now on."""
        if self._ranks.alone:
            return
        if self._sums is not None:
            self._sums.close()
        self._sums = Sums(module, self._ranks)

    @contextlib.contextmanager
    def as_one(self, share: BatchPart) -> Iterator[None]:
        """Draw and, where asked for, normalise as one process would of the whole batch; alone, do nothing."""
        if self._ranks.alone:
            yield
            return
        with contextlib.ExitStack() as modes:
            modes.enter_context(GlobalDraws(share))
            if self._shares_norms:
                modes.enter_context(SharedNorms(self._ranks, share))
            yield

    def add_up(self, module: nn.Module, share: BatchPart) -> None:
        """Make gradients, and what else a step moves, those of all ranks; hear what the others want."""
        if self._sums is None:
            return
        wishes = self.accord.wishes()
        # the ranks' mean of batch norm's running figures: with it, the first rank's state is everybody's
        figures = [] if self._shares_norms else running_figures(module)
        for value in figures:
            value.mul_(share.weight)
        self._sums.finish([*figures, wishes])
        self.accord.hear(wishes)


class Accord:
    """What all ranks do after a step because one of them wants to: save the state, or stop.

    Alone, what is wanted at the moment counts; else what was wanted when the step's gradients were summed.
    """

    def __init__(self, ranks: Ranks) -> None:
        self._alone = ranks.alone
        self.wants_stop: Callable[[], bool] = lambda: False
        self.wants_save: Callable[[], bool] = lambda: False
        self._heard = (False, False)

    def wishes(self) -> Tensor:
        """Return this rank's wishes, as figures to be summed."""
        return torch.tensor([float(self.wants_stop()), float(self.wants_save())])

    def hear(self, wishes: Tensor) -> None:
        """Take in the sum of all ranks' wishes."""
        stop, save = (wishes > 0).tolist()
        self._heard = (stop, save)

    @property
    def stop(self) -> bool:
        """Tell whether to stop now."""
        return self.wants_stop() if self._alone else self._heard[0]

    @property
    def save(self) -> bool:
        """Tell whether to save now."""
        return self.wants_save() if self._alone else self._heard[1]
