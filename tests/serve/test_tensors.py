"""JSON data become the rows that numpy would make of them, and what is no number costs no memory."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.api import RefusedError
from serve.api.tensors import from_json
from toolkit.passports import TensorSpec

SHAPE = (2, 1, 3, 2)


def rows(data: Any, dtype: str = "float32", *, bools: bool = False) -> Any:
    spec = TensorSpec(name="input", shape=(None, *SHAPE[1:]), dtype=dtype)
    return from_json(data, SHAPE, spec, bools=bools)


@given(
    values=st.lists(st.integers(0, 255), min_size=12, max_size=12),
    dtype=st.sampled_from(["float32", "float16", "float64", "uint8", "int64"]),
    nested=st.booleans(),
    bools=st.booleans(),
)
def test_flat_and_nested_data_are_numpys_own_array(
    values: list[int], dtype: str, nested: bool, bools: bool
) -> None:
    wanted = np.array(values, dtype=dtype).reshape(SHAPE)
    found = rows(wanted.tolist() if nested else wanted.ravel().tolist(), dtype, bools=bools)
    assert (found.dtype, found.shape) == (wanted.dtype, SHAPE)
    np.testing.assert_array_equal(found, wanted)


@given(
    at=st.integers(0, 11),
    stranger=st.none() | st.text() | st.lists(st.floats()) | st.dictionaries(st.text(), st.none()),
    nested=st.booleans(),
    dtype=st.sampled_from(["float32", "uint8", "bool"]),
)
def test_one_stranger_among_the_values_is_refused(at: int, stranger: Any, nested: bool, dtype: str) -> None:
    values: list[Any] = np.zeros(12, dtype=dtype).tolist()
    values[at] = stranger
    data = [[[values[k : k + 2] for k in range(n, n + 6, 2)]] for n in (0, 6)] if nested else values
    with pytest.raises(RefusedError, match="data "):
        rows(data, dtype)


def test_true_and_false_are_values_of_a_bool_input_alone() -> None:
    mixed = [True, False] * 6
    assert rows(mixed, "bool", bools=True).ravel().tolist() == mixed
    for dtype in ("float32", "uint8"):
        with pytest.raises(RefusedError, match="must be numbers"):
            rows([True] + [1] * 11, dtype, bools=True)
    with pytest.raises(RefusedError, match="true or false"):
        rows([1] * 12, "bool")


def test_whole_numbers_beyond_the_dtype_are_refused_and_large_ones_kept() -> None:
    for wrong in ([256] * 12, [-1] * 12, [0.5] * 12):
        with pytest.raises(RefusedError, match="whole numbers from 0 to 255"):
            rows(wrong, "uint8")
    assert rows([2**64 - 1] * 12, "uint64").max() == 2**64 - 1


@pytest.mark.parametrize(
    "data",
    [
        ["a" * 200_000, *[""] * 11],
        ["a" * 200_000, *[""] * 9_999],
        [[[["a" * 200_000, ""]] * 3]] * 2,
        [0.5] * 200_000,
        [[0.5] * 100_000] * 2,
    ],
    ids=["texts", "too many texts", "nested texts", "too many numbers", "too many in a row"],
)
def test_what_is_refused_costs_no_memory(data: Any) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(RefusedError):
            rows(data)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # numpy would make 9.6 MB of the first
    assert peak_bytes < 200_000


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_whole_number_that_no_float_reaches_is_refused(dtype: str) -> None:
    with pytest.raises(RefusedError, match="NaN or infinite") as refused:
        rows([0] * 11 + [10**400], dtype)
    assert refused.value.status == 400
