"""Raw pixels in, probabilities out: also where the source is a graph already, and never in name only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.exporters.conftest import cnnkit_json, cnnkit_run, export_one
from toolkit.artifacts import Artifact, open_artifact
from toolkit.errors import CnnkitError

FEW = ("--images", "64", "--format", "onnx")


@pytest.fixture
def graph(root: Path) -> Path:
    return root / "lenet-maxpool" / "lenet-maxpool.onnx"


def answers(path: Path, given: Any) -> Any:
    opened = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return opened.run(None, {opened.get_inputs()[0].name: given})[0]


def test_a_graph_as_source_gets_softmax_and_raw_pixels_as_its_checkpoint_does(
    graph: Path, root: Path, tmp_path: Path
) -> None:
    payload = cnnkit_json(
        *("export", graph, "--softmax", "--input", "uint8", "--precision", "fp32,fp16,int8", *FEW),
        *("--max-accuracy-drop", "5", "--artifacts", tmp_path),
    )
    pixels = np.random.default_rng(0).integers(0, 256, (4, 1, 28, 28), np.uint8)
    assert len(payload["artifacts"]) == 3
    for entry in payload["artifacts"]:
        path = Path(entry["path"])
        passport = open_artifact(path).passport
        assert passport.input.dtype == "uint8"
        assert passport.output.name == "probabilities"
        assert passport.softmax is True
        np.testing.assert_allclose(answers(path, pixels).sum(axis=1), 1, atol=1e-3)
        assert entry["parity"]["max_abs_diff"] < 0.5
    of_checkpoint = cnnkit_json(
        *("export", "lenet-maxpool", "--softmax", "--input", "uint8", *FEW, "--artifacts", root)
    )
    wanted = answers(Path(of_checkpoint["artifacts"][0]["path"]), pixels)
    np.testing.assert_allclose(answers(Path(payload["artifacts"][0]["path"]), pixels), wanted, atol=1e-5)


def test_a_graph_is_not_replaced_by_its_own_other_form(graph: Path, root: Path) -> None:
    before = graph.read_bytes()
    result = cnnkit_run("export", graph, "--softmax", "--fp16", *FEW, "--artifacts", root)
    assert result.exit_code == 1
    assert "--name NAME" in result.stderr
    assert graph.read_bytes() == before
    named = cnnkit_json("export", graph, "--softmax", *FEW, "--name", "other", "--artifacts", root)
    assert Path(named["artifacts"][0]["path"]).parent.name == "other"


def test_a_cast_of_a_graph_in_another_form_than_asked_is_refused(graph: Path, tmp_path: Path) -> None:
    source = open_artifact(graph)
    for precision in ("fp16", "int8"):
        with pytest.raises(CnnkitError, match="exported without --softmax"):
            export_one(source, tmp_path, precision=precision, softmax=True)


def foreign(path: Path, *, last: str | None = None, extents: tuple[int, ...] = ()) -> Path:
    """Write a classifier of four classes as other tools do; its answers are (N, 4, *extents)."""
    weights = np.random.default_rng(0).standard_normal((4, 3, 1, 1)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"])]
    if extents == (8, 8):
        nodes.append(helper.make_node("Identity", ["c"], ["y"]))
    else:
        nodes.append(helper.make_node("GlobalAveragePool", ["c"], ["p"]))
        nodes.append(helper.make_node("Identity" if extents else "Flatten", ["p"], ["y"]))
    if last:
        nodes.append(helper.make_node(last, ["y"], ["z"]))
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [tensor("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [tensor("z" if last else "y", TensorProto.FLOAT, ["n", 4, *extents])],
        [numpy_helper.from_array(weights, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize("extents", [(), (1, 1)])
def test_a_network_from_elsewhere_gets_softmax_over_its_classes(
    tmp_path: Path, extents: tuple[int, ...]
) -> None:
    payload = cnnkit_json(
        *("export", foreign(tmp_path / "net.onnx", extents=extents), "--softmax", "--fp16", *FEW),
        *("--artifacts", tmp_path / "out"),
    )
    given = np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)
    for entry in payload["artifacts"]:
        found = answers(Path(entry["path"]), given)
        assert found.shape == (2, 4)
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-3)


def test_softmax_of_probabilities_is_refused_and_without_it_they_are_known_as_such(tmp_path: Path) -> None:
    path = foreign(tmp_path / "net.onnx", last="Softmax")
    result = cnnkit_run("export", path, "--softmax", *FEW, "--artifacts", tmp_path / "out")
    assert result.exit_code == 1
    assert "the scores of net.onnx are probabilities already; leave the option away" in result.stderr
    payload = cnnkit_json("export", path, *FEW, "--artifacts", tmp_path / "out")
    made = Path(payload["artifacts"][0]["path"])
    assert open_artifact(made).passport.softmax is True


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--input", "uint8"], "needs a network whose preprocessing is known"),
        (["--opset", "19"], "keeps the opset that it was written with"),
    ],
)
def test_what_a_graph_from_elsewhere_cannot_become_is_refused_in_words(
    tmp_path: Path, options: list[str], words: str
) -> None:
    path = foreign(tmp_path / "net.onnx")
    result = cnnkit_run("export", path, *options, *FEW, "--artifacts", tmp_path / "out")
    assert result.exit_code == 1
    assert words in " ".join(result.stderr.split())
    assert not list((tmp_path / "out").rglob("*.onnx"))


def test_a_network_that_answers_maps_is_refused_in_words(tmp_path: Path) -> None:
    path = foreign(tmp_path / "map.onnx", extents=(8, 8))
    result = cnnkit_run("export", path, *FEW, "--artifacts", tmp_path / "out")
    assert result.exit_code == 1
    assert "no output holds one row of scores an input, (N, K): 'y' is N×4×8×8" in " ".join(
        result.stderr.split()
    )
    assert not list((tmp_path / "out").rglob("*.onnx"))


def test_a_file_from_elsewhere_in_its_own_place_is_opened_and_proven_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    path = foreign(tmp_path / "net" / "net.onnx")
    first = cnnkit_json("export", path, *FEW, "--artifacts", tmp_path)
    assert [(e["path"], e["cached"]) for e in first["artifacts"]] == [(str(path), False)]
    made: Artifact = open_artifact(path)
    assert made.passport.parity is not None
    assert cnnkit_json("verify", path)["ok"] is True
    again = cnnkit_json("export", path, *FEW, "--artifacts", tmp_path)
    assert again["artifacts"][0]["cached"] is True


def test_a_proven_graph_is_not_proven_against_itself(graph: Path, root: Path) -> None:
    before = open_artifact(graph).passport
    result = cnnkit_run("export", graph, "--fresh", *FEW, "--artifacts", root)
    assert result.exit_code == 0
    assert "not made again" in " ".join(result.stderr.split())
    assert open_artifact(graph).passport == before
