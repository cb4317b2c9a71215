"""How far an export's answers are from its source's, and whether that is near enough, here and elsewhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from toolkit.answering import as_probabilities, decisions
from toolkit.errors import GateError
from toolkit.exporting.tolerances import FP32_TOLERANCE, FURTHER_RMS
from toolkit.passports import FurtherParity, Parity, Precision

# relative to max(1, largest |logit|), for networks without labelled pictures
SMALL_GAP: dict[Precision, float] = {"fp16": 0.01, "bf16": 0.05}
# the share of pictures whose first answer is the source's
AGREEMENT: dict[Precision, float] = {"fp32": 1.0, "fp16": 0.999, "bf16": 0.99}
# from so many pictures on, a single near tie is no drift, be it over the share of them that may differ
ONE_MAY_DIFFER = 500
# relative to max(1, largest |logit|): how far a file may be from its proof on another machine, whose order
# of summation and rounding differ
FLOORS: dict[Precision, float] = {"fp32": 1e-4, "fp16": 5e-3, "bf16": 4e-2, "int8": 5e-2}
# and at least this many times what was measured where the export was made
MARGIN = 2.0
# of the range of the reference's answers: beyond half of it, a constant would pass for an answer
SHARE = 0.5


def compare(
    reference: NDArray[np.float32],
    answers: NDArray[np.float32],
    *,
    source: str,
    precision: Precision,
    labels: NDArray[np.int64] | None = None,
    probable: bool = False,
    random_inputs: bool = False,
    further: tuple[FurtherParity, ...] = (),
) -> Parity:
    """Compare two (N, K) arrays of scores on the same inputs; labels (N,) give the accuracies.

    `probable` says that the scores are probabilities: they are compared as such, and a single column decides
    at 0.5, else at 0.
    """
    if answers.shape != reference.shape:
        raise GateError(f"the export answers {answers.shape} where its source answers {reference.shape}")
    if random_inputs and (told := np.isfinite(reference).all(axis=1)).any():
        # what is no number in the source, as the logarithm of a share of 0, says nothing of the export
        reference, answers = reference[told], answers[told]
        labels = None if labels is None else labels[told]
    largest = float(np.abs(reference).max(initial=0.0))
    ours, theirs = decisions(answers, probable=probable), decisions(reference, probable=probable)
    likely = as_probabilities(answers, probable=probable)
    accuracy = change = None
    if labels is not None:
        accuracy = float((ours == labels).mean())
        change = accuracy - float((theirs == labels).mean())
    return Parity(
        images=len(reference),
        source=source,
        max_abs_diff=float(np.abs(answers.astype(np.float64) - reference).max()),
        max_softmax_shift=float(np.abs(likely - as_probabilities(reference, probable=probable)).max()),
        top1_agreement=float((ours == theirs).mean()),
        accuracy=accuracy,
        accuracy_change=change,
        largest_logit=largest,
        tolerance=FP32_TOLERANCE * max(1.0, largest) if precision == "fp32" else None,
        random_inputs=random_inputs,
        further=further,
    )


def judge(parity: Parity, precision: Precision, what: str, *, ties: bool = False) -> None:
    """Raise GateError when an export is too far from its source for its precision.

    fp32 must agree on every picture within the tolerance; fp16 and bf16 by their first answers.
    int8 is judged on accuracy instead, so nothing is asked of it here but finite numbers, and of its further
    outputs that they are still the source's. `ties` lets a small largest difference pass, too: where every
    value is rounded, near ties fall either way.
    """
    if not np.isfinite(parity.max_abs_diff):
        raise GateError(f"{what} answers NaN or infinity; `--explain` names the first module that does")
    if parity.tolerance is not None and parity.max_abs_diff > parity.tolerance:
        raise GateError(
            f"{what} differs from {parity.source} by {parity.max_abs_diff:.3g}, over the tolerance of "
            f"{parity.tolerance:.3g}; `--explain` names the first module whose output drifts"
        )
    wanted = AGREEMENT.get(precision)
    if wanted is not None and wanted < 1 and parity.images >= ONE_MAY_DIFFER:
        wanted = min(wanted, (parity.images - 1) / parity.images)
    # an untrained network's first answers are near ties on noise: there the size of the gap decides
    gap = SMALL_GAP.get(precision, 0.0) * max(1.0, parity.largest_logit or 0.0)
    near = (ties or parity.accuracy is None) and parity.max_abs_diff <= gap
    if wanted is not None and parity.top1_agreement < wanted and not near:
        raise GateError(
            f"{what} gives the source's first answer to {parity.top1_agreement:.2%} of {_on(parity)}, "
            f"fewer than {wanted:.1%}; `--explain` names the first module whose output drifts"
        )
    for output in parity.further:
        if output.rms_ratio > FURTHER_RMS[precision]:
            raise GateError(
                f"the output {output.name!r} of {what} differs by {output.rms_ratio:.2g} of its size from "
                f"the source's, over the {FURTHER_RMS[precision]:g} that {precision} may; `--explain` names "
                "the first module whose output drifts"
            )


def _on(parity: Parity) -> str:
    return f"{parity.images} {'random inputs' if parity.random_inputs else 'images'}"


def words(parity: Parity) -> str:
    """Say a parity in one line; agreement on random inputs says nothing of pictures, and is called so."""
    if parity.random_inputs:
        agree = f"on {parity.images} random inputs: {parity.top1_agreement:.1%} agree"
    else:
        agree = f"{parity.top1_agreement:.1%} agree on {parity.images} images"
    text = f"{agree}, within {parity.max_abs_diff:.2g}"
    if parity.further:
        text += f"; {1 + len(parity.further)} outputs compared"
    return text if parity.accuracy is None else f"{text}; accuracy {parity.accuracy:.4f}"


def tolerance(
    precision: Precision, reference: NDArray[np.float32], shown: NDArray[np.float32], found: float, what: str
) -> float:
    """Return the largest difference that another machine may show.

    `reference` (N, K) are all answers of the reference, `shown` (M, K) those in the proof, and `found`
    is the largest difference to the latter that was measured. Raises GateError when it is so large
    that a proof which allows for it could not fail.
    """
    largest = max(1.0, float(np.abs(reference).max(initial=0.0)))
    floor = FLOORS[precision] * largest
    if precision == "fp32":
        return floor
    span = float(np.ptp(shown)) if shown.size else 0.0
    allowed = min(max(floor, MARGIN * found), max(SHARE * span, FLOORS["fp32"] * largest))
    if found > max(allowed, floor):
        raise GateError(
            f"{what} differs by {found:.2g} on the pictures of its proof, where the answers span {span:.2g}: "
            f"a proof that allows for more than {SHARE:.0%} of that could not fail; use --precision fp16, or "
            "leave --softmax away"
        )
    # an untrained network may answer all pictures nearly alike: rounding is all that can be asked of it
    return max(allowed, min(MARGIN * found, floor))
