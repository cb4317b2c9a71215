"""An engine that runs here, held against what it was made of: its answers, and what it may lose."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporters.graphs.form import wanted_answers
from exporters.proving.further import compare_further
from exporters.proving.parity import compare
from exporters.run.context import RunContext
from exporters.run.int8 import drop_record, judge_engine, refusal, refuse_unjudged
from toolkit.answering import answers
from toolkit.artifacts import Artifact
from toolkit.backends import Engine
from toolkit.exporting import ExportOptions
from toolkit.exporting.further import Further, further_of
from toolkit.exporting.heldout import hold_out
from toolkit.passports import Parity, Passport


@dataclass(frozen=True, kw_only=True)
class ComparedEngine:
    """What an engine answered, (N, K), beside what was wanted of it; `beside` are outputs but the scores."""

    parity: Parity
    wanted: NDArray[np.float32]
    found: NDArray[np.float32]
    beside: tuple[Further, Further]


def compare_engine(
    engine: Engine, passport: Passport, source: Artifact, options: ExportOptions, run: RunContext
) -> ComparedEngine:
    """Compare every output of an engine with the reference's. Raises GateError where they do not match."""
    evidence, reference = run.evidence_for(options.precision, source), run.reference
    wanted = wanted_answers(reference, evidence, passport, model_file=options.model_file)
    inputs = evidence.inputs_for(passport)
    found = answers(engine, inputs)
    beside = evidence.further[reference.passport.sha256], further_of(engine, inputs)
    parity = compare(
        wanted,
        found,
        source=f"{reference.path.name} ({evidence.told(reference.passport)})",
        precision=options.precision,
        labels=evidence.labels,
        probable=passport.softmax,
        random_inputs=evidence.why_random is not None,
        further=compare_further(*beside),
    )
    return ComparedEngine(parity=parity, wanted=wanted, found=found, beside=beside)


def hold_engine(
    engine: Engine, passport: Passport, options: ExportOptions, run: RunContext, *, on: str
) -> Passport:
    """Hold an engine to the accuracy drop that is allowed, and note it. GateError says `on` what.

    Without pictures that training held out nothing is judged, and that is noted, as of an int8 graph. Raises
    CnnkitError where a drop was asked for all the same and its graph was not judged, either.
    """
    reference = run.reference
    held = hold_out(passport, images=1, seed=options.seed, data_dir=options.data_dir, beside=reference.path)
    if held.validation is None and passport.accuracy_drop is not None:
        run.tell(f"only its graph was judged, not the engine: {held.why_unjudged}")
        return passport
    if held.validation is None:
        refuse_unjudged(held, options, options.precision)
        if passport.accuracy_drop_why is None:
            run.tell(f"{options.precision} is NOT judged, no accuracy gate was applied: {held.why_unjudged}")
        return dataclasses.replace(passport, accuracy_drop_why=held.why_unjudged)
    allowed = options.allowed_points
    drop = judge_engine(engine, reference, held, allowed, model_file=options.model_file)
    if drop.judge(allowed) != "pass":
        raise refusal(drop, allowed, [], on=on, precision=options.precision)
    return dataclasses.replace(passport, engine_accuracy_drop=drop_record(drop, allowed, held))
