"""Whether a candidate answers as the baseline does: on labelled pictures by accuracy, else by its numbers."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.answering import decisions
from toolkit.choices import Budget, Contender
from toolkit.choosing import BaselineLostError, LostError
from toolkit.choosing.bays import Bay
from toolkit.choosing.pictures import ChoicePictures
from toolkit.choosing.requests import AnswerPictures, PictureAnswers
from toolkit.exporting.accuracy import Drop, error_of_look, paired_drop
from toolkit.exporting.tolerances import FP32_TOLERANCE, FURTHER_RMS, rms_ratio

# where no answer changes, half a point is told on 498 pictures at the first of several looks
FIRST_IMAGES = 512
# pictures on which settings of one file are held against each other
SAMPLE = 64
# pictures of one request, which has a time limit: more and more, as long as they take no longer than that
FEW, AT_ONCE, PART_S = 16, 512, 3.0
# relative to max(1, largest |score|): what another number of threads or another fusion does to one file
ALIKE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """What was found of a candidate's answers; `why_not` says why it may not be chosen, None where it may.

    `undecided` tells that its pictures leave that open: more of them were not asked for yet, or, with
    `why_not`, there was no more to ask for.
    """

    accuracy: float | None = None
    drop: Drop | None = None
    max_difference: float | None = None
    why_not: str | None = None
    undecided: bool = False

    def onto(self, contender: Contender) -> Contender:
        """Return a contender with this in it."""
        drop = self.drop
        return replace(
            contender,
            accuracy=self.accuracy,
            accuracy_drop=drop.points if drop else None,
            accuracy_drop_ci95=(drop.low, drop.high) if drop else None,
            images=drop.images if drop else None,
            max_difference=self.max_difference,
        )


@dataclass(kw_only=True)
class ChoiceJudge:
    """Holds candidates against the baseline's answers, which it asks for as they are needed.

    `first` is on how many pictures it begins; once it is `late`, what is undecided gets no more of them.
    `batch_of` tells the batch that a candidate is timed at, None for any. Who serves it puts callers
    together, so it is judged in the usual batches, and in its own where it answers otherwise in those.
    `samples` are the answers to the first pictures by candidate, in batches of `sampled_at`, each asked for
    once.
    """

    baseline: Bay
    pictures: ChoicePictures
    budget: Budget
    unjudged: bool = False
    first: int = FIRST_IMAGES
    late: Callable[[], bool] = lambda: False
    batch_of: Callable[[str], int | None] = lambda key: None
    samples: dict[str, PictureAnswers] = field(default_factory=dict)
    sampled_at: dict[str, int | None] = field(default_factory=dict)
    _right: list[NDArray[np.bool_]] = field(default_factory=list)

    def own(self) -> Ruling:
        """Return what the baseline's own answers are worth. Raises BaselineLostError."""
        why = _not_finite(self.sample(self.baseline).scores)
        if why is not None:
            return Ruling(why_not=why)
        if self.pictures.labels is None:
            return Ruling(max_difference=0.0)
        right = self._right_before(min(self.first, self.pictures.count))
        nothing = Drop(points=0.0, low=0.0, high=0.0, images=len(right))
        return Ruling(accuracy=float(right.mean()), drop=nothing, max_difference=0.0)

    def judge(self, bay: Bay, *, briefly: bool = False) -> Ruling:
        """Judge a candidate, `briefly` on the first pictures alone.

        Raises LostError where it answers nothing, BaselineLostError where the baseline does not.
        """
        key, count = bay.candidate.key, min(self.first, self.pictures.count)
        wanted, found = self.sample(self.baseline), _asked(bay, 0, count).scores
        self.samples.pop(key, None)
        own = self.sample(bay) if _not_finite(found) is None else None
        why = _not_finite(found if own is None else own.scores)
        if own is None or why is not None:
            return Ruling(why_not=why)
        shapes = (own.scores.shape[1:], len(own.further))
        if shapes != (wanted.scores.shape[1:], len(wanted.further)):
            return Ruling(why_not="it answers with other outputs than the baseline")
        usual = found[: len(own.scores)]
        gap = max(apart(wanted.scores, usual), apart(wanted.scores, own.scores))
        for place, (right, have) in enumerate(zip(wanted.further, own.further, strict=True)):
            allowed = FURTHER_RMS[bay.candidate.artifact.passport.precision]
            off = rms_ratio(right, have) if right.shape == have.shape else np.inf
            if not off <= allowed:
                return Ruling(
                    max_difference=gap,
                    why_not=f"its output {place + 2} differs by {off:.2g} of its size, over {allowed:g}",
                )
        if self.pictures.labels is None:
            return self._by_numbers(gap)
        ruling = self._by_accuracy(bay, found, gap, briefly=briefly)
        if apart(usual, own.scores) <= ALIKE or ruling.why_not is not None:
            return ruling
        batch = self.sampled_at[key]
        found = _asked(bay, 0, count, batch).scores
        why = _not_finite(found)
        if why is not None:
            return Ruling(why_not=why)
        second = self._by_accuracy(bay, found, gap, briefly=briefly, batch=batch)
        return max(ruling, second, key=_against)

    @property
    def _sample_size(self) -> int:
        return min(SAMPLE, self.pictures.count)

    def sample(self, bay: Bay) -> PictureAnswers:
        """Return a candidate's answers to the first pictures. Raises LostError, of the baseline's its own."""
        key = bay.candidate.key
        if key not in self.samples:
            self.sampled_at[key] = batch = self.batch_of(key)
            with self._told_apart(bay):
                self.samples[key] = _asked(bay, 0, self._sample_size, batch)
        return self.samples[key]

    @contextlib.contextmanager
    def _told_apart(self, bay: Bay) -> Iterator[None]:
        """Raise BaselineLostError where the baseline is lost: it must not be taken for the candidate."""
        try:
            yield
        except LostError as error:
            if bay is not self.baseline:
                raise
            key = self.baseline.candidate.contender(1).label
            raise BaselineLostError(f"the baseline, {key}, is no reference: {error}") from None

    def moved(self, bay: Bay) -> bool:
        """Tell whether a candidate, at its batch, answers otherwise than at that which it was judged at.

        Raises LostError.
        """
        key = bay.candidate.key
        known = self.samples.get(key)
        if known is None or self.sampled_at[key] == self.batch_of(key):
            return False
        del self.samples[key]
        return not _alike(known, self.sample(bay))

    def alike(self, known: str, bay: Bay) -> bool:
        """Tell whether another way to run the file of a known candidate answers as that one did.

        Rounding may differ. Raises LostError.
        """
        return known in self.samples and _alike(self.samples[known], self.sample(bay))

    def _by_numbers(self, gap: float) -> Ruling:
        if gap <= FP32_TOLERANCE or self.unjudged:
            return Ruling(max_difference=gap)
        return Ruling(
            max_difference=gap,
            why_not=f"not numerically equal (off by {gap:.2g} of the largest score), and no picture can "
            f"judge it: {self.pictures.why_unjudged}; --unjudged allows it",
        )

    def _by_accuracy(
        self, bay: Bay, scores: NDArray[np.float32], gap: float, *, briefly: bool, batch: int | None = None
    ) -> Ruling:
        """Measure the paired drop on more and more pictures until it is decided or none are left.

        Over all looks together an interval misses in 5 % of the cases at most.
        """
        labels, allowed = self.pictures.labels, self.budget.points
        assert labels is not None
        probable = bay.candidate.artifact.passport.softmax
        for look in itertools.count(1):
            count = len(scores)
            right = decisions(scores, probable=probable) == labels[:count]
            before = self._right_before(count)
            drop = paired_drop(before, right, error=error_of_look(look, last=count == len(labels)))
            answer = drop.judge(allowed)
            if answer != "undecided" or count == len(labels) or self.late():
                break
            if briefly:
                return Ruling(accuracy=float(right.mean()), drop=drop, max_difference=gap, undecided=True)
            more = _asked(bay, count, min(2 * count, len(labels)), batch).scores
            scores = np.concatenate([scores, more])
            broken = _not_finite(scores)
            if broken is not None:
                return Ruling(why_not=broken)
        why = None
        if answer == "fail":
            why = f"it loses {drop.words()}, over the {allowed:g} allowed"
        elif answer == "undecided" and (gap > FP32_TOLERANCE or not np.array_equal(right, before)):
            ended = "the time was up" if count < len(labels) else "there are no more pictures"
            why = f"undecided: it loses {drop.words()}; {ended} to tell {allowed:g}"
        open_still = why is not None and answer == "undecided"
        return Ruling(
            accuracy=float(right.mean()), drop=drop, max_difference=gap, why_not=why, undecided=open_still
        )

    def _right_before(self, count: int) -> NDArray[np.bool_]:
        """Return which of the first `count` pictures the baseline gets right."""
        labels = self.pictures.labels
        assert labels is not None
        known = sum(map(len, self._right))
        if known < count:
            with self._told_apart(self.baseline):
                scores = _asked(self.baseline, known, count).scores
            probable = self.baseline.candidate.artifact.passport.softmax
            self._right.append(decisions(scores, probable=probable) == labels[known:count])
        return np.concatenate(self._right)[:count]


