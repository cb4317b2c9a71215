"""A proof allows for rounding, and never for so much that another network's answers would pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exporters.proving.parity import tolerance
from exporters.proving.proof import read_proof
from tests.exporters.conftest import cnnkit_json
from toolkit.artifacts import open_artifact
from toolkit.errors import GateError

LOGITS = np.linspace(-4, 6, 640, dtype=np.float32).reshape(64, 10)
CERTAIN = np.eye(10, dtype=np.float32)[np.arange(64) % 10]


@pytest.mark.parametrize(
    ("precision", "found", "wanted"),
    [("fp32", 1e-6, 6e-4), ("fp16", 1e-3, 0.03), ("fp16", 0.1, 0.2), ("int8", 1.0, 2.0), ("int8", 4.0, 5.0)],
)
def test_it_is_twice_what_was_measured_between_a_floor_and_half_the_span(
    precision: str, found: float, wanted: float
) -> None:
    assert tolerance(precision, LOGITS, LOGITS, found, "x") == pytest.approx(wanted)  # type: ignore[arg-type]


def test_probabilities_that_moved_by_more_than_half_have_no_proof() -> None:
    assert tolerance("int8", CERTAIN, CERTAIN, 0.4, "x") == 0.5
    with pytest.raises(GateError, match=r"differs by 0\.6 .* span 1: .* could not fail"):
        tolerance("int8", CERTAIN, CERTAIN, 0.6, "x")


def test_one_picture_outside_the_proof_does_not_widen_it() -> None:
    assert tolerance("int8", np.vstack([LOGITS, LOGITS[-1:]]), LOGITS, 0.01, "x") == pytest.approx(0.3)


def test_answers_that_are_all_alike_are_held_to_rounding() -> None:
    alike = np.full((64, 10), 0.1, np.float32)
    assert tolerance("fp16", alike, alike, 3e-4, "x") == pytest.approx(6e-4)
    assert tolerance("int8", alike, alike, 4e-2, "x") == pytest.approx(5e-2)


def test_the_proof_of_bf16_probabilities_holds_probabilities_and_can_fail(root: Path) -> None:
    payload = cnnkit_json(
        *("export", "lenet-maxpool", "--softmax", "--precision", "bf16", "--format", "trt"),
        *("--target", "sm89", "--images", 64, "--artifacts", root),
    )
    engine = open_artifact(Path(payload["artifacts"][-1]["path"]))
    assert engine.passport.source_parity is not None
    assert engine.passport.source_parity.max_abs_diff < 0.2
    proof = read_proof(engine)
    np.testing.assert_allclose(proof.logits.sum(axis=1), 1, atol=1e-5)
    others = np.roll(proof.logits, 1, axis=1)
    assert (np.abs(others - proof.logits).max(axis=1) > proof.tolerance).mean() > 0.9
