"""A search: trials of a sweep whose values are drawn by what earlier trials came to, the poor ones given up.

Trial number n is a function of the seed, n and the results of the trials before it alone, so that a search
that is gone on with draws what it would have drawn. Poor trials are given up by successive halving (Li et
al., "A system for massively parallel hyperparameter tuning", 2020): at each rung, a number of epochs, about
a quarter of the trials go on. Imports optuna only when a search runs, and no torch.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import needs_extra
from toolkit.training import HELD_OUT, rising
from toolkit.training.cell_results import CellResult, known_result
from toolkit.training.cells import CellPlan, cell_name, queue, run_cell
from toolkit.training.search_plan import SearchPlan
from toolkit.training.trials import pruned

if TYPE_CHECKING:
    import optuna

# of the trials at a rung one in so many goes on
HALVING = 4

Waiting = tuple[Callable[[], CellResult], bool]


def run_search(
    cells: CellPlan, fixed: Mapping[str, str], plan: SearchPlan, folder: Path
) -> Iterator[tuple[CellResult, bool]]:
    """Run the trials that have no good result yet; yield each in turn, and if it was there already.

    A trial whose values an earlier one had is that one: the same training would end alike.
    """
    with needs_extra("search"):
        import optuna
    optuna.logging.set_verbosity(logging.ERROR)
    results: list[CellResult] = []
    begun: list[Waiting] = []
    draws: list[dict[str, str]] = []

    def take() -> tuple[CellResult, bool]:
        result, known = begun[len(results)]
        results.append(result())
        return results[-1], known

    with queue(cells.place) as put:

        def begin(number: int) -> Waiting:
            drawn = _drawn(plan, number, results[: plan.seen(number)])
            draws.append(drawn)
            earlier = draws.index(drawn)
            cell = folder / "cells" / f"{number:04d}_{cell_name(drawn)}"
            known, judge = known_result(cell), _Halving(plan, number, results)
            if known is not None:
                cells.planned.insist_on_known(known.values, cell)
                return partial(judge.settled, known), True
            if earlier < number:
                return lambda: results[earlier], True
            label = ", ".join(f"{word} {value}" for word, value in drawn.items())
            ended = put(partial(run_cell, cells, {**fixed, **drawn}, cell, label=label, trial=judge))
            # trials that ran along with those that judge them are judged here, to be what they would be alone
            return lambda: judge.settled(ended()), False

        for number in range(plan.trials):
            while len(results) < plan.seen(number):
                yield take()
            begun.append(begin(number))
        while len(results) < plan.trials:
            yield take()


def _drawn(plan: SearchPlan, number: int, results: Sequence[CellResult]) -> dict[str, str]:
    """Return the values of a trial, as text by word."""
    trial = _study(plan, number, results).ask({one.word: one.distribution() for one in plan.ranges})
    return {one.word: one.text(trial.params[one.word]) for one in plan.ranges}


def _study(plan: SearchPlan, number: int, results: Sequence[CellResult]) -> optuna.Study:
    """Return a study that knows the results so far and draws by a seed of this trial's own."""
    import optuna

    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(
            seed=(plan.seed * 100_003 + number) % 2**32, n_startup_trials=plan.at_random
        ),
        pruner=optuna.pruners.NopPruner(),  # _Halving judges
    )
    distributions = {one.word: one.distribution() for one in plan.ranges}
    state = optuna.trial.TrialState
    for result in results:
        # of the epoch that was kept, which with `--select last` need not be the best one
        figure = result.report.figure(plan.metric) if result.report else None
        by_epoch = dict(enumerate(result.by_epoch, 1))
        if figure is not None:
            told: dict[str, Any] = {"state": state.COMPLETE, "value": figure, "intermediate_values": by_epoch}
        elif result.status == "pruned":
            told = {"state": state.PRUNED, "value": result.by_epoch[-1], "intermediate_values": by_epoch}
        elif result.status == "diverged":
            # the sampler passes over what failed, and would draw there again; pruned before any figure came,
            # a trial is worse than every other
            told = {"state": state.PRUNED}
        else:
            told = {"state": state.FAIL}
        params = {one.word: one.value(result.values[one.word]) for one in plan.ranges}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, **told))
    return study


class _Halving:
    """Judges a trial at its rungs by what the trials before it were there.

    `results` are those that there are so far; a trial whose judges are not all among them yet goes on.
    """

    def __init__(self, plan: SearchPlan, number: int, results: Sequence[CellResult]) -> None:
        self._plan, self._judges, self._results = plan, plan.judged(number), results

    def figure(self, epoch: Mapping[str, str]) -> float | None:
        """Return the metric's figure of a row of the epochs' table, the loss with its sign changed.

        One that is not finite is worse than every other.
        """
        text = epoch.get(HELD_OUT[self._plan.metric])
        figure = rising(self._plan.metric, float(text)) if text else None
        return -math.inf if text and figure is None else figure

    @property
    def first_alone(self) -> bool:
        """Tell whether the rate is sought: attempts after the first have a lower one than was drawn."""
        return self._plan.seeks_rate

    def gives_up(self, by_epoch: Sequence[float]) -> bool:
        """Tell whether the trial ends at its newest epoch.

        At a rung goes on who is better than all before, or among the best quarter while fewer than a quarter
        have gone on. As trials get better by what is learned, the best quarter alone would be most of them.
        """
        rung = len(by_epoch)
        if rung not in self._plan.rungs or len(self._results) < self._judges:
            return False
        # what diverged is worse than every other, whatever it came to before
        reached = [one for one in self._results[: self._judges] if len(one.by_epoch) >= rung]
        rivals = [one for one in reached if one.status != "diverged"]
        better = sum(one.by_epoch[rung - 1] > by_epoch[-1] for one in rivals)
        gone_on = sum(len(one.by_epoch) > rung or one.status != "pruned" for one in rivals)
        return better > 0 and max(better, gone_on) >= (len(rivals) + 1) / HALVING

    def settled(self, result: CellResult) -> CellResult:
        """Return a result as the trial would have ended, had its judges been there from the start."""
        for rung in self._plan.rungs:
            by_epoch = result.by_epoch[:rung]
            if len(by_epoch) == rung and self.gives_up(by_epoch):
                return pruned(result, by_epoch)
        return result
