"""Columns are held against the first of their network that is fed and answers as they do."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from toolkit.passports import Passport, TensorSpec
from toolkit.profiling.judging.agreement import Agreements

FLOATS = TensorSpec(name="x", shape=(None, 3, 8, 8), layout="NCHW")
PLAIN = Passport(
    format="onnx", model="net", precision="fp32", trained=None, input=FLOATS,
    output=TensorSpec(name="y", shape=(None, 2)), classes=("a", "b"), preprocessing=None, sha256="1",
)  # fmt: skip
LAST = TensorSpec(name="x", shape=(None, 8, 8, 3), layout="NHWC")
ANSWER = np.array([[1.0, 2.0]], np.float32)


def as_other(**changes: object) -> Passport:
    return dataclasses.replace(PLAIN, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (as_other(input=dataclasses.replace(FLOATS, dtype="uint8")), "it takes uint8, not float32"),
        (as_other(input=LAST), "it takes N×8×8×3 NHWC, not N×3×8×8 NCHW"),
        (as_other(softmax=True), "one of both answers with probabilities"),
    ],
)
def test_unlike_forms_are_held_against_their_like_alone(other: Passport, why: str) -> None:
    held = Agreements()
    assert held.add("ort", PLAIN, ANSWER) is None
    assert held.add("ort:other", other, ANSWER + 1) == f"its answers are not held against those of ort: {why}"
    assert held.add("ort:again", other, ANSWER + 2) is None
    assert held.add("trt", PLAIN, ANSWER + 1) is None
    assert held.reference == {"ort:again": "ort:other", "trt": "ort"}
    assert held.found == {"ort:again": pytest.approx(1 / 3), "trt": pytest.approx(0.5)}


def test_halves_other_networks_and_foreign_files_are_what_they_were() -> None:
    held = Agreements()
    held.add("ort", PLAIN, ANSWER)
    held.add("ort:fp16", as_other(input=dataclasses.replace(FLOATS, dtype="float16")), ANSWER)
    assert held.add("ort:more", as_other(model="more"), ANSWER + 1) is None
    held.add("ort:foreign", as_other(model="theirs", sha256=""), ANSWER)
    assert held.found == {"ort:fp16": 0.0, "ort:foreign": 0.0}


def test_a_file_that_does_not_say_its_layout_is_held_against_those_of_its_shape() -> None:
    held = Agreements()
    unsaid = dataclasses.replace(LAST, layout=None)
    held.add("ort", as_other(input=LAST), ANSWER)
    assert held.add("ort:source", as_other(model="source", sha256="", input=unsaid), ANSWER) is None
    assert held.found == {"ort:source": 0.0}
    wide = (None, 8, 8, 8)
    one, two, three = (TensorSpec(name="x", shape=wide, layout=kind) for kind in ("NCHW", "NHWC", None))
    held = Agreements()
    held.add("ort", as_other(input=one), ANSWER)
    assert "NHWC" in (held.add("ort:turned", as_other(input=two), ANSWER) or "")
    assert held.add("ort:unsaid", as_other(input=three), ANSWER) is None
