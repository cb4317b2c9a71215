"""Combinations raced on more and more pictures: who is clearly worse leaves, in time for a report."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from toolkit.answering import PictureInputs, answers
from toolkit.backends import Engine
from toolkit.importing.finding.combinations import Combination
from toolkit.importing.finding.deciding import Answers, best_of, clearly_worse, judged
from toolkit.importing.finding.pool import Pool
from toolkit.passports import TensorSpec

# pictures in the first round; each later one has twice as many
FIRST = 32
BATCH = 32
# so sure is a race before it drops one for good, with pictures still to come
EARLY = 0.001


@dataclass(kw_only=True)
class Runner:
    """One combination in the race: its answers to the pool's first pictures, in order.

    `worse` tells that it left as clearly worse, and not for want of time.
    """

    combination: Combination
    scores: list[NDArray[np.float32]] = field(default_factory=list)
    count: int = 0
    worse: bool = False


@dataclass(kw_only=True)
class Race:
    """A network and its pictures; runners are asked about more and more of the searched half.

    `probabilities` says what the network answers with. `tell_share` hears how much of the time is used.
    """

    engine: Engine
    pool: Pool
    takes: TensorSpec
    probabilities: bool
    seconds: float
    tell_share: Callable[[float], None] = lambda share: None
    started: float = field(default_factory=time.monotonic)
    spent: float = 0.0
    asked: int = 0

    @property
    def used(self) -> float:
        """Return the share of the time that is used, 0 to 1 and beyond."""
        return (time.monotonic() - self.started) / self.seconds

    def answer(self, combination: Combination, start: int, stop: int) -> NDArray[np.float32]:
        """Return the network's (N, K) answers to a part of the pool."""
        began = time.monotonic()
        pixels = self.pool.fitted(combination.preprocessing, start, stop)
        takes = dataclasses.replace(self.takes, layout=combination.layout)
        if takes.dtype == "uint8" and combination.preprocessing.order == "bgr":
            pixels = np.ascontiguousarray(pixels[:, ::-1])  # what the graph will do itself
        inputs = PictureInputs(
            images=pixels, preprocessing=combination.preprocessing, takes=takes, fitted=True
        )
        found = answers(self.engine, inputs, batch=BATCH)
        self.spent += time.monotonic() - began
        self.asked += stop - start
        self.tell_share(min(1.0, self.used))
        return found

    def judged(self, runner: Runner, count: int) -> Answers:
        """Return what came of a runner's first `count` pictures."""
        scores = np.concatenate(runner.scores)[:count]
        return judged(scores, self.pool.labels[:count], probabilities=self.probabilities)

    def run(self, runners: Sequence[Runner], *, until: float, keep: int) -> list[Runner]:
        """Race until one is left, all pictures are used or `until`, a share of the time, is; best first.

        At most `keep` are left. All that are left have answered equally many pictures.
        """
        alive, count = list(runners), min(FIRST, self.pool.searched)
        while True:
            for runner in alive:
                self._advance(runner, count)
            alive = self._ranked(alive, count)
            last = count >= self.pool.searched or len(alive) == 1
            more = min(2 * count, self.pool.searched)
            if last or not (affordable := self.affordable(more - count, until)):
                return alive[:keep]
            # each round to come has as much time: fewer runners, and each of them looked at longer
            rounds = math.ceil(math.log2(self.pool.searched / count))
            alive, count = alive[: max(2, affordable // rounds)], more
            self.pool.forget([one.combination.preprocessing for one in alive])

    def affordable(self, pictures: int, until: float) -> int:
        """Return how many runners can answer so many more pictures in the time that is left."""
        each = self.spent / max(1, self.asked) * pictures
        left = (until - self.used) * self.seconds
        return max(0, int(left / max(each, 1e-9)))

    def pictures_left(self, runners: int) -> int:
        """Return how many pictures so many runners can answer until the time is over."""
        each = self.spent / max(1, self.asked) * runners
        return max(0, int((1 - self.used) * self.seconds / max(each, 1e-9)))

    def _advance(self, runner: Runner, count: int) -> None:
        if runner.count < count:
            runner.scores.append(self.answer(runner.combination, runner.count, count))
            runner.count = count

    def _ranked(self, alive: list[Runner], count: int) -> list[Runner]:
        """Return the best first, then by loss, without those that are clearly worse."""
        found = [self.judged(runner, count) for runner in alive]
        first = best_of(found)
        for at, runner in enumerate(alive):
            runner.worse = at != first and clearly_worse(found[at], found[first], sure=EARLY)
        order = sorted(range(len(alive)), key=lambda at: (at != first, found[at].losses.mean()))
        return [alive[at] for at in order if not alive[at].worse]
