"""Networks from elsewhere: other exporters' files, odd ones, and ones that are refused in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from exporters.run.source import adopt
from tests.exporters.conftest import cnnkit_json, cnnkit_run
from toolkit.artifacts import open_artifact
from toolkit.choices import Budget
from toolkit.choosing import ChooseSettings
from toolkit.choosing.candidates import find_files
from toolkit.errors import CnnkitError
from toolkit.telling import silent

LIGHT = sorted((Path(onnx.__file__).parent / "backend/test/data/light").glob("*.onnx"))
QUICK = ("light_squeezenet",)


def light() -> list[object]:
    return [pytest.param(p, id=p.stem, marks=() if p.stem in QUICK else (pytest.mark.slow,)) for p in LIGHT]


def test_all_nine_light_networks_are_there() -> None:
    assert len(LIGHT) == 9


@pytest.mark.parametrize("path", light())
def test_networks_of_other_exporters_run_in_onnx_runtime_and_build_with_tensorrt(
    path: Path, tmp_path: Path
) -> None:
    payload = cnnkit_json(
        "export", path, "--fp16", "--precision", "fp32", "--images", 4, "--artifacts", tmp_path
    )
    made = [(entry["format"], entry["precision"]) for entry in payload["artifacts"]]
    assert made == [("onnx", "fp32"), ("trt", "fp32"), ("onnx", "fp16"), ("trt", "fp16")]
    for entry in payload["artifacts"]:
        passport = open_artifact(Path(entry["path"])).passport
        assert passport.trained is None
        assert passport.metrics.test_accuracy is None
        if entry["parity"]:
            assert entry["parity"]["accuracy"] is None
            assert entry["parity"]["random_inputs"] is True
            assert "random" in entry["parity"]["source"]
    assert cnnkit_json("verify", payload["artifacts"][0]["path"])["ok"] is True


@pytest.mark.filterwarnings("ignore")  # torch deprecates the exporter that users' older files came from
def test_a_file_of_the_old_torchscript_exporter_is_exported(tmp_path: Path) -> None:
    import torch

    from toolkit import zoo

    torch.manual_seed(0)
    path = tmp_path / "old style.onnx"
    module = zoo.model("lenet-maxpool").build(1, 10).eval()
    axes = {"pixels": {0: "n"}, "scores": {0: "n"}}
    torch.onnx.export(
        module,
        (torch.zeros(1, 1, 28, 28),),
        str(path),
        dynamo=False,
        input_names=["pixels"],
        output_names=["scores"],
        dynamic_axes=axes,
        opset_version=17,
    )
    payload = cnnkit_json(
        *("export", path, "--precision", "fp32,fp16,int8", "--images", 16, "--calibration-images", 16),
        *("--artifacts", tmp_path / "out"),
    )
    assert len(payload["artifacts"]) == 7
    assert payload["artifacts"][0]["parity"]["max_abs_diff"] < 1e-5
    assert open_artifact(Path(payload["artifacts"][0]["path"])).passport.input.name == "pixels"


def model(nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: list[Any] | None = None) -> Any:
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights or [])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def value(name: str, shape: list[Any], kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def test_a_fixed_batch_is_kept_and_proven_all_the_same(tmp_path: Path) -> None:
    weights = onnx.numpy_helper.from_array(np.ones((3, 1, 2, 2), np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    path = tmp_path / "fixed.onnx"
    onnx.save(model(nodes, [value("x", [2, 1, 4, 4])], [value("y", [2, 3])], [weights]), path)
    payload = cnnkit_json(
        "export", path, "--images", 5, "--format", "onnx,triton", "--artifacts", tmp_path / "out"
    )
    assert payload["artifacts"][0]["parity"]["images"] == 5
    assert cnnkit_json("verify", payload["artifacts"][0]["path"])["ok"] is True
    config = next((tmp_path / "out").rglob("config.pbtxt")).read_text()
    assert "max_batch_size: 0" in config
    assert "dims: [ 2, 1, 4, 4 ]" in config


def test_a_network_with_two_outputs_keeps_both(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Neg", ["x"], ["z"])]
    path = tmp_path / "two.onnx"
    onnx.save(model(nodes, [value("x", ["n", 4])], [value("y", ["n", 4]), value("z", ["n", 4])]), path)
    payload = cnnkit_json("export", path, "--images", 4, "--fp16", "--artifacts", tmp_path / "out")
    for entry in payload["artifacts"][:2]:
        assert open_artifact(Path(entry["path"])).passport.outputs == ("y", "z")
        assert [out.name for out in onnx.load(entry["path"]).graph.output] == ["y", "z"]


def test_external_weights_over_two_gigabytes_are_refused_without_reading_them(tmp_path: Path) -> None:
    big = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[30_000, 20_000])
    big.data_location = TensorProto.EXTERNAL
    for key, text in (("location", "weights.bin"), ("offset", "0"), ("length", str(2_400_000_000))):
        entry = big.external_data.add()
        entry.key, entry.value = key, text
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    path = tmp_path / "huge.onnx"
    made = model(nodes, [value("x", ["n", 30_000])], [value("y", ["n", 20_000])], [big])
    path.write_bytes(made.SerializeToString())
    with (tmp_path / "weights.bin").open("wb") as file:
        file.truncate(2_400_000_000)  # sparse: no block of it is on the disk
    result = cnnkit_run("export", path, "--artifacts", tmp_path / "out")
    assert result.exit_code == 1
    assert "huge.onnx holds 2.2 GiB of weights; one ONNX file ends at 2 GiB" in result.stderr


def test_external_weights_of_a_bearable_size_become_one_file(tmp_path: Path) -> None:
    weights = onnx.numpy_helper.from_array(np.random.default_rng(0).random((64, 64), np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    path = tmp_path / "parts.onnx"
    onnx.save(
        model(nodes, [value("x", ["n", 64])], [value("y", ["n", 64])], [weights]),
        path,
        save_as_external_data=True,
        location="parts.bin",
        size_threshold=0,
    )
    payload = cnnkit_json("export", path, "--format", "onnx", "--images", 4, "--artifacts", tmp_path / "out")
    whole = Path(payload["artifacts"][0]["path"])
    assert whole.stat().st_size > 64 * 64 * 4
    (tmp_path / "parts.bin").unlink()
    result = cnnkit_run("export", path, "--format", "onnx", "--artifacts", tmp_path / "other")
    assert result.exit_code == 1
    assert "keeps weights in another file that cannot be read" in result.stderr


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "broken.onnx is empty"),
        (b"this is no protobuf at all, but a sentence", "no readable ONNX file"),
        (LIGHT[0].read_bytes()[:1000], "no readable ONNX file"),
    ],
)
def test_files_that_are_no_networks_are_refused_in_one_line(
    tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    result = cnnkit_run("export", path, "--artifacts", tmp_path / "out")
    assert result.exit_code == 1
    assert words in result.stderr
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").rglob("*.onnx"))


def test_a_network_with_two_inputs_is_refused_in_words(tmp_path: Path) -> None:
    nodes = [helper.make_node("Add", ["a", "b"], ["y"])]
    path = tmp_path / "two.onnx"
    onnx.save(model(nodes, [value("a", ["n", 4]), value("b", ["n", 4])], [value("y", ["n", 4])]), path)
    result = cnnkit_run("export", path, "--artifacts", tmp_path / "out")
    assert result.exit_code == 1
    assert "networks with one input; this graph has 2 (a, b)" in result.stderr


def test_weights_that_are_computed_are_refused_for_int8_and_the_rest_is_made(tmp_path: Path) -> None:
    path = next(p for p in LIGHT if p.stem == "light_squeezenet")
    result = cnnkit_run(
        *("export", path, "--format", "onnx", "--precision", "fp32,int8", "--images", 2),
        *("--calibration-images", 2, "--artifacts", tmp_path),
    )
    assert result.exit_code == 1
    assert "int8 needs weights that are stored in the file" in result.stderr
    assert (tmp_path / "light_squeezenet" / "light_squeezenet.onnx").exists()


def linear(path: Path, seed: int = 0) -> Path:
    """Write a network of one matrix product from (n, 4) to (n, 3)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).standard_normal((4, 3)).astype(np.float32)
    weights = onnx.numpy_helper.from_array(values, "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    onnx.save(model(nodes, [value("x", ["n", 4])], [value("y", ["n", 3])], [weights]), path)
    return path


def export_onnx(path: Path, root: Path, *more: object, status: int = 0) -> Any:
    return cnnkit_json(
        *("export", path, "--format", "onnx", "--images", 4, "--artifacts", root, *more), status=status
    )


def test_an_ending_in_capitals_is_one(tmp_path: Path) -> None:
    (made,) = export_onnx(linear(tmp_path / "NET.ONNX"), tmp_path / "out")["artifacts"]
    assert made["path"].endswith("NET/NET.onnx")


def test_files_whose_names_differ_behind_a_dot_are_kept_apart(tmp_path: Path) -> None:
    root = tmp_path / "out"
    for name in ("net1.0-12", "net1.1-7"):
        export_onnx(linear(tmp_path / f"{name}.onnx"), root)
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.onnx"))
    assert names == ["net1-0-12/net1-0-12.onnx", "net1-1-7/net1-1-7.onnx"]


def test_a_file_from_elsewhere_never_takes_a_trained_networks_place_unasked(
    root: Path, tmp_path: Path
) -> None:
    own = root / "lenet-maxpool" / "lenet-maxpool.onnx"
    before = own.read_bytes()
    path = linear(tmp_path / "theirs" / "lenet-maxpool.onnx")
    result = cnnkit_run("export", path, "--format", "onnx", "--images", 4, "--artifacts", root)
    assert result.exit_code == 1
    assert "lenet-maxpool.onnx is another network (lenet-maxpool, of a checkpoint)" in result.stderr
    assert "`--name OTHER` keeps both, `--fresh` replaces what is there" in result.stderr
    assert own.read_bytes() == before
    export_onnx(path, root, "--name", "theirs")
    assert own.read_bytes() == before
    export_onnx(path, root, "--fresh")
    assert open_artifact(own).passport.trained is None


def test_two_files_of_one_name_never_take_each_others_place_unasked(tmp_path: Path) -> None:
    root = tmp_path / "out"
    first = linear(tmp_path / "one" / "model.onnx")
    made = export_onnx(first, root, "--fp16")["artifacts"]
    before = {entry["path"]: Path(entry["path"]).read_bytes() for entry in made}
    assert export_onnx(first, root)["artifacts"][0]["cached"] is True
    other = linear(tmp_path / "two" / "model.onnx", seed=1)
    for more in ([], ["--name", "model"]):
        result = cnnkit_run("export", other, "--format", "onnx", "--images", 4, "--artifacts", root, *more)
        assert result.exit_code == 1
        assert "is made of another file (model, from elsewhere)" in result.stderr
        assert "`--name OTHER` keeps both, `--fresh` replaces what is there" in result.stderr
        assert {path: Path(path).read_bytes() for path in before} == before
    with pytest.raises(CnnkitError, match=r"is made of another file \(model, from elsewhere\)"):
        find_files(adopt(other), root, ChooseSettings(), Budget(), silent, judged=False)
    assert {path: Path(path).read_bytes() for path in before} == before
    again = export_onnx(other, root, "--fresh")["artifacts"][0]["path"]
    assert Path(again).read_bytes() != before[again]
    left = sorted(path.name for path in (root / "model").iterdir() if not path.name.startswith("."))
    assert left == ["model.onnx", "model.onnx.json", "model.onnx.proof.safetensors"]


def test_an_open_height_and_width_are_closed_by_size(tmp_path: Path) -> None:
    nodes = [helper.make_node("GlobalAveragePool", ["x"], ["p"]), helper.make_node("Flatten", ["p"], ["y"])]
    path = tmp_path / "open.onnx"
    onnx.save(model(nodes, [value("x", ["n", 3, "high", "wide"])], [value("y", ["n", 3])]), path)
    result = cnnkit_run("export", path, "--artifacts", tmp_path / "out")
    assert result.exit_code == 1
    assert "takes 'x' as n×3×high×wide, and only the batch may be open" in result.stderr
    assert "`--size HxW` closes height and width, as in --size 224x224" in result.stderr
    made = export_onnx(path, tmp_path / "out", "--size", "8x6")["artifacts"][0]
    assert open_artifact(Path(made["path"])).passport.input.shape == (None, 3, 8, 6)


def test_a_batch_that_is_baked_in_is_found_and_said(tmp_path: Path) -> None:
    shape = onnx.numpy_helper.from_array(np.array([1, 4], np.int64), "shape")
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    path = tmp_path / "one.onnx"
    onnx.save(model(nodes, [value("x", ["n", 4])], [value("y", ["n", 4])], [shape]), path)
    result = cnnkit_run("export", path, "--format", "onnx", "--images", 4, "--artifacts", tmp_path / "out")
    assert result.exit_code == 0
    assert "one.onnx: it takes batches of 1 only" in result.stderr
    made = open_artifact(tmp_path / "out" / "one" / "one.onnx")
    assert made.passport.input.shape == (1, 4)
