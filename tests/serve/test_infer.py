"""Requests and answers of inference: what is read of them, what is refused, and with which words."""

from __future__ import annotations

import json
import re
import struct
import tracemalloc
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.api import RefusedError
from serve.api.infer_request import Parser
from serve.api.messages import InferReply, InferRequest
from serve.api.tensors import WantedOutput, finite, render
from toolkit.passports import Passport, TensorSpec

SPEC = TensorSpec(name="input", shape=(None, 1, 2, 2))
PASSPORT = Passport(
    format="onnx",
    model="m",
    precision="fp32",
    trained=True,
    input=SPEC,
    output=TensorSpec(name="logits", shape=(None, 3)),
    classes=(),
    preprocessing=None,
)


def head(rows: int = 2, **more: Any) -> bytes:
    sizes = {"binary_data_size": rows * 16}
    tensor = {"name": "input", "shape": [rows, 1, 2, 2], "datatype": "FP32", "parameters": sizes}
    return json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}, **more}).encode()


def tail(*values: float) -> memoryview:
    return memoryview(struct.pack(f"<{len(values)}f", *values))


def test_equal_headers_are_read_alike_and_rows_are_the_requests_own() -> None:
    parser = Parser(SPEC, ["logits"])
    for start in (0.0, 8.0):
        numbers = [start + k for k in range(8)]
        rows, asked = parser.parse(head(), tail(*numbers))
        assert rows.ravel().tolist() == numbers
        assert (rows.dtype, rows.shape) == (np.dtype(np.float32), (2, 1, 2, 2))
        assert asked.wanted == (WantedOutput(name="logits", binary=True),)
        assert (asked.ident, asked.deadline_s) == (None, None)


def test_a_header_that_was_read_before_lets_no_wrong_rows_through() -> None:
    parser = Parser(SPEC, ["logits"])
    parser.parse(head(), tail(*range(8)))
    for wrong in (tail(*range(7), float("nan")), tail(*range(7), float("inf")), tail(*range(4)), tail()):
        with pytest.raises(RefusedError):
            parser.parse(head(), wrong)


def test_each_request_has_its_own_id_and_timeout() -> None:
    parser = Parser(SPEC, ["logits"])
    for ident, microseconds in (("a", 5), ("b", 2_000_000), (None, 0)):
        _, asked = parser.parse(head(id=ident, parameters={"timeout": microseconds}), tail(*range(8)))
        assert (asked.ident, asked.deadline_s) == (ident, microseconds / 1e6 or None)


def test_an_answer_says_the_same_in_binary_and_in_json_and_carries_its_id() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3) / 3
    (binary, length), (text, no_length) = (
        render(
            InferReply("m", "fp32", [], id="7"), [(WantedOutput(name="logits", binary=form), array)], PASSPORT
        )
        for form in (True, False)
    )
    assert length
    assert no_length is None
    head, told = json.loads(binary[:length]), json.loads(text)
    assert head["outputs"][0].pop("parameters") == {"binary_data_size": array.nbytes}
    numbers = np.array(told["outputs"][0].pop("data"), dtype=np.float32)
    assert head == told
    assert (told["id"], told["outputs"][0]["shape"]) == ("7", [2, 3])
    assert numbers.tobytes() == binary[length:] == array.tobytes()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"inputs": 5}, "one tensor, 'input': Expected `array`, got `int` - at `$.inputs`"),
        ({"parameters": {"timeout": "soon"}}, "got `str` - at `$.parameters.timeout`"),
        ({"parameters": {"timeout": -1}}, "Expected `int` >= 0 - at `$.parameters.timeout`"),
        ({"outputs": [{"name": 1}]}, "a list of objects with a name: Expected `str`, got `int` - at `$.outp"),
        ({"outputs": [{"name": "logits", "parameters": []}]}, "parameters must be an object: Expected `obj"),
        ({"id": 7}, "id must be a string: Expected `str | null`, got `int` - at `$.id`"),
    ],
)
def test_a_value_of_a_wrong_type_is_told_with_its_path(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(RefusedError, match=re.escape(said)):
        Parser(SPEC, ["logits"]).parse(head(**wrong), tail(*range(8)))


@given(st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), max_size=20))
def test_finite_is_numpys_own_answer(numbers: list[float]) -> None:
    array = np.array(numbers, dtype=np.float32)
    assert finite(array) == bool(np.isfinite(array).all())


def test_numbers_whose_squares_overflow_are_finite() -> None:
    assert finite(np.full(9, 3e38, dtype=np.float32))
    assert finite(np.array([2**62], dtype=np.int64))


def asked_with(data: str, shape: tuple[int, ...], **said: Any) -> bytes:
    told = json.dumps({"name": "input", "datatype": "FP32", "shape": shape, **said})
    return f'{{"inputs": [{told[:-1]}, "data": {data}}}]}}'.encode()


MANY = 200_000


@pytest.mark.parametrize(
    ("data", "said", "words"),
    [
        (f"[{'[],' * MANY}[]]", {}, "data must be numbers"),
        (f"[{'{},' * MANY}{{}}]", {}, "data must be numbers"),
        (f"[{'[],' * MANY}[]]", {"name": "other"}, "no input 'other'"),
        (f"[{'[],' * MANY}[]]", {"datatype": "INT8"}, "is FP32, not INT8"),
        (f"[{'[],' * MANY}[]]", {"shape": (10**8, 1, 2, 2)}, "data must be numbers"),
        (f'"{"[],"[::-1] * MANY}"', {}, "data must be numbers"),
    ],
    ids=["lists", "objects", "another name", "another type", "a shape beyond it", "a text"],
)
def test_many_brackets_are_refused_before_they_are_lists(data: str, said: dict[str, Any], words: str) -> None:
    body = asked_with(data, **{"shape": (MANY // 4, 1, 2, 2), **said})
    tracemalloc.start()
    try:
        with pytest.raises(RefusedError, match=words):
            Parser(SPEC, ["logits"]).parse(body, tail())
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # as lists, they would be 27 times as large
    assert peak_bytes < 6 * len(body)


@pytest.mark.parametrize("dtype", ["float32", "uint8", "bool"])
@pytest.mark.parametrize("flat", [False, True])
def test_large_data_are_read_as_small_ones_are(dtype: str, flat: bool) -> None:
    spec = TensorSpec(name="input", shape=(None, 1, 2, 2), dtype=dtype)
    wanted = np.random.default_rng(1).integers(0, 2, (10_000, 1, 2, 2)).astype(dtype)
    values = wanted.ravel().tolist() if flat else wanted.tolist()
    word = {"float32": "FP32", "uint8": "UINT8", "bool": "BOOL"}[dtype]
    found, _ = Parser(spec, ["logits"]).parse(
        asked_with(json.dumps(values), wanted.shape, datatype=word), tail()
    )
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


def test_rows_of_a_wrong_shape_are_refused_before_they_are_made() -> None:
    request = msgspec.json.decode(head(), type=InferRequest)

    def made() -> memoryview:
        raise AssertionError("made")

    with pytest.raises(RefusedError, match="binary_data_size"):
        Parser(SPEC, ["logits"]).take(request, 4, made)
