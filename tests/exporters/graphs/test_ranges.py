"""Ranges from one pass: extremes are exact, cuts are where the method says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from exporters.graphs.ranges import BINS, Range

VALUES = arrays(np.float32, st.integers(1, 50), elements=st.floats(-1e6, 1e6, width=32))


@given(st.lists(VALUES, min_size=1, max_size=6))
def test_minmax_is_exact_however_the_batches_fall(batches: list[np.ndarray]) -> None:
    found = Range()
    for batch in batches:
        found.add(batch)
    whole = np.concatenate(batches)
    assert found.clipped("minmax") == (float(whole.min()), float(whole.max()))
    assert found.counts.sum() == whole.size
    assert len(found.counts) == BINS


@pytest.mark.parametrize("name", ["percentile", "entropy"])
def test_an_outlier_is_cut_off_and_the_bulk_is_kept(name: str) -> None:
    values = np.random.default_rng(0).normal(0, 1, 200_000).astype(np.float32)
    values[0] = 300.0
    found = Range()
    for part in np.split(values, 10):
        found.add(part)
    low, high = found.clipped(name)
    assert 2.0 < high < 40.0
    assert low >= -40.0
    assert found.clipped("minmax")[1] == 300.0


def test_the_percentile_is_within_a_bin_of_numpys() -> None:
    values = np.abs(np.random.default_rng(1).normal(0, 1, 100_000)).astype(np.float32)
    found = Range()
    found.add(values)
    wanted = float(np.quantile(values, 0.9999))
    assert found.clipped("percentile")[1] == pytest.approx(wanted, abs=2 * found.limit / BINS)


def test_black_borders_do_not_draw_the_entropy_cut_to_zero() -> None:
    values = np.zeros(100_000, np.float32)
    values[::3] = np.random.default_rng(2).uniform(0, 1, len(values[::3]))
    found = Range()
    found.add(values)
    assert found.clipped("entropy")[1] > 0.8
