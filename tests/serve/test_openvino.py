"""Served by OpenVINO: many at once, a precision computed of another one's file, and newer weights of both."""

from __future__ import annotations

import concurrent.futures
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("prometheus_client", reason="prometheus_client is not installed (extra serve)")

from serve.lineup import line_up
from serve.reload import newer, open_newer
from serve.settings import OpeningSettings
from tests.serve.conftest import MODEL, serving
from tests.stamping import stamp
from toolkit.artifacts import open_artifact, read_passport, sidecar
from toolkit.backends import BACKENDS, EngineOptions

pytest.importorskip("openvino")
onnx = pytest.importorskip("onnx")

BATCH = np.random.default_rng(0).standard_normal((3, 1, 28, 28), dtype=np.float32)


@pytest.fixture
def graph(shipped: Path, tmp_path: Path) -> Path:
    """Return the shipped graph as one of an artifacts folder's own."""
    place = tmp_path / MODEL / f"{MODEL}.onnx"
    place.parent.mkdir()
    shutil.copy(shipped, place)
    stamp(place, read_passport(shipped))
    return place


def test_it_answers_many_at_once_each_with_its_own(graph: Path) -> None:
    def request(index: int) -> dict[str, object]:
        values = BATCH[index % 3].ravel().tolist()
        return {"inputs": [{"name": "input", "shape": [1, 1, 28, 28], "datatype": "FP32", "data": values}]}

    with BACKENDS.load("ort").open(open_artifact(graph), EngineOptions()) as engine:
        wanted = engine.logits(BATCH)
    with serving(graph.parents[1], MODEL, "--backend", "openvino", "--no-page") as server:
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            path = f"/v2/models/{MODEL}/infer"
            asked = [pool.submit(server.ask, "POST", path, request(index)) for index in range(24)]
        answers = [one.result() for one in asked]
        assert server.ask("GET", f"/v2/models/{MODEL}").json["platform"] == "openvino"
    assert {answer.status for answer in answers} == {200}
    for index, answer in enumerate(answers):
        np.testing.assert_allclose(answer.json["outputs"][0]["data"], wanted[index % 3], atol=1e-3)


@pytest.mark.skipif(BACKENDS.load("openvino").lacks("bf16") is not None, reason="no bf16 here")
def test_bf16_of_the_fp32_file_is_a_version_and_follows_newer_weights(graph: Path) -> None:
    (model,) = line_up([MODEL], "openvino", OpeningSettings(root=graph.parents[1]), others=False)
    model.look()
    assert model.versions == ["fp32", "bf16"]
    half, whole = model.classifier("bf16"), model.classifier()
    assert half.artifact.path == whole.artifact.path == graph
    assert (half.artifact.passport.precision, whole.artifact.passport.precision) == ("bf16", "fp32")
    assert half.engine.arithmetic["bf16"] >= 3
    assert newer(model, "bf16") is None
    other = onnx.load(graph)
    bias = next(tensor for tensor in other.graph.initializer if tensor.name == "fc3.bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(np.arange(10, dtype=np.float32) * 100, "fc3.bias"))
    onnx.save(other, graph)
    known = json.loads(sidecar(graph).read_text())
    sidecar(graph).write_text(json.dumps({**known, "created": "2100-01-01T00:00:00+00:00"}))
    stamp(graph, read_passport(graph))
    for version in ("bf16", "fp32"):
        taken = open_newer(model, version)
        assert taken is not None
        assert taken.artifact.passport.precision == version
        assert set(taken.run(BATCH)[0].argmax(axis=1)) == {9}
        taken.close()
    model.close()
