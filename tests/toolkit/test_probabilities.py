"""Logits become probabilities, likeliest first."""

from __future__ import annotations

import numpy as np

from toolkit.probabilities import softmax, top_classes


def test_softmax_rows_sum_to_one_even_for_huge_logits() -> None:
    rows = softmax(np.array([[1e4, 0.0], [0.0, 0.0]], np.float32))
    np.testing.assert_allclose(rows, [[1.0, 0.0], [0.5, 0.5]])


def test_top_classes_are_in_order_and_stable() -> None:
    assert top_classes(np.array([0.2, 0.4, 0.4]), ["a", "b", "c"], 2) == [("b", 0.4), ("c", 0.4)]
