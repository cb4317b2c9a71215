"""A network with several outputs: each that has a row for a picture can be asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve.api.tensors import WantedOutput, best_labels
from serve.classifier import Classifier
from tests.serve.conftest import Server, serving, tensor
from tests.stamping import stamp
from toolkit.artifacts import read_passport

onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra export)")
Rows = np.ndarray[Any, np.dtype[np.float32]]


@pytest.fixture(scope="module")
def several(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the shipped network with shares, a winner, a constant and a lone number beside its logits."""
    root = tmp_path_factory.mktemp("several")
    model = onnx.load(shipped)
    graph, helper = model.graph, onnx.helper
    logits = graph.output[0].name
    graph.node.append(helper.make_node("ArgMax", [logits], ["winner"], axis=1, keepdims=0))
    graph.node.append(helper.make_node("Softmax", [logits], ["shares"], axis=1))
    graph.node.append(helper.make_node("Shape", [logits], ["counts"]))
    graph.node.append(helper.make_node("ReduceMax", [logits], ["largest"], keepdims=0))
    graph.output.extend(
        [
            helper.make_tensor_value_info("counts", onnx.TensorProto.INT64, [2]),
            helper.make_tensor_value_info("winner", onnx.TensorProto.INT64, ["N"]),
            helper.make_tensor_value_info("shares", onnx.TensorProto.FLOAT, ["N", 10]),
            helper.make_tensor_value_info("largest", onnx.TensorProto.FLOAT, []),
        ]
    )
    path = root / "several" / "several.onnx"
    path.parent.mkdir()
    onnx.save(model, path)
    stamp(path, dataclasses.replace(read_passport(shipped), created="2100-01-01T00:00:00+00:00"))
    return path


@pytest.fixture(scope="module")
def server(several: Path) -> Iterator[Server]:
    with serving(several.parents[1], "several", "--no-page") as made:
        yield made


def test_what_has_no_row_for_a_picture_is_not_offered(several: Path) -> None:
    from toolkit.artifacts import open_artifact

    found = Classifier(open_artifact(several), "ort").outputs
    assert {at: (spec.name, spec.shape, spec.dtype) for at, spec in found.items()} == {
        0: ("logits", (None, 10), "float32"),
        2: ("winner", (None,), "int64"),
        3: ("shares", (None, 10), "float32"),
    }


def test_every_output_is_described_and_answered(server: Server, rows: Rows) -> None:
    described = server.ask("GET", "/v2/models/several").json["outputs"]
    assert [(o["name"], o["datatype"], o["shape"]) for o in described] == [
        ("logits", "FP32", [-1, 10]),
        ("winner", "INT64", [-1]),
        ("shares", "FP32", [-1, 10]),
    ]
    answer = server.ask("POST", "/v2/models/several/infer", {"inputs": [tensor(rows)]})
    assert answer.status == 200
    logits, winner, shares = answer.json["outputs"]
    assert winner["data"] == np.reshape(logits["data"], (3, 10)).argmax(axis=1).tolist()
    assert sum(shares["data"]) == pytest.approx(3.0, abs=1e-4)


def test_one_output_can_be_chosen(server: Server, rows: Rows) -> None:
    wanted = [{"name": "winner"}, {"name": "shares", "parameters": {"classification": 1}}]
    request = {"inputs": [tensor(rows)], "outputs": wanted}
    winner, shares = server.ask("POST", "/v2/models/several/infer", request).json["outputs"]
    # classes are those of the scores
    assert {text.count(":") for text in shares["data"]} == {1}
    assert [int(text.split(":")[1]) for text in shares["data"]] == winner["data"]
    request["outputs"] = [{"name": "counts"}]
    assert server.ask("POST", "/v2/models/several/infer", request).status == 400


def test_the_best_of_whole_numbers_are_found(server: Server, rows: Rows) -> None:
    wanted = [{"name": "winner", "parameters": {"classification": 1}}]
    request = {"inputs": [tensor(rows)], "outputs": wanted}
    answer = server.ask("POST", "/v2/models/several/infer", request)
    assert answer.status == 200
    assert answer.json["outputs"][0]["shape"] == [3, 1]


def test_more_rows_than_a_batch_are_answered_beside_a_lone_number(server: Server, rows: Rows) -> None:
    many = np.concatenate([rows] * 12)
    answer = server.ask("POST", "/v2/models/several/infer", {"inputs": [tensor(many)]})
    assert answer.status == 200
    assert answer.json["outputs"][1]["shape"] == [36]


@pytest.mark.parametrize(("probable", "threshold"), [(False, 0.0), (True, 0.5)])
def test_one_score_is_called_by_the_class_that_it_decides_for(
    shipped: Path, probable: bool, threshold: float
) -> None:
    known = read_passport(shipped)
    passport = dataclasses.replace(
        known,
        output=dataclasses.replace(known.output, shape=(None, 1)),
        classes=("cat", "dog"),
        softmax=probable,
    )
    scores = np.array([[threshold - 0.25], [threshold + 0.25]], np.float32)
    found = best_labels(WantedOutput(name=known.output.name, classes=2), scores, passport)
    assert [text.split(":")[1:] for text in found] == [["0", "cat"], ["1", "dog"]]
