"""A search: trials of a sweep whose values are drawn by what earlier trials came to, the poor ones given up.

Trial number n is a function of the seed, n and the results of the trials before it alone, so that a search
that is gone on with draws what it would have drawn. Imports optuna only when one runs, and no torch.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import CnnkitError, needs_extra
from toolkit.models import Recipe
from toolkit.recipes import Metric
from toolkit.schema import Count, Positive, Seed
from toolkit.training import recipes
from toolkit.training.cells import CellPlan, CellResult, cell_name, known_result, queue, run_cell

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

MOST_TRIALS = 10_000
# what is looked for unless told: what decides most in any recipe
USUAL = ("lr", "batch", "weight-decay")
_COLUMNS: Mapping[Metric, str] = {
    "accuracy": "val_accuracy",
    "balanced-accuracy": "val_balanced_accuracy",
    "macro-f1": "val_macro_f1",
    "loss": "val_loss",
}


@dataclass(frozen=True, kw_only=True)
class SearchRange:
    """Where a search looks for one option: from `low` to `high`, or among `choices`."""

    word: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    whole: bool = False
    choices: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """Say the range to people."""
        return " or ".join(self.choices) if self.choices else f"{self.low:.3g} to {self.high:.3g}"

    def distribution(self) -> BaseDistribution:
        """Return the range as optuna draws from it."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices or self.low is None or self.high is None:
            return CategoricalDistribution(self.choices)
        if self.whole:
            return IntDistribution(round(self.low), round(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    def text(self, value: Any) -> str:
        """Return a drawn value as the option's text: four figures are more than any training can tell."""
        return str(value) if self.choices or self.whole else f"{value:.4g}"

    def value(self, text: str) -> Any:
        """Return the value of an option's text, within the range."""
        if self.choices or self.low is None or self.high is None:
            return text
        return int(text) if self.whole else min(self.high, max(self.low, float(text)))


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """What a search draws: so many trials, by a seed of its own, in a metric of the held-out images.

    A trial is drawn without the results of the `ahead` trials before it, so that they may run along with it.
    """

    trials: Positive
    ranges: tuple[SearchRange, ...]
    metric: Metric = "accuracy"
    epochs: Positive = 1
    seed: Seed = 0
    ahead: Count = 0

    @property
    def at_random(self) -> int:
        """Return how many trials are drawn at random, before there is anything to learn from."""
        return max(3, min(10, self.trials // 3))

    def seen(self, number: int) -> int:
        """Return by the results of how many trials, from the first on, trial `number` is drawn."""
        return 0 if number < self.at_random else max(0, number - self.ahead)


def plan_search(
    trials: int,
    recipe: Recipe,
    fixed: Mapping[str, tuple[str, ...]],
    over: Sequence[str],
    *,
    seed: int,
    ahead: int = 0,
) -> SearchPlan:
    """Return the search of so many trials around a recipe: what it names in `over`, and given choices.

    Raises CnnkitError for what no range is declared for, for several folds or seeds, which are no choice, and
    where nothing is held out to compare on.
    """
    if not isinstance(trials, int) or not 1 <= trials <= MOST_TRIALS:
        raise CnnkitError(
            f"no search {trials!r}: it is how many trials, 1 to {MOST_TRIALS:,}; without one, a sweep "
            "tries every combination"
        )
    for word, typed in (("fold", "--folds 5"), ("seed", "--seed 0,1,2")):
        if len(fixed.get(word, ())) > 1:
            raise CnnkitError(
                f"a search draws one {word} for each trial, and would take the luckiest {word} for the best: "
                f"search with one {word}, then sweep what it found with {typed}"
            )
    changed = {word: values[0] for word, values in fixed.items() if len(values) == 1}
    fields = {setting.word for setting in recipes.settings().values()}
    own = recipes.override(recipe, {word: text for word, text in changed.items() if word in fields})
    if own.validation_fraction == 0 and "fold" not in fixed:
        raise CnnkitError(
            "a search compares trials on held-out images, and the recipe holds none out: "
            "--validation-fraction 0.1"
        )
    given = [SearchRange(word=word, choices=values) for word, values in fixed.items() if len(values) > 1]
    named = over or tuple(word for word in USUAL if word not in fixed)
    declared = [_declared(word, own) for word in dict.fromkeys(named) if word not in fixed]
    if not given and not declared:
        raise CnnkitError("there is nothing to search over: --over lr,batch, or several values of an option")
    return SearchPlan(
        trials=trials,
        ranges=(*given, *declared),
        metric=own.metric,
        epochs=own.epochs,
        seed=seed,
        ahead=ahead,
    )


def searchable() -> list[str]:
    """Return the words of the recipe fields that declare where a search looks."""
    return [setting.word for setting in recipes.settings().values() if setting.tried is not None]


def _declared(word: str, recipe: Recipe) -> SearchRange:
    setting = next((s for s in recipes.settings().values() if s.word == word), None)
    if setting is None or setting.tried is None:
        raise CnnkitError(
            f"a search has no range for {word!r}; it knows {', '.join(searchable())}, and takes "
            f"several values of any option: --{word} A,B"
        )
    if not setting.tried:
        return SearchRange(word=word, choices=setting.choices or ("true", "false"))
    low, high = setting.tried
    if setting.relative:
        low, high = (getattr(recipe, setting.name) * factor for factor in (low, high))
    low = max(low, setting.low or low)
    return SearchRange(word=word, low=low, high=high, log=setting.log, whole=setting.kind is int)


Waiting = tuple[Callable[[], CellResult], bool]


def run_search(
    cells: CellPlan, fixed: Mapping[str, str], plan: SearchPlan, folder: Path
) -> Iterator[tuple[CellResult, bool]]:
    """Run the trials that have no good result yet; yield each in turn, and if it was there already."""
    with needs_extra("search"):
        import optuna
    optuna.logging.set_verbosity(logging.ERROR)
    results: list[CellResult] = []
    begun: list[Waiting] = []
    with queue(cells.place) as put:

        def begin(number: int) -> Waiting:
            study = _study(plan, number, results[: plan.seen(number)])
            trial = study.ask({one.word: one.distribution() for one in plan.ranges})
            drawn = {one.word: one.text(trial.params[one.word]) for one in plan.ranges}
            cell = folder / "cells" / f"{number:04d}_{cell_name(drawn)}"
            known = known_result(cell)
            if known is not None:
                return lambda: known, True
            label = ", ".join(f"{word} {value}" for word, value in drawn.items())
            judge = _Pruning(plan, study, trial)
            return put(partial(run_cell, cells, {**fixed, **drawn}, cell, label=label, trial=judge)), False

        for number in range(plan.trials):
            while len(results) < plan.seen(number):
                result, known = begun[len(results)]
                results.append(result())
                yield results[-1], known
            begun.append(begin(number))
        for result, known in begun[len(results) :]:
            yield result(), known


def _study(plan: SearchPlan, number: int, results: Sequence[CellResult]) -> optuna.Study:
    """Return a study that knows the results so far and draws by a seed of this trial's own."""
    import optuna

    first = plan.at_random
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(
            seed=(plan.seed * 100_003 + number) % 2**32, n_startup_trials=first
        ),
        # a schedule may learn most at its end, so nothing is given up before a third of it
        pruner=optuna.pruners.MedianPruner(n_startup_trials=first, n_warmup_steps=math.ceil(plan.epochs / 3)),
    )
    distributions = {one.word: one.distribution() for one in plan.ranges}
    for result in results:
        # of the epoch that was kept, which with `--select last` need not be the best one
        figure = result.report.figure(plan.metric) if result.report else None
        done = figure is not None
        pruned = result.status == "pruned"
        state = optuna.trial.TrialState
        study.add_trial(
            optuna.trial.create_trial(
                state=state.COMPLETE if done else state.PRUNED if pruned else state.FAIL,
                params={one.word: one.value(result.values[one.word]) for one in plan.ranges},
                distributions=distributions,
                value=figure if done else result.by_epoch[-1] if pruned else None,
                intermediate_values=dict(enumerate(result.by_epoch, 1)),
            )
        )
    return study


class _Pruning:
    """Judges the epochs of one trial by those of the trials before it."""

    def __init__(self, plan: SearchPlan, study: optuna.Study, trial: optuna.Trial) -> None:
        self._plan, self._study, self._trial = plan, study, trial
        self._verdicts: list[bool] = []  # by epoch

    def figure(self, epoch: Mapping[str, str]) -> float | None:
        """Return the metric's figure of a row of the epochs' table, the loss with its sign changed."""
        text = epoch.get(_COLUMNS[self._plan.metric])
        if not text:
            return None
        return -float(text) if self._plan.metric == "loss" else float(text)

    def gives_up(self, by_epoch: Sequence[float]) -> bool:
        """Tell whether the trial is below the median of those before it, at its newest epoch."""
        if len(by_epoch) >= self._plan.epochs:
            return False  # a trial at its end is compared as a whole
        while len(self._verdicts) < len(by_epoch):
            epoch = len(self._verdicts) + 1
            self._trial.report(by_epoch[epoch - 1], epoch)
            self._verdicts.append(self._trial.should_prune())
        return self._verdicts[len(by_epoch) - 1]
