"""What a search draws: so many trials, from which ranges, in which metric, and where they are judged."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toolkit.errors import CnnkitError
from toolkit.models import Recipe
from toolkit.recipes import Metric
from toolkit.schema import Count, Positive, Seed
from toolkit.training import recipes

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

MOST_TRIALS = 10_000
# what is looked for unless told: what decides most in any recipe
USUAL = ("lr", "batch", "weight-decay")
RATE = "lr"
# where trials are judged, in shares of the epochs
_RUNGS = (1 / 9, 1 / 3)


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
    def samples(self) -> tuple[str, ...]:
        """Return texts of what may be drawn: every choice, else a value in the middle."""
        if self.choices or self.low is None or self.high is None:
            return self.choices
        middle = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        return (self.text(round(middle) if self.whole else middle),)

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

    A trial is drawn and judged without the results of the `ahead` trials before it, so that they may run
    along with it.
    """

    trials: Positive
    ranges: tuple[SearchRange, ...]
    metric: Metric = "accuracy"
    epochs: Positive = 1
    seed: Seed = 0
    ahead: Count = 0

    @property
    def rungs(self) -> tuple[int, ...]:
        """Return the numbers of epochs after which a trial is judged: a ninth and a third of all."""
        rungs = dict.fromkeys(math.ceil(share * self.epochs) for share in _RUNGS)
        return tuple(rung for rung in rungs if rung < self.epochs)

    @property
    def seeks_rate(self) -> bool:
        """Tell whether the learning rate is among what is drawn."""
        return any(one.word == RATE for one in self.ranges)

    @property
    def at_random(self) -> int:
        """Return how many trials are drawn at random, before there is anything to learn from."""
        return max(3, min(10, self.trials // 3))

    def seen(self, number: int) -> int:
        """Return by the results of how many trials, from the first on, trial `number` is drawn."""
        return 0 if number < self.at_random else self.judged(number)

    def judged(self, number: int) -> int:
        """Return by the results of how many trials, from the first on, trial `number` may be given up."""
        return max(0, number - self.ahead)


def plan_search(
    trials: int,
    recipe: Recipe,
    fixed: Mapping[str, tuple[str, ...]],
    over: Sequence[str],
    *,
    seed: int,
    ahead: int = 0,
    holds_out: bool = False,
    freeze: bool = False,
) -> SearchPlan:
    """Return the search of so many trials around a recipe: what it names in `over`, and given choices.

    Raises CnnkitError for what no range is declared for, or is one value already, for several folds or seeds,
    which are no choice, for several recipes, epochs or metrics, where a draw would be no recipe or let no
    layer thaw that is to (`freeze`), and where nothing is held out to compare on: no share, and neither a
    fold nor a part of the source (`holds_out`).
    """
    if not _is_whole(trials) or not 1 <= trials <= MOST_TRIALS:
        raise CnnkitError(
            f"no search {trials!r}: it is how many trials, 1 to {MOST_TRIALS:,}; without one, a sweep "
            "tries every combination"
        )
    if not _is_whole(seed) or seed < 0:
        raise CnnkitError(f"search_seed cannot be {seed!r}; it takes a whole number from 0")
    if not _is_whole(ahead) or not 0 <= ahead <= MOST_TRIALS:
        raise CnnkitError(
            f"search_ahead cannot be {ahead!r}; it takes a whole number from 0 to {MOST_TRIALS:,}"
        )
    _refuse_several(fixed)
    _refuse_single(fixed, over)
    changed = {word: values[0] for word, values in fixed.items() if len(values) == 1}
    fields = {setting.word for setting in recipes.settings().values()}
    changed = {word: text for word, text in changed.items() if word in fields}
    own = recipes.override(recipe, changed)
    if len(fixed.get("unfreeze-at", ())) < 2:
        recipes.insist_that_layers_thaw(own, freeze=freeze)
    if own.validation_fraction == 0 and not holds_out:
        raise CnnkitError(
            "a search compares trials on held-out images, and the recipe holds none out: "
            "--validation-fraction 0.1"
        )
    given = [SearchRange(word=word, choices=values) for word, values in fixed.items() if len(values) > 1]
    named = over or tuple(word for word in USUAL if word not in fixed)
    declared = [_declared(word, own) for word in dict.fromkeys(named) if word not in fixed]
    if not given and not declared:
        raise CnnkitError("there is nothing to search over: --over lr,batch, or several values of an option")
    drawn = [one for one in (*given, *declared) if one.word in fields]
    _insist_that_draws_are_recipes(recipe, changed, drawn, freeze=freeze)
    return SearchPlan(
        trials=trials,
        ranges=(*given, *declared),
        metric=own.metric,
        epochs=own.epochs,
        seed=seed,
        ahead=ahead,
    )


def _is_whole(given: object) -> bool:
    return isinstance(given, int) and not isinstance(given, bool)


def _refuse_several(fixed: Mapping[str, tuple[str, ...]]) -> None:
    """Raise CnnkitError for several values of what one search has one of."""
    for word, typed in (("fold", "--folds 5"), ("seed", "--seed 0,1,2")):
        if len(fixed.get(word, ())) > 1:
            raise CnnkitError(
                f"a search draws one {word} for each trial, and would take the luckiest {word} for the best: "
                f"search with one {word}, then sweep what it found with {typed}"
            )
    for word, why in (
        ("recipe", "its ranges lie around the recipe's own values"),
        ("epochs", "its trials are judged after shares of them"),
        ("metric", "its trials are compared in it"),
    ):
        values = fixed.get(word, ())
        if len(values) > 1:
            raise CnnkitError(
                f"a search has one --{word}, since {why}: search with --{word} {values[0]}, then with "
                f"--{word} {values[1]}"
            )


def _refuse_single(fixed: Mapping[str, tuple[str, ...]], over: Sequence[str]) -> None:
    """Raise CnnkitError for a field that is to be searched and has one value."""
    for word in over:
        if len(fixed.get(word, ())) == 1:
            raise CnnkitError(
                f"--over {word} draws values, and --{word} {fixed[word][0]} is a single one: leave one of "
                f"them out, or give several to choose among, --{word} A,B"
            )


def _insist_that_draws_are_recipes(
    recipe: Recipe, changed: Mapping[str, str], drawn: Sequence[SearchRange], *, freeze: bool
) -> None:
    """Raise CnnkitError where a draw makes no sense: tried are all values of any two of its ranges."""
    usual = {one.word: one.samples[0] for one in drawn}
    for pair in itertools.combinations_with_replacement(drawn, 2):
        for one, other in itertools.product(*(part.samples for part in pair)):
            values = {**usual, pair[0].word: one, pair[1].word: other}
            try:
                made = recipes.override(recipe, {**changed, **values})
                recipes.insist_that_layers_thaw(made, freeze=freeze)
            except CnnkitError as error:
                told = ", ".join(f"--{word} {text}" for word, text in values.items())
                raise CnnkitError(f"this search would draw {told}, which no trial takes: {error}") from None


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
