"""int8: one calibration, an accuracy gate on held-out pictures, and a search for layers to leave in float."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.graphs.quantized import quantised_nodes, quantize, unquantizable
from exporters.graphs.ranges import Range, measure
from toolkit.allocation import give_back_freed_memory
from toolkit.answering import answers, decisions, inputs_for
from toolkit.artifacts import Artifact
from toolkit.backends import Engine, EngineOptions, opener
from toolkit.errors import CnnkitError, GateError, UndecidedError
from toolkit.exporting import ExportOptions, RangeMethod
from toolkit.exporting.accuracy import Drop, error_of_look, fewest_images, paired_drop
from toolkit.exporting.heldout import HeldOut, hold_out
from toolkit.exporting.noise import Scale
from toolkit.graphs.asking import scale_of
from toolkit.graphs.running import logits
from toolkit.machine.cpu import Cpu, cpu
from toolkit.passports import UNSIGNED, AccuracyDrop, CalibrationRecord, Dialect, Passport, Precision
from toolkit.telling import Tell, silent

FIRST_IMAGES = 1000
NOISE = "calibrated on noise: expect worse, `--dataset` calibrates on pictures"
# ranges of more noise than is looked at in so long are no better
NOISE_S = 20.0
# pictures on which a layer's own damage is measured before layers are tried in that order
SENSITIVITY_IMAGES = 256


@dataclass
class Calibrated:
    """An fp32 graph with its ranges and the pictures to judge on; shared by both emitters."""

    model: Any
    ranges: dict[str, Range]
    held: HeldOut
    method: RangeMethod
    seed: int
    images: int
    scale: Scale = "normal"
    right: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))

    @property
    def source(self) -> str:
        """What the ranges were measured on, in words."""
        whole = len(self.held.calibration)
        return self.held.calibration_source.replace(str(whole), str(self.images), 1)

    def right_before(self, count: int) -> NDArray[np.bool_]:
        """Return which of the first `count` held-out pictures the fp32 graph gets right."""
        assert self.held.validation is not None
        known = len(self.right)
        if known < count:
            give_back_freed_memory()
            # a second, packed copy of the weights is what a large network has no room for here
            more = logits(self.model, self.held.inputs(known, count), lean=True)
            decided = decisions(more, probable=self.held.passport.softmax)
            self.right = np.concatenate([self.right, decided == self.held.validation.labels[known:count]])
        return self.right[:count]


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """An int8 graph that passed its gate: which layers stay in float, and what is lost.

    `drop` is None where nothing was judged; `why_unjudged` then says why.
    """

    model: Any
    calibration: CalibrationRecord
    dialect: Dialect
    reduced_range: bool
    kept_float: tuple[str, ...] = ()
    drop: AccuracyDrop | None = None
    why_unjudged: str | None = None


def calibrate(
    model: Any,
    passport: Passport,
    options: ExportOptions,
    tell: Tell = silent,
    *,
    beside: Path | None = None,
) -> Calibrated:
    """Run the one calibration pass over training pictures (random ones where there are none).

    `beside` is the graph's file, near which a list of what its network was trained on may lie.

    Raises CnnkitError where a largest drop in accuracy was asked for that no picture could judge.
    """
    images = options.calibration_images
    scale = scale_of(model)
    held = hold_out(
        passport, images=images, seed=options.seed, data_dir=options.data_dir, scale=scale, beside=beside
    )
    refuse_unjudged(held, options, "int8")
    give_back_freed_memory()
    measured = measure(model, held.calibration, tell=tell, seconds=NOISE_S if held.on_noise else None)
    return Calibrated(
        model=model,
        ranges=measured.ranges,
        held=held,
        method=options.calibration,
        seed=options.seed,
        images=measured.images,
        scale=scale,
    )


def refuse_unjudged(held: HeldOut, options: ExportOptions, precision: Precision) -> None:
    """Raise CnnkitError where a largest drop in accuracy was asked for that no picture could judge."""
    demanded = options.max_accuracy_drop
    if demanded is not None and held.validation is None:
        raise CnnkitError(
            f"--max-accuracy-drop {demanded:g} cannot be judged: {held.why_unjudged}; without the option "
            f"{precision} is exported unjudged"
        )


def quantize_within(
    calibrated: Calibrated,
    *,
    dialect: Dialect,
    allowed: float,
    tell: Tell,
    here: Cpu | None = None,
    search_s: float | None = None,
) -> Quantized:
    """Return an int8 graph whose accuracy drop is within `allowed` points, as many layers as can in int8.

    Raises GateError when even the search finds none, UndecidedError when the pictures do not suffice to tell,
    or judging and searching would take longer than `search_s`.
    Without labelled pictures (untrained and foreign networks) nothing is judged, and the result says so.
    """
    held, method = calibrated.held, calibrated.method
    narrow = dialect == UNSIGNED and not (here or cpu()).wide_int8
    emit = partial(
        quantize, calibrated.model, calibrated.ranges, method=method, dialect=dialect, reduce_range=narrow
    )
    kept: list[str] = []
    judged: AccuracyDrop | None = None
    unable = unquantizable(calibrated.model)
    if unable:
        named = ", ".join(f"{name} ({why})" for name, why in unable.items())
        tell(f"left in float, as int8 has no form for them: {named}")
    if held.validation is not None:
        kept, drop = _search(calibrated, lambda keep: emit(keep=keep), allowed, tell, search_s)
        judged = drop_record(drop, allowed, held)
    return Quantized(
        model=emit(keep=kept),
        calibration=CalibrationRecord(
            images=calibrated.images,
            source=calibrated.source,
            method=method,
            seed=calibrated.seed,
            per_channel=True,
            warning=NOISE if held.on_noise else None,
        ),
        dialect=dialect,
        reduced_range=narrow,
        kept_float=(*unable, *kept),
        drop=judged,
        why_unjudged=held.why_unjudged,
    )


def _search(
    calibrated: Calibrated,
    emit: Callable[[Sequence[str]], Any],
    allowed: float,
    tell: Tell,
    search_s: float | None = None,
) -> tuple[list[str], Drop]:
    """Return the smallest set of layers to keep in float, and the drop that is left with it.

    One layer at least stays in int8: a file without any would be int8 in name only.
    """
    assert calibrated.held.validation is not None
    ends = math.inf if search_s is None else time.monotonic() + search_s

    def timely(known: Drop) -> None:
        if time.monotonic() >= ends:
            raise UndecidedError(
                f"int8 loses {known.words()}: more than {allowed:g} could not be ruled out in "
                f"{search_s:.0f} s, on more images or with layers in float; `cnnkit export` takes its time"
            )

    # kept for every judgement to come, and taken while no int8 graph needs memory, too
    calibrated.right_before(min(FIRST_IMAGES, len(calibrated.held.validation)))
    drop = judge(calibrated, emit([]), allowed, timely)
    if drop.judge(allowed) == "pass":
        return [], drop
    fewest = fewest_images(allowed)
    if fewest is None or drop.images < fewest:  # whatever stays in float, the pictures could not tell
        raise refusal(drop, allowed, [])
    tell(f"int8 loses {drop.words()}: more than {allowed:g} cannot be ruled out; looking for layers to keep")
    ranked = _by_damage(calibrated, emit, lambda: timely(drop))[:-1]
    if not ranked:
        raise refusal(drop, allowed, [])
    low, high, found, whole = 1, len(ranked), None, drop
    while low <= high:  # the more of the worst layers stay in float, the less is lost
        timely(whole)
        middle = (low + high) // 2
        tried = judge(calibrated, emit(ranked[:middle]), allowed, lambda _: timely(whole))
        if tried.judge(allowed) == "pass":
            found, drop, high = ranked[:middle], tried, middle - 1
        else:
            low = middle + 1
    if found is None:
        raise refusal(judge(calibrated, emit(ranked), allowed), allowed, ranked)
    for name in list(found[:-1]):  # a layer that a later one made superfluous goes back to int8
        timely(whole)  # a set that passes is not taken as it is: the file would depend on the machine's speed
        fewer = [other for other in found if other != name]
        tried = judge(calibrated, emit(fewer), allowed)
        if tried.judge(allowed) == "pass":
            found, drop = fewer, tried
    tell(f"kept in float: {', '.join(found)}; int8 then loses {drop.words()}")
    return found, drop


def judge(
    calibrated: Calibrated, model: Any, allowed: float, timely: Callable[[Drop], None] = lambda drop: None
) -> Drop:
    """Measure the paired drop of an int8 graph against the fp32 one, until it is decided.

    `timely` is told what is known before more images are answered, and raises once the time is up.
    """
    held = calibrated.held
    return _decided(
        held,
        allowed,
        calibrated.right_before,
        lambda start, stop: logits(model, held.inputs(start, stop)),
        timely,
    )


def judge_engine(
    engine: Engine, reference: Artifact, held: HeldOut, allowed: float, *, model_file: Path | None = None
) -> Drop:
    """Measure the paired drop of an engine that runs here against its reference, until it is decided."""
    backend = opener(reference.passport.format)
    assert held.validation is not None
    pictures, labels = held.validation, held.validation.labels
    with backend.open(reference, EngineOptions(model_file=model_file)) as before:

        def right_before(count: int) -> NDArray[np.bool_]:
            given = inputs_for(pictures.take(slice(count)), reference.passport)
            found = answers(before, given)
            return np.asarray(decisions(found, probable=reference.passport.softmax) == labels[:count])

        return _decided(
            held, allowed, right_before, lambda start, stop: answers(engine, held.inputs(start, stop))
        )


def _decided(
    held: HeldOut,
    allowed: float,
    right_before: Callable[[int], NDArray[np.bool_]],
    answer: Callable[[int, int], NDArray[np.float32]],
    timely: Callable[[Drop], None] = lambda drop: None,
) -> Drop:
    """Measure a paired drop on more and more held-out pictures until it is decided or none are left.

    Over all looks together an interval misses in 5 % of the cases at most.
    """
    validation = held.validation
    assert validation is not None
    count = min(FIRST_IMAGES, len(validation))
    answered = answer(0, count)
    for look in itertools.count(1):
        right = decisions(answered, probable=held.passport.softmax) == validation.labels[:count]
        last = count == len(validation)
        drop = paired_drop(right_before(count), right, error=error_of_look(look, last=last))
        if drop.judge(allowed) != "undecided" or last:
            break
        timely(drop)
        more = min(2 * count, len(validation))
        answered = np.concatenate([answered, answer(count, more)])
        count = more
    return drop


def drop_record(drop: Drop, allowed: float, held: HeldOut) -> AccuracyDrop:
    """Return what a passport says of a drop that was judged."""
    return AccuracyDrop(
        points=drop.points,
        ci95=(drop.low, drop.high),
        images=drop.images,
        allowed=allowed,
        source=held.validation_source,
    )


def _by_damage(
    calibrated: Calibrated, emit: Callable[[Sequence[str]], Any], timely: Callable[[], None]
) -> list[str]:
    """Return the nodes that have an int8 form, the one first that moves the logits most when it alone has it.

    `timely` raises once the time is up.
    """
    names = quantised_nodes(emit([]))
    inputs = calibrated.held.inputs(0, SENSITIVITY_IMAGES)
    wanted = logits(calibrated.model, inputs)
    damage = {}
    for name in names:
        timely()
        alone = emit([other for other in names if other != name])
        damage[name] = float(np.square(logits(alone, inputs) - wanted).mean())
    return sorted(names, key=lambda name: -damage[name])


def refusal(
    drop: Drop, allowed: float, kept: list[str], *, on: str = "", precision: Precision = "int8"
) -> CnnkitError:
    """Return why nothing is exported: how much is lost, with how many layers in float, and `on` what.

    A GateError where too much is lost; an UndecidedError, which failed no gate, for what they cannot tell.
    """
    kept_words = f" even with {len(kept)} layers in float" if kept else ""
    loses = f"{precision} loses {drop.words()}{on}{kept_words}"
    if drop.judge(allowed) == "undecided":
        return UndecidedError(
            f"{loses}: undecided against the {allowed:g} points allowed; {_lacking(drop, allowed)}, or use "
            "--precision fp16"
        )
    calibrated = ", try --calibration entropy or percentile," if precision == "int8" else ""
    return GateError(
        f"{loses}, too much against the {allowed:g} points allowed: allow more with --max-accuracy-drop"
        f"{calibrated} or use --precision fp16"
    )


def _lacking(drop: Drop, allowed: float) -> str:
    fewest = fewest_images(allowed)
    if fewest is None:
        return "no number of images can rule out the smallest loss: allow more with --max-accuracy-drop"
    count = f"at least {fewest:,}" if drop.images < fewest else "more"
    return f"{count} held-out images would tell: add pictures, allow more with --max-accuracy-drop"