def apart(wanted: NDArray[Any], found: NDArray[Any]) -> float:
    """Return the largest difference relative to max(1, largest |score|); infinite for other shapes."""
    if wanted.shape != found.shape or not np.isfinite(found).all():
        return float("inf")
    largest = max(1.0, float(np.abs(wanted).max(initial=0.0)))
    return float(np.abs(wanted.astype(np.float64) - found).max(initial=0.0)) / largest


def _against(one: Ruling) -> tuple[bool, bool]:
    """Sort what passes, what is undecided as yet, what is so for good, and what fails."""
    out = one.why_not is not None
    return out, one.undecided != out


def _alike(wanted: PictureAnswers, found: PictureAnswers) -> bool:
    first_all, second_all = ((one.scores, *one.further) for one in (wanted, found))
    return len(first_all) == len(second_all) and all(
        apart(right, have) <= ALIKE for right, have in zip(first_all, second_all, strict=True)
    )


def _not_finite(scores: NDArray[np.float32]) -> str | None:
    """Say that scores, (N, K), are no numbers; None where all are."""
    bad = int((~np.isfinite(scores).all(axis=1)).sum())
    return f"its answers hold NaN or infinity ({bad} of {len(scores)} pictures)" if bad else None


def _asked(bay: Bay, start: int, stop: int, batch: int | None = None) -> PictureAnswers:
    """Return a candidate's answers, asked for in parts that each have their time. Raises LostError."""
    parts: list[PictureAnswers] = []
    first, count, whole = start, FEW if start == 0 else SAMPLE, batch or 1
    while first < stop:
        asked, count = time.monotonic(), max(whole, count - count % whole)
        reply = bay.get(AnswerPictures(start=first, stop=min(first + count, stop), batch=batch))
        assert isinstance(reply, PictureAnswers)
        parts.append(reply)
        first += count
        if time.monotonic() - asked < PART_S:
            count = min(2 * count, AT_ONCE)
    if len({part.scores.shape[1:] for part in parts}) != 1:
        raise LostError("its answers change their shape from one picture to the next")
    return PictureAnswers(scores=np.concatenate([part.scores for part in parts]), further=parts[0].further)
