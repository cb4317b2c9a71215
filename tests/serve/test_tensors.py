"""What is kept between binary requests changes no answer and lets nothing through."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("orjson", reason="orjson is not installed (extra page)")

from serve.api import RefusedError
from serve.api.tensor_data import finite
from serve.api.tensors import LONGEST_KEPT, MOST_KEPT, Parser, Wanted, parse, render
from toolkit.artifacts import TensorSpec

SPEC = TensorSpec(name="input", shape=(None, 1, 2, 2))


def head(rows: int = 2, **more: Any) -> bytes:
    sizes = {"binary_data_size": rows * 16}
    tensor = {"name": "input", "shape": [rows, 1, 2, 2], "datatype": "FP32", "parameters": sizes}
    return json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}, **more}).encode()


def tail(*values: float) -> memoryview:
    return memoryview(struct.pack(f"<{len(values)}f", *values))


def test_a_kept_header_reads_like_a_new_one_and_rows_are_the_requests_own() -> None:
    parser = Parser(SPEC, ["logits"])
    for start in (0.0, 8.0):
        numbers = [start + k for k in range(8)]
        asked, wanted = parser.parse(head(), tail(*numbers)), parse(head(), tail(*numbers), SPEC, ["logits"])
        assert asked.rows.tolist() == wanted.rows.tolist()
        assert asked.rows.dtype == wanted.rows.dtype
        assert (asked.wanted, asked.ident, asked.deadline_s) == (wanted.wanted, None, None)


def test_a_kept_header_lets_no_wrong_rows_through() -> None:
    parser = Parser(SPEC, ["logits"])
    parser.parse(head(), tail(*range(8)))
    for wrong in (tail(*range(7), float("nan")), tail(*range(7), float("inf")), tail(*range(4)), tail()):
        with pytest.raises(RefusedError):
            parser.parse(head(), wrong)


def test_ids_and_long_headers_are_not_kept_and_others_only_so_many() -> None:
    parser = Parser(SPEC, ["logits"])
    for ident in ("a", "b"):
        assert parser.parse(head(id=ident), tail(*range(8))).ident == ident
    parser.parse(head(parameters={"note": "x" * LONGEST_KEPT}), tail(*range(8)))
    assert not parser._kept
    for count in range(1, 2 * MOST_KEPT):
        parser.parse(head(count), tail(*range(4 * count)))
    assert 0 < len(parser._kept) <= MOST_KEPT


def test_the_kept_header_of_an_answer_says_what_an_answer_with_an_id_says() -> None:
    answers = [(Wanted(name="logits", binary=True), np.arange(6, dtype=np.float32).reshape(2, 3))]
    for _ in range(2):
        plain, length = render({"model_name": "m"}, answers, [])
        with_id, its = render({"model_name": "m", "id": "7"}, answers, [])
        assert length
        assert its
        assert json.loads(with_id[:its]) == {**json.loads(plain[:length]), "id": "7"}
        assert plain[length:] == with_id[its:] == answers[0][1].tobytes()


@given(st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), max_size=20))
def test_finite_is_numpys_own_answer(numbers: list[float]) -> None:
    array = np.array(numbers, dtype=np.float32)
    assert finite(array) == bool(np.isfinite(array).all())


def test_numbers_whose_squares_overflow_are_finite() -> None:
    assert finite(np.full(9, 3e38, dtype=np.float32))
    assert finite(np.array([2**62], dtype=np.int64))
