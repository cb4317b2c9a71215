"""Passports are read field by field: a value of another type is one line with its path, or it is valid."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.toolkit.test_artifacts import passport
from toolkit.errors import CorruptError
from toolkit.passports import (
    AccuracyDrop,
    BuilderMemory,
    CalibrationRecord,
    ComputeRecord,
    DatasetRef,
    Metrics,
    Parity,
    Passport,
    PrecisionSpeed,
    Target,
    TrainingOptions,
    Verification,
)
from toolkit.recipes import Recipe

PARITY = Parity(images=9, source="x", max_abs_diff=1e-6, max_softmax_shift=1e-7, top1_agreement=1.0)
DROP = AccuracyDrop(points=0.1, ci95=(-0.1, 0.3), images=100, allowed=0.5, source="held out")
FULL = passport(
    dataset=DatasetRef(name="fashion-mnist", fingerprint="abc"),
    recipe=Recipe(name="default", epochs=3, changed=("epochs",)),
    sha256="aa",
    source_sha256="bb",
    tools={"python": "3.11.7"},
    target=Target(flavour="rtx", compute_capabilities=("SM89",), shape_profile={"min": (1, 1, 28, 28)}),
    metrics=Metrics(test_accuracy=0.9, test_images=10000, test_accuracy_ci95=(0.89, 0.91)),
    parity=PARITY,
    source_parity=PARITY,
    created="2026-11-01T00:00:00+00:00",
    seed=3,
    precision_why="smallest within the accuracy budget",
    training_images=1000,
    compute=ComputeRecord(device="cpu", threads=1, arithmetic="fp32", channels_last=False),
    teacher_compute=ComputeRecord(device="cpu", threads=1, arithmetic="bf16", channels_last=True),
    pretrained="imagenet",
    options=TrainingOptions(
        dataset="x", images=9, size=(28, 28), threads=2, workers=1, pretrained="imagenet"
    ),
    opset=20,
    outputs=("logits",),
    softmax=True,
    export_key="cc",
    proof_sha256="dd",
    verified=(
        Verification(
            date="now", machine="m", device="cpu", tools={}, images=64, agree=64, max_abs_diff=0.0, batch=1
        ),
    ),
    kept_fp32=("conv1",),
    emulated_parity=PARITY,
    int8_dialect="U8S8",
    reduced_range=False,
    kept_float=("fc",),
    calibration=CalibrationRecord(images=9, source="x", method="minmax", seed=0, per_channel=True),
    accuracy_drop=DROP,
    engine_accuracy_drop=DROP,
    speed=PrecisionSpeed(batch=1, fp32_ms=2.0, int8_ms=1.0),
    layer_types={"FLOAT": 3},
    engine_types={"Half": 2},
    builder_memory=BuilderMemory(activation_bytes=1, weights_bytes=2),
)
STRANGERS: tuple[Any, ...] = (None, True, -3, 2.5, "text", ["a"], [1, 2, 3], {"key": 1}, [], {})


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    if isinstance(data, dict):
        for key in data:
            yield from places(data[key], (*path, key))
    if isinstance(data, list):
        for index, item in enumerate(data):
            yield from places(item, (*path, index))


def plain() -> Any:
    return json.loads(json.dumps(FULL.to_json()))


def replaced(path: tuple[Any, ...], value: Any) -> Any:
    data = plain()
    *steps, last = path
    at = data
    for step in steps:
        at = at[step]
    at[last] = value
    return data


PLACES = list(places(plain()))


def test_every_field_is_in_the_example() -> None:
    rare = {"parity_why", "accuracy_drop_why", "imported_from", "model_file_sha256", "server", "kept"}
    rare |= {"imported_sha256", "preprocessing_from", "quantised_by"}
    assert {f.name for f in dataclasses.fields(Passport)} - rare <= set(FULL.to_json())


def test_a_passport_with_every_part_survives_a_round_trip() -> None:
    assert Passport.from_json(plain()) == FULL


def refused(path: tuple[Any, ...], value: Any) -> bool:
    """Read a passport with one value replaced; where it is refused, hold the error to its promise."""
    try:
        read = Passport.from_json(replaced(path, value), what="x.json")
    except CorruptError as error:
        text = str(error)
        assert "\n" not in text
        assert text.startswith("x.json ")
        first = ".".join(str(step) for step in path[:1])
        assert f"`{first}" in text or first == "schema"
        return True
    written = json.loads(json.dumps(read.to_json()))
    at = written
    for step in path:
        # a fact that says nothing is left out of the file
        at = at.get(step) if isinstance(at, dict) else at[step]
    if isinstance(value, dict) and isinstance(at, dict):
        at = {key: at.get(key) for key in value}
    assert at == value or not value
    return False


def test_a_value_of_another_type_is_refused_unless_it_is_valid_for_its_field() -> None:
    """Every place × ten strange values: what is read is written again as it was, the rest is one line."""
    counts = [refused(path, value) for path in PLACES for value in STRANGERS]
    # a text may be any text and a null is often allowed; a schema of Any would refuse none
    assert sum(counts) > 0.75 * len(counts)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(PLACES),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=4,
    ),
)
def test_no_damage_to_a_passport_gives_a_traceback(path: tuple[Any, ...], value: Any) -> None:
    with contextlib.suppress(CorruptError):
        Passport.from_json(replaced(path, value))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("metrics", "test_accuracy"), "0.9", '`metrics.test_accuracy` is "0.9"; a number or null belongs'),
        (("input", "shape", 1), 1.5, "`input.shape.1` is 1.5; a whole number or null belongs there"),
        (("recipe", "lr"), None, "`recipe.lr` is null; a number belongs there"),
        (("precision",), "fp8", '`precision` is "fp8"; "'),
        (("verified", 0, "agree"), -1, "`verified.0.agree` is -1; a whole number >= 0 belongs there"),
    ],
)
def test_the_line_names_the_field_what_is_there_and_what_belongs_there(
    path: tuple[Any, ...], value: Any, said: str
) -> None:
    with pytest.raises(CorruptError) as caught:
        Passport.from_json(replaced(path, value), what="x.json")
    assert said in str(caught.value)


def test_keys_that_nobody_knows_are_kept_where_they_stood() -> None:
    data = plain()
    data["future"] = {"a": [1]}
    data["recipe"]["sharpness"] = 2
    data["metrics"]["auc"] = 0.5
    again = Passport.from_json(data).to_json()
    assert again["future"] == {"a": [1]}
    assert again["recipe"]["sharpness"] == 2
    assert again["metrics"] == {**data["metrics"], "test_accuracy_ci95": (0.89, 0.91)}


def test_facts_that_say_nothing_are_left_out_of_a_file() -> None:
    written = passport().to_json()
    assert not {"seed", "softmax", "outputs", "calibration", "kept"} & set(written)
    assert written["parity"] is None
