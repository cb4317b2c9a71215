"""Which columns are opened, and what a file from elsewhere is taken for: its own network, format and work."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.stamping import stamp
from tests.toolkit.profiling.conftest import Exported
from tests.toolkit.profiling.rows.test_matching import quantized
from toolkit import zoo
from toolkit.artifacts import open_artifact, shipped_root
from toolkit.backends import backend_names
from toolkit.checkpoints import write_untrained
from toolkit.choices import origin_of, weights_of
from toolkit.errors import CnnkitError, NotFoundError, UnavailableError
from toolkit.graphs.counting import count_graph
from toolkit.graphs.products import precision_of
from toolkit.profiling.columns import ColumnsWanted, find_columns, open_any
from toolkit.profiling.network.modules import modules_of


def saved(path: Path, nodes: list[Any], weight: Any, given: list[int], made: list[int], **more: Any) -> Path:
    """Save a graph that reads `x` and the weight `w` and writes `y`; `more`: types of `x` and `y`, opsets."""
    inputs = [helper.make_tensor_value_info("x", more.get("x", TensorProto.FLOAT), given)]
    outputs = [helper.make_tensor_value_info("y", more.get("y", TensorProto.FLOAT), made)]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(weight, "w")])
    opsets = [helper.make_opsetid("", 17), *more.get("opsets", ())]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def a_lenet_of_others(folder: Path) -> Path:
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="theirs")
    weight = np.zeros((4, 3, 5, 5), np.float32)
    return saved(folder / "lenet.onnx", [node], weight, [1, 3, 32, 32], [1, 4, 28, 28])


@pytest.mark.parametrize("sha256", ["", "0" * 64], ids=["no passport", "exported from elsewhere"])
def test_a_file_named_like_a_model_of_the_zoo_is_not_taken_for_it(sha256: str, tmp_path: Path) -> None:
    path = a_lenet_of_others(tmp_path)
    passport = dataclasses.replace(open_any(path).passport, sha256=sha256)
    assert passport.model == "lenet"
    modules = modules_of(passport, count_graph(path, batch=1), batch=1)
    assert [module.name for module in modules] == ["theirs"]


def test_an_export_of_the_zoo_keeps_its_modules(exported: Exported) -> None:
    artifact = exported("lenet-dropout")
    modules = modules_of(artifact.passport, count_graph(artifact.path, batch=1), batch=1)
    assert any("drop" in module.name for module in modules)  # it leaves no node in the graph
    assert modules[0].source is not None


def test_a_quantized_file_from_elsewhere_is_int8(exported: Exported, tmp_path: Path) -> None:
    path = tmp_path / "quantized.onnx"
    onnx.save(quantized(onnx.load(exported("lenet-maxpool").path), "U8S8"), path)
    assert open_any(path).passport.precision == "int8"


@pytest.mark.parametrize(
    ("kind", "precision"), [(np.float16, "fp16"), (np.float32, "fp32"), (np.int8, "fp32")]
)
def test_the_format_of_most_weights_is_the_precision(kind: Any, precision: str, tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"], name="relu")
    path = saved(tmp_path / "net.onnx", [node], np.ones((4, 4), kind), [1, 4], [1, 4])
    assert precision_of(onnx.load(path)) == precision
    assert open_any(path).passport.precision == precision


@pytest.mark.parametrize(
    ("node", "macs"),
    [
        (helper.make_node("MatMul", ["x", "w"], ["y"], name="n"), 2 * 4 * 8),
        (helper.make_node("Einsum", ["x", "w"], ["y"], name="n", equation="bi,io->bo"), None),
        (helper.make_node("Own", ["x", "w"], ["y"], name="n", domain="own.domain"), None),
        (helper.make_node("Tile", ["x", "w"], ["y"], name="n"), 0),
    ],
    ids=lambda value: value.op_type if hasattr(value, "op_type") else str(value),
)
def test_products_that_are_not_counted_are_unknown_and_not_none_at_all(
    node: Any, macs: int | None, tmp_path: Path
) -> None:
    own = [helper.make_opsetid("own.domain", 1)]
    path = saved(tmp_path / "net.onnx", [node], np.ones((4, 8), np.float32), [2, 4], [2, 8], opsets=own)
    assert [entry.macs for entry in count_graph(path, batch=2).nodes] == [macs]


def test_integer_products_are_counted(tmp_path: Path) -> None:
    weight = np.ones((4, 8), np.int8)
    kinds = {"x": TensorProto.INT8, "y": TensorProto.INT32}
    node = helper.make_node("MatMulInteger", ["x", "w"], ["y"], name="n")
    path = saved(tmp_path / "product.onnx", [node], weight, [2, 4], [2, 8], **kinds)
    assert [entry.macs for entry in count_graph(path, batch=2).nodes] == [2 * 4 * 8]
    weight = np.ones((8, 3, 3, 3), np.int8)
    node = helper.make_node("ConvInteger", ["x", "w"], ["y"], name="n")
    path = saved(tmp_path / "conv.onnx", [node], weight, [1, 3, 6, 6], [1, 8, 4, 4], **kinds)
    assert [entry.macs for entry in count_graph(path, batch=1).nodes] == [8 * 4 * 4 * 3 * 3 * 3]
    assert open_any(path).passport.precision == "int8"


@pytest.fixture
def graph_only(tmp_path: Path) -> Path:
    """Return an artifacts folder that holds `theirs` as an ONNX file and as nothing else."""
    (tmp_path / "theirs").mkdir()
    path = a_lenet_of_others(tmp_path).rename(tmp_path / "theirs" / "theirs.onnx")
    stamp(path, dataclasses.replace(open_any(path).passport, model="theirs"))
    return tmp_path


def test_a_backend_of_the_default_without_a_file_is_skipped_with_its_reason(graph_only: Path) -> None:
    for model in ("theirs", str(graph_only / "theirs" / "theirs.onnx")):
        chosen = find_columns(
            ColumnsWanted(models=(model,), backends=tuple(backend_names()), root=graph_only),
            lambda text: None,
        )
        assert "ort" in [target.backend for target in chosen.targets]
        (entry,) = [entry for entry in chosen.skipped if entry.backend == "pytorch"]
        assert "safetensors" in entry.reason


def test_a_named_backend_without_a_file_is_unavailable(graph_only: Path) -> None:
    for model in ("theirs", str(graph_only / "theirs" / "theirs.onnx")):
        wanted = ColumnsWanted(models=(model,), backends=("pytorch", "ort"), named=True, root=graph_only)
        with pytest.raises(
            UnavailableError, match=r"backend 'pytorch' was named and has nothing to run: .*safe"
        ):
            find_columns(wanted, lambda text: None)


def test_a_named_backend_that_runs_one_of_two_files_is_available(graph_only: Path) -> None:
    own = write_untrained(zoo.model("lenet"), graph_only, seed=0).path
    models = (str(own), str(graph_only / "theirs" / "theirs.onnx"))
    wanted = ColumnsWanted(models=models, backends=("pytorch",), named=True, root=graph_only)
    chosen = find_columns(wanted, lambda text: None)
    assert [target.artifact.path for target in chosen.targets] == [own]
    assert [entry.backend for entry in chosen.skipped] == ["pytorch"]


def test_a_file_that_descends_from_older_weights_is_made_anew_at_any_precision(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    shipped = open_artifact(shipped_root() / "lenet-maxpool" / "lenet-maxpool.safetensors")
    folder, told = tmp_path / "lenet-maxpool", list[str]()
    folder.mkdir()
    path = folder / shipped.path.name
    state = load_file(shipped.path)
    wanted = ColumnsWanted(models=(folder.name,), backends=("ort",), precisions=("fp16",), root=tmp_path)

    def found(change: float) -> tuple[bool, bool]:
        """Tell whether the file's weights are the newest, and whether one was made anew."""
        state["fc3.bias"] = state["fc3.bias"] + np.float32(change)
        save_file(state, path)
        stamp(path, dataclasses.replace(shipped.passport, created=None))
        told.clear()
        (target,) = find_columns(wanted, told.append).targets
        newest = origin_of(tmp_path, target.artifact) == weights_of(tmp_path, folder.name)
        return newest, any("exporting anew" in line for line in told)

    assert found(0) == (True, False)
    assert found(0) == (True, False)
    assert found(1) == (True, True)
    assert found(0) == (True, False)


