"""Files read from disk: a graph is the same only when the weights that it keeps elsewhere are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters.run.source import adopt
from tests.exporters.conftest import cnnkit_json, cnnkit_run
from toolkit.artifacts import hash_file
from toolkit.errors import CorruptError
from toolkit.graphs.reading import hash_graph


def save(path: Path, scale: float, *, outside: bool = True, constant: bool = False) -> Path:
    weights = numpy_helper.from_array(np.full((64, 64), scale, np.float32), "w")
    product = helper.make_node("MatMul", ["x", "w"], ["y"])
    nodes = [helper.make_node("Constant", [], ["w"], value=weights), product] if constant else [product]
    shape = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [shape("x", TensorProto.FLOAT, ["n", 64])],
        [shape("y", TensorProto.FLOAT, ["n", 64])],
        [] if constant else [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path.with_name("net.onnx.data").unlink(missing_ok=True)  # onnx would append to it
    onnx.save(
        model,
        path,
        save_as_external_data=outside,
        location="net.onnx.data",
        size_threshold=0,
        convert_attribute=True,
    )
    return path


@pytest.mark.parametrize("constant", [False, True])
def test_weights_in_another_file_count_for_a_graphs_identity(tmp_path: Path, constant: bool) -> None:
    path = save(tmp_path / "net.onnx", 1.0, constant=constant)
    own, whole = hash_file(path), hash_graph(path)
    save(path, 2.0, constant=constant)
    assert hash_file(path) == own  # it holds names and offsets only
    assert hash_graph(path) != whole
    save(path, 1.0, constant=constant)
    assert hash_graph(path) == whole == adopt(path).passport.sha256


def test_a_graph_with_its_weights_inside_has_the_hash_of_its_file(tmp_path: Path) -> None:
    path = save(tmp_path / "net.onnx", 1.0, outside=False)
    assert hash_graph(path) == hash_file(path)


def test_a_graph_whose_weights_are_gone_is_told_in_a_line_though_it_came_in_before(tmp_path: Path) -> None:
    path, words = save(tmp_path / "net.onnx", 1.0), ("--artifacts", tmp_path / "out")
    cnnkit_json("import", path, "--size", "8x8", "--mean", "0", "--std", "1", *words)
    path.with_name("net.onnx.data").unlink()
    why = "keeps weights in another file that cannot be read"
    with pytest.raises(CorruptError, match=why):
        hash_graph(path)
    for command in ("export", "import"):
        result = cnnkit_run(command, path, *words)
        assert (result.exit_code, why in result.stderr) == (1, True)


def test_new_weights_beside_an_unchanged_graph_are_exported_anew(tmp_path: Path) -> None:
    def export(scale: float, *more: str) -> bool:
        path = save(tmp_path / "net.onnx", scale)
        payload = cnnkit_json(
            "export", path, "--format", "onnx", "--images", 4, "--artifacts", tmp_path / "out", *more
        )
        made = onnx.load(payload["artifacts"][0]["path"]).graph.initializer[0]
        assert numpy_helper.to_array(made).flat[0] == scale
        return bool(payload["artifacts"][0]["cached"])

    assert [export(1.0), export(1.0)] == [False, True]
    save(tmp_path / "net.onnx", 2.0)
    refused = cnnkit_run("export", tmp_path / "net.onnx", "--artifacts", tmp_path / "out")
    assert refused.exit_code == 1
    assert "is made of another file" in refused.stderr
    assert export(2.0, "--fresh") is False
