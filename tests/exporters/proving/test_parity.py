"""Parity: known differences, the gates of each precision, and the module that is named."""

from __future__ import annotations

import numpy as np
import pytest

from exporters.proving.parity import compare, judge
from toolkit.errors import GateError
from toolkit.passports import Parity

RIGHT = np.array([[4.0, 1.0], [0.0, 3.0], [2.0, -2.0]], np.float32)


def test_the_figures_are_those_of_the_arrays() -> None:
    found = RIGHT + np.array([[0.0, 0.0], [0.0, -0.5], [-3.0, 2.0]], np.float32)
    parity = compare(RIGHT, found, source="x", precision="fp32", labels=np.array([0, 1, 0]))
    assert parity.images == 3
    assert parity.max_abs_diff == 3.0
    assert parity.top1_agreement == pytest.approx(2 / 3)
    assert parity.accuracy == pytest.approx(2 / 3)
    assert parity.accuracy_change == pytest.approx(-1 / 3)
    assert parity.largest_logit == 4.0
    assert parity.tolerance == pytest.approx(4e-4)


def test_probabilities_are_compared_as_they_are() -> None:
    likely = np.array([[0.9, 0.1], [0.2, 0.8]], np.float32)
    found = likely + np.array([[-0.3, 0.3], [0.0, 0.0]], np.float32)
    for columns in (slice(0, 2), slice(1, 2)):
        told = (likely[:, columns], found[:, columns])
        parity = compare(*told, source="x", precision="fp32", probable=True)
        assert parity.max_softmax_shift == pytest.approx(0.3)
        assert compare(*told, source="x", precision="fp32").max_softmax_shift < 0.2


@pytest.mark.parametrize("gap", [3e-4, 5e-4])
def test_fp32_passes_at_a_ten_thousandth_of_the_largest_logit(gap: float) -> None:
    parity = compare(RIGHT, RIGHT + np.float32(gap), source="x", precision="fp32")
    if gap > 4e-4:
        with pytest.raises(GateError, match=r"over the tolerance of 0\.0004"):
            judge(parity, "fp32", "x.onnx")
    else:
        judge(parity, "fp32", "x.onnx")


def test_fp16_must_give_999_of_1000_first_answers() -> None:
    reference = np.zeros((1000, 2), np.float32)
    reference[:, 0] = 1
    labels = np.zeros(1000, np.int64)
    found = reference.copy()
    found[0] = (0, 1)
    judge(compare(reference, found, source="x", precision="fp16", labels=labels), "fp16", "x.onnx")

    def compared(count: int) -> Parity:
        some = slice(count)
        return compare(reference[some], found[some], source="x", precision="fp16", labels=labels[some])

    judge(compared(500), "fp16", "x.onnx")
    with pytest.raises(GateError, match=r"99\.80% of 499 images, fewer than 99\.9%"):
        judge(compared(499), "fp16", "x.onnx")
    found[1] = (0, 1)
    for count, share in ((1000, 80), (500, 60)):
        with pytest.raises(GateError, match=rf"99\.{share}% of {count} images, fewer than 99\.[89]%"):
            judge(compared(count), "fp16", "x.onnx")


def test_without_labels_a_near_tie_is_no_failure_but_a_gap_is() -> None:
    reference = np.full((10, 2), 0.5, np.float32)
    reference[:, 0] += 1e-4
    near, far = reference.copy(), reference.copy()
    near[0, 1] += 2e-4
    far[0, 1] += 2e-2
    judge(compare(reference, near, source="x", precision="fp16"), "fp16", "x.onnx")
    with pytest.raises(GateError, match=r"90\.00% of 10 images"):
        judge(compare(reference, far, source="x", precision="fp16"), "fp16", "x.onnx")
    labelled = compare(reference, near, source="x", precision="fp16", labels=np.zeros(10, np.int64))
    with pytest.raises(GateError, match=r"90\.00% of 10 images"):
        judge(labelled, "fp16", "x.onnx")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_numbers_that_are_not_finite_never_pass(precision: str) -> None:
    found = RIGHT.copy()
    found[1, 0] = np.nan
    with np.errstate(invalid="ignore"), pytest.raises(GateError, match="NaN or infinity"):
        judge(compare(RIGHT, found, source="x", precision=precision), precision, "x.onnx")


def test_other_shapes_are_refused() -> None:
    with pytest.raises(GateError, match=r"answers \(3, 1\) where its source answers \(3, 2\)"):
        compare(RIGHT, RIGHT[:, :1], source="x", precision="fp32")
