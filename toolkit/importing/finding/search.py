"""`--find-preprocessing`: the whole search, from labelled pictures to what was tried and what was taken."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.backends import Engine
from toolkit.errors import CnnkitError
from toolkit.importing import PixelWishes, Tried
from toolkit.importing.finding.combinations import Combination, coloured, geometries, heads, scalings
from toolkit.importing.finding.deciding import (
    CLEAR_POINTS,
    SURE,
    Answers,
    best_of,
    clearly_worse,
    judged,
    points_behind,
)
from toolkit.importing.finding.pool import Pool
from toolkit.importing.finding.racing import FIRST, Race, Runner
from toolkit.importing.inputs import PictureInput
from toolkit.preprocessing import Preprocessing
from toolkit.training.scoring import wilson

FEWEST = 20
# pictures that tell whether two geometries give the same pixels
PROBED = 24
# what is named as not told apart is at most this share of what was tried
NAMED = 0.1
# shares of the time until which scalings and orders are raced, then geometries; the report has what is left
HEADS_UNTIL, GEOMETRIES_UNTIL = 0.4, 0.8
HEADS_KEPT = 4
# pictures of the report where time is short
LEAST_HELD = 64


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search took, first of all that was `tried`.

    `combinations` is how many different tensors the combinations in use make of these pictures.
    """

    tried: tuple[Tried, ...]
    combinations: int

    @property
    def best(self) -> Tried:
        """What was taken."""
        return self.tried[0]