def test_precisions_that_a_file_has_not_are_skipped_and_said(graph_only: Path) -> None:
    path = graph_only / "theirs" / "theirs.onnx"
    wanted = ColumnsWanted(models=(str(path),), backends=("ort",), named=True, root=graph_only)
    for precisions, skipped in (((), []), (("fp32", "int8"), ["int8"])):
        chosen = find_columns(dataclasses.replace(wanted, precisions=precisions), lambda text: None)
        assert [target.artifact.path for target in chosen.targets] == [path]
        assert [entry.precision for entry in chosen.skipped] == skipped
    assert "theirs.onnx is fp32, not int8" in chosen.skipped[0].reason
    with pytest.raises(CnnkitError, match=r"nothing can be profiled: ort: theirs\.onnx is fp32, not fp16"):
        find_columns(dataclasses.replace(wanted, precisions=("fp16",)), lambda text: None)


def test_of_a_file_from_a_checkpoint_the_precision_that_is_typed_is_made(tmp_path: Path) -> None:
    own = write_untrained(zoo.model("lenet"), tmp_path, seed=0).path
    wanted = ColumnsWanted(
        models=(str(own),), backends=("ort", "pytorch"), precisions=("fp16",), root=tmp_path, untrained=True
    )
    chosen = find_columns(wanted, lambda text: None)
    assert [(one.backend, one.artifact.passport.precision) for one in chosen.targets] == [("ort", "fp16")]
    assert [entry.backend for entry in chosen.skipped] == ["pytorch"]


@pytest.mark.parametrize("named", [True, False])
def test_a_precision_or_a_name_that_is_not_here_is_not_skipped(named: bool, graph_only: Path) -> None:
    wanted = ColumnsWanted(
        models=("theirs",), backends=("ort",), named=named, precisions=("int8",), root=graph_only
    )
    with pytest.raises(NotFoundError, match="theirs is here as onnx fp32, not as onnx int8"):
        find_columns(wanted, lambda text: None)
    with pytest.raises(NotFoundError, match="no model 'theirz'"):
        find_columns(dataclasses.replace(wanted, models=("theirz",)), lambda text: None)
