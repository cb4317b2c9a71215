"""An engine that takes so many rows and no others is served to callers who bring any number."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve.classifier import Classifier
from tests.serve.conftest import serving, tensor
from tests.stamping import stamp
from toolkit.artifacts import Artifact, open_artifact, read_passport

onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra export)")
ROWS = 4


@pytest.fixture
def fixed(shipped: Path, tmp_path: Path) -> Artifact:
    model, known = onnx.load(shipped), read_passport(shipped)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = ROWS
    path = tmp_path / "fixed" / "fixed.onnx"
    path.parent.mkdir()
    onnx.save(model, path)

    def of_four(spec: Any) -> Any:
        return dataclasses.replace(spec, shape=(ROWS, *spec.shape[1:]))

    created = "2100-01-01T00:00:00+00:00"
    stamp(
        path,
        dataclasses.replace(known, input=of_four(known.input), output=of_four(known.output), created=created),
    )
    return open_artifact(path)


def test_any_number_of_rows_up_to_the_engines_gives_what_the_free_engine_gives(
    fixed: Artifact, shipped: Path, rows: np.ndarray[Any, Any]
) -> None:
    classifier = Classifier(fixed, "ort")
    free = Classifier(open_artifact(shipped), "ort")
    for count in (1, 2, 3):
        (found,), (wanted,) = classifier.run(rows[:count]), free.run(rows[:count])
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    assert classifier.outputs[0].shape == (None, 10)


def test_callers_bring_any_number_and_a_reload_brings_its_own_limit(
    fixed: Artifact, shipped: Path, rows: np.ndarray[Any, Any]
) -> None:
    with serving(fixed.path.parents[1], "fixed", "--no-page") as server:
        for count in (1, 3, 7):
            many = np.repeat(rows[:1], count, axis=0)
            reply = server.ask("POST", "/v2/models/fixed/infer", {"inputs": [tensor(many)]})
            assert (reply.status, reply.json["outputs"][0]["shape"]) == (200, [count, 10])

        def most() -> int:
            return int(server.ask("GET", "/v2/models/fixed/config").json["max_batch_size"])

        assert most() == ROWS
        fixed.path.write_bytes(shipped.read_bytes())
        stamp(fixed.path, dataclasses.replace(read_passport(shipped), created="2101-01-01T00:00:00+00:00"))
        end = time.monotonic() + 30
        while most() != 32 and time.monotonic() < end:
            time.sleep(0.1)
        assert most() == 32
        assert server.ask("POST", "/v2/models/fixed/infer", {"inputs": [tensor(rows)]}).status == 200