def search(
    engine: Engine,
    pool: Pool,
    taken: PictureInput,
    *,
    base: Preprocessing,
    wishes: PixelWishes,
    own: tuple[Sequence[float], Sequence[float]],
    probabilities: bool,
    seconds: float,
    base_first: bool = False,
    tell_share: Callable[[float], None] = lambda share: None,
) -> Found:
    """Race the combinations that the wishes leave on one half of the pool, and report on the other.

    `own` are the pictures' own mean and deviation by channel. Geometries that make one of these pictures
    are one: the zoo's own of them is named, with `base_first` that of `base`. Raises CnnkitError where no
    combination answers better than a guess.
    """
    if len(pool) < FEWEST:
        raise CnnkitError(
            f"{len(pool)} labelled pictures cannot tell combinations apart: at least {FEWEST}, better 400"
        )
    race = Race(
        engine=engine,
        pool=pool,
        takes=taken.spec,
        probabilities=probabilities,
        seconds=seconds,
        tell_share=tell_share,
    )
    ways = _different(pool, [*([base] if base_first else []), *geometries(base, wishes)])
    shown = pool.fitted(ways[0], 0, min(PROBED, pool.searched))
    whole = np.dtype(taken.spec.dtype).kind in "iu"
    scaled = scalings(base, wishes, own, whole=whole)
    middle = next((one for one in ways if (one.resize, one.crop_share) == ("crop", 1.0)), ways[0])
    first = [
        Runner(combination=one) for one in heads(middle, wishes, taken, scaled, coloured=coloured(shown))
    ]
    led = race.run(first, until=HEADS_UNTIL, keep=HEADS_KEPT)
    # a slow network has time for fewer: the best scaling's geometries come before another scaling's
    led = led[: max(1, race.affordable(FIRST, GEOMETRIES_UNTIL) // len(ways))]
    second = [*led, *(_in_way(runner, way) for runner in led for way in ways if way is not middle)]
    finalists = race.run(second, until=GEOMETRIES_UNTIL, keep=len(second))
    every = {id(runner): runner for runner in (*finalists, *first, *second)}
    return _report(race, finalists, list(every.values()), len(first) * len(ways))


def _in_way(runner: Runner, way: Preprocessing) -> Runner:
    one = runner.combination.preprocessing
    made = dataclasses.replace(
        one, resize=way.resize, crop_share=way.crop_share, interpolation=way.interpolation
    )
    return Runner(combination=Combination(preprocessing=made, layout=runner.combination.layout))


def _different(pool: Pool, ways: Sequence[Preprocessing]) -> list[Preprocessing]:
    """Return the geometries that make different pixels of the pool's pictures, the first of each kind."""
    found: dict[str, Preprocessing] = {}
    for way in ways:
        pixels = pool.fitted(way, 0, min(PROBED, pool.searched))
        found.setdefault(hashlib.sha256(pixels.tobytes()).hexdigest(), way)
    return list(found.values())


def _report(race: Race, finalists: list[Runner], every: list[Runner], combinations: int) -> Found:
    """Judge against the best what did not leave as clearly worse, and what is named on the other half."""
    best = finalists[best_of([race.judged(runner, runner.count) for runner in finalists])]
    equals = _equals(race, best, [runner for runner in every if not runner.worse and runner is not best])
    near = [runner for runner in equals if _behind(race, runner, best) < CLEAR_POINTS]
    named = [best, *near[: max(0, int(NAMED * len(every)) - 1)]]
    held = _held(race, named)
    _refuse_guesses(held[0], race.pool, combinations)
    rows = []
    for runner, answered in zip(named, held, strict=True):
        apart = _behind(race, runner, best, held=(answered, held[0])) >= CLEAR_POINTS
        rows.append(_row(race, runner, told_apart=apart, held=answered))
    seen, unnamed = ({id(runner) for runner in some} for some in (named, equals))
    others = [
        _row(race, runner, told_apart=None if id(runner) in unnamed else True)
        for runner in every
        if id(runner) not in seen
    ]
    others.sort(key=lambda row: -row.accuracy)
    # what is not told apart follows the best, then the others
    rows.sort(key=lambda row: row.told_apart is not False)
    return Found(tried=(*rows, *others), combinations=combinations)


def _equals(race: Race, best: Runner, others: Sequence[Runner]) -> list[Runner]:
    """Return what is not told apart from the best on pictures that both answered, the nearest first."""
    found = []
    for runner in others:
        count = min(runner.count, best.count)
        one, leader = race.judged(runner, count), race.judged(best, count)
        if not clearly_worse(one, leader, sure=SURE / len(others)):
            found.append((float(one.losses.mean() - leader.losses.mean()), runner))
    return [runner for _, runner in sorted(found, key=lambda pair: pair[0])]


def _behind(
    race: Race, runner: Runner, best: Runner, *, held: tuple[Answers, Answers] | None = None
) -> float:
    """Return how many points fewer a runner gets right of what both answered, and of the other half."""
    count = min(runner.count, best.count)
    right = [race.judged(one, count).right for one in (runner, best)]
    if held is not None:
        right = [np.concatenate([own, more.right]) for own, more in zip(right, held, strict=True)]
    return points_behind(right[0], right[1])


def _held(race: Race, runners: Sequence[Runner]) -> list[Answers]:
    """Return what came of the half that took no part in the search, of as much of it as there is time for."""
    start = race.pool.searched
    stop = min(len(race.pool), start + max(LEAST_HELD, race.pictures_left(len(runners))))
    labels = race.pool.labels[start:stop]
    return [
        judged(race.answer(runner.combination, start, stop), labels, probabilities=race.probabilities)
        for runner in runners
    ]


def _row(race: Race, runner: Runner, *, told_apart: bool | None = True, held: Answers | None = None) -> Tried:
    answered = race.judged(runner, runner.count)
    low, high = wilson(int(answered.right.sum()), runner.count)
    return Tried(
        preprocessing=runner.combination.preprocessing,
        layout=runner.combination.layout,
        accuracy=answered.accuracy,
        accuracy_ci95=(low, high),
        images=runner.count,
        told_apart=told_apart,
        held_accuracy=held.accuracy if held else None,
        held_images=len(held.right) if held else None,
        held_accuracy_ci95=wilson(int(held.right.sum()), len(held.right)) if held else None,
    )


def _refuse_guesses(best: Answers, pool: Pool, combinations: int) -> None:
    """Raise CnnkitError where even the best is no better than always saying the most frequent class."""
    labels = pool.labels[pool.searched :][: len(best.right)]
    most = float(np.bincount(labels).max() / len(labels))
    low, _ = wilson(int(best.right.sum()), len(labels))
    if low <= most and best.accuracy < 1:
        raise CnnkitError(
            f"none of {combinations} combinations is better than a guess: the best is right on "
            f"{best.accuracy:.1%} of {len(labels)} pictures, the most frequent class is {most:.1%}; are the "
            "classes in the network's order (--classes), and the labels right?"
        )
