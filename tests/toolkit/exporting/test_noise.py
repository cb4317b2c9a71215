"""Random inputs: the same whichever part is drawn, of several scales, and never all at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.exporting.noise import Noise

NOISE = Noise(count=50, shape=(2, 3), dtype="float32", seed=4)


@given(st.integers(0, 50), st.integers(0, 50))
def test_any_part_is_that_part_of_the_whole(start: int, stop: int) -> None:
    np.testing.assert_array_equal(NOISE[start:stop], NOISE[:][start:stop])


def test_the_scales_take_turns() -> None:
    largest = np.abs(NOISE[:]).max(axis=(1, 2))
    assert largest[2::3].min() > 30
    assert (NOISE[1::1][::3] >= 0).all()
    assert largest[1::3].max() <= 1
    assert largest[0::3].max() < 6


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_whole_numbers_are_pixels(dtype: str) -> None:
    drawn = Noise(count=20, shape=(100,), dtype=dtype, seed=0)[:]
    assert drawn.dtype == dtype
    assert (drawn.min(), drawn.max()) == (0, 255)


def test_a_thousand_large_inputs_take_no_memory_until_they_are_drawn() -> None:
    assert len(Noise(count=10**6, shape=(3, 512, 512), dtype="float32", seed=0)) == 10**6
