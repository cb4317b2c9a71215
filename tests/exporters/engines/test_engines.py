"""Engines are built ahead of time, count their types, and refuse a name that their graph does not keep."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from exporters.engines.building import receipt, shape_profile
from exporters.engines.targets import capabilities, choose_flavour, choose_targets
from exporters.trt import TrtOptions
from tests.exporters.conftest import cnnkit_json, export_one
from toolkit.artifacts import Artifact, open_artifact
from toolkit.errors import CnnkitError, GateError, ShapeError, UnavailableError
from toolkit.exporting import ExportOptions
from toolkit.publishing import proof_path
from toolkit.tensorrt.flavours import FLAVOURS, load, onnx_nodes
from toolkit.tensorrt.network import parse


@pytest.fixture
def graph(root: Path) -> Artifact:
    return open_artifact(root / "lenet-maxpool" / "lenet-maxpool.onnx")


@pytest.fixture
def half(graph: Artifact, root: Path) -> Artifact:
    return export_one(graph, root, precision="fp16")


def test_every_layer_of_a_parsed_network_has_its_node_types_shapes_and_weights(half: Artifact) -> None:
    with parse(load("rtx"), half.path.read_bytes()) as network:
        layers = network.layers
        assert network.inputs() == {"input": (-1, 1, 28, 28)}
        assert network.types() == {"HALF": 14}
    first = next(layer for layer in layers if layer.type == "CONVOLUTION")
    assert first.onnx_nodes == ("conv1/Conv",)
    assert first.output_shapes == ((-1, 6, 28, 28),)
    assert first.output_types == ("HALF",)
    assert first.weights_bytes == (6 * 25 + 6) * 2
    assert sum(layer.weights_bytes for layer in layers) == 61_706 * 2
    assert all(layer.onnx_nodes for layer in layers)


def test_an_engine_keeps_the_types_counted_and_the_builders_memory(half: Artifact, root: Path) -> None:
    passport = export_one(half, root, "trt", precision="fp16", target=("sm89",)).passport
    assert passport.layer_types == {"HALF": 14}
    assert passport.engine_types is not None
    assert passport.engine_types["Half"] > 0
    memory = passport.builder_memory
    assert memory is not None
    assert memory.activation_bytes
    assert memory.weights_bytes
    assert memory.weights_bytes >= 61_706 * 2
    assert passport.target is not None
    assert passport.target.compute_capabilities == ("SM89",)
    assert passport.source_sha256 == half.passport.sha256


def test_an_engine_for_several_gpus_counts_each_layer_once(half: Artifact, root: Path) -> None:
    one, two = (
        export_one(half, root, "trt", precision="fp16", target=targets).passport.engine_types
        for targets in (("sm89",), ("sm89", "sm120"))
    )
    assert one == two


def _quantized(weights_too: bool) -> onnx.ModelProto:
    """Return a product of dequantized inputs with weights in int8 or float, and a softmax behind it."""
    values = {
        "s": np.float32(0.1),
        "z": np.int8(0),
        "w": np.eye(4, dtype=np.int8 if weights_too else np.float32),
    }
    weights = [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in values.items()]
    node = onnx.helper.make_node
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        *([node("DequantizeLinear", ["w", "s", "z"], ["wd"])] if weights_too else []),
        node("MatMul", ["xd", "wd" if weights_too else "w"], ["y"], name="product"),
        node("QuantizeLinear", ["y", "s", "z"], ["yq"]),
        node("DequantizeLinear", ["yq", "s", "z"], ["yd"]),
        node("Softmax", ["yd"], ["p"], name="softmax"),
    ]
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 4]) for name in "xp"]
    graph = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize(("weights_too", "product"), [(True, "INT8"), (False, "FLOAT")])
def test_a_product_is_int8_with_both_operands_and_another_layer_with_a_quantized_output(
    graph: Artifact, weights_too: bool, product: str
) -> None:
    with parse(load("rtx"), _quantized(weights_too).SerializeToString()) as network:
        found = {layer.onnx_nodes[0]: layer.precision for layer in network.layers if layer.computes}
        assert found == {"product": product, "softmax": "FLOAT"}
        if weights_too:
            receipt(network, "int8", graph)
        else:
            with pytest.raises(GateError, match=r"is called int8, but .* \(product in FLOAT\)"):
                receipt(network, "int8", graph)


def test_an_engine_called_fp16_that_is_fp32_inside_is_an_error(graph: Artifact, root: Path) -> None:
    with pytest.raises(GateError, match=r"is called fp16, but TensorRT would run 5 of 5 .*in FLOAT"):
        export_one(graph, root, "trt", precision="fp16")
    assert not (root / "lenet-maxpool" / "lenet-maxpool.fp16.engine").exists()


def test_layers_that_were_kept_in_fp32_and_named_pass_the_receipt(graph: Artifact) -> None:
    heavy = ["conv1/Conv", "conv2/Conv", "fc1/Gemm", "fc2/Gemm", "fc3/Gemm"]
    excused = dataclasses.replace(graph.passport, kept_fp32=tuple(heavy))
    with parse(load("rtx"), graph.path.read_bytes()) as network:
        assert receipt(network, "fp16", dataclasses.replace(graph, passport=excused)) == {"FLOAT": 14}


def test_the_proof_of_the_graph_travels_with_the_engine(half: Artifact, root: Path) -> None:
    engine = export_one(half, root, "trt", precision="fp16", target=("sm89",))
    assert proof_path(engine.path).read_bytes() == proof_path(half.path).read_bytes()


def test_a_network_of_convolutions_alone_builds_for_turing_in_fp32(tmp_path: Path) -> None:
    payload = cnnkit_json(
        *(
            "export",
            _convolutions(tmp_path),
            "--format",
            "trt",
            "--artifacts",
            tmp_path / "out",
            "--images",
            4,
        )
    )
    assert "SM75" in payload["artifacts"][-1]["target"]["compute_capabilities"]


def _convolutions(folder: Path) -> Path:
    import torch
    from torch import nn

    from exporters.graphs.capture import capture

    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    path = folder / "convs.onnx"
    with torch.random.fork_rng():
        path.write_bytes(capture(module, (1, 8, 8), opset=20).SerializeToString())
    return path


@pytest.mark.parametrize(
    ("precision", "targets", "words"),
    [
        ("fp16", ("sm90",), "cannot build for SM90 (classic TensorRT on that GPU builds for it)"),
        ("fp16", ("sm42",), "cannot build for SM42 (no such target)"),
        ("bf16", ("sm75",), "TensorRT-RTX has no bf16 for SM75; `--target sm80,"),
    ],
)
def test_targets_that_cannot_be_had_are_said_before_building(precision, targets, words) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UnavailableError) as caught:
        choose_targets(load("rtx"), FLAVOURS["rtx"], TrtOptions(target=targets), precision)
    assert words in str(caught.value)


@pytest.mark.parametrize("spelled", ["sm89", "SM8.9", "sm_89"])
def test_a_target_may_be_spelled_as_usual(spelled: str) -> None:
    asked = TrtOptions(target=(spelled, "sm89"))
    assert choose_targets(load("rtx"), FLAVOURS["rtx"], asked, "fp16") == ("SM89",)


@pytest.mark.parametrize("extra", [{"compatible": "AMPERE_PLUS"}, {"version_compatible": True}])
def test_what_only_classic_tensorrt_can_do_is_refused_before_building(extra: dict[str, Any]) -> None:
    with pytest.raises(UnavailableError, match=r"is for classic TensorRT on a GPU \(--flavour classic\)"):
        choose_flavour(TrtOptions(flavour="rtx", **extra))
    assert choose_flavour(TrtOptions(flavour="classic", **extra)).name == "classic"


def test_a_named_target_is_rtx_s() -> None:
    assert choose_flavour(TrtOptions(target=("sm89",))).name == "rtx"


def test_all_targets_of_the_release_are_known() -> None:
    assert capabilities(load("rtx")) == ["SM75", "SM80", "SM86", "SM89", "SM120", "SM121"]


@pytest.mark.parametrize(
    ("batches", "wanted"), [((1, 32, 256), (1, 32, 256)), ((4,), (4, 4, 4)), ((1, 8), (1, 8, 8))]
)
def test_the_shape_profile_is_the_batches_typed(graph: Artifact, batches, wanted) -> None:  # type: ignore[no-untyped-def]
    profile = shape_profile(graph, ExportOptions(root=Path(), batches=batches))
    assert tuple(profile[name][0] for name in ("min", "opt", "max")) == wanted


def test_the_shape_profile_of_a_fixed_batch_is_that_batch(graph: Artifact) -> None:
    fixed = dataclasses.replace(graph.passport.input, shape=(2, 1, 28, 28))
    source = dataclasses.replace(graph, passport=dataclasses.replace(graph.passport, input=fixed))
    assert set(shape_profile(source, ExportOptions(root=Path())).values()) == {(2, 1, 28, 28)}


def test_no_profile_is_made_up_for_an_open_width(graph: Artifact) -> None:
    wide = dataclasses.replace(graph.passport.input, shape=(None, 1, 28, None))
    source = dataclasses.replace(graph, passport=dataclasses.replace(graph.passport, input=wide))
    with pytest.raises(ShapeError, match=r"takes \?×1×28×\?, and only the batch may be open"):
        shape_profile(source, ExportOptions(root=Path()))


def test_batches_below_one_are_refused(graph: Artifact) -> None:
    with pytest.raises(CnnkitError, match="sizes of 1 or more"):
        shape_profile(graph, ExportOptions(root=Path(), batches=(0, 4)))


def test_a_bf16_engine_is_judged_by_emulation_and_says_so(graph: Artifact, root: Path) -> None:
    engine = export_one(graph, root, "trt", precision="bf16", target=("sm89",))
    assert engine.passport.layer_types == {"BF16": 14}
    assert engine.passport.parity is None
    assert engine.passport.source_parity is not None
    assert "bf16 emulated on the CPU" in engine.passport.source_parity.source
    assert 0 < engine.passport.source_parity.max_abs_diff < 1


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[ONNX Layer: a/Conv][ONNX Layer: b/Relu]", ("a/Conv", "b/Relu")),
        ("[ONNX Layer: a]\x1e[ONNX Layer: b]\x1f[ONNX Layer: a]", ("a", "b")),
        ("[ONNX Layer: x[0]/Conv]", ("x[0]/Conv",)),
        ("", ()),
    ],
)
def test_layer_metadata_is_read_in_all_its_forms(text: str, names: tuple[str, ...]) -> None:
    assert onnx_nodes(text) == names


def test_a_damaged_graph_is_refused_with_the_parsers_reason() -> None:
    with pytest.raises(CnnkitError, match=r"TensorRT cannot parse x\.onnx: "):
        parse(load("rtx"), b"no model at all", what="x.onnx")


def test_classic_tensorrt_is_given_only_what_it_knows() -> None:
    from exporters.engines.building import _compatibility

    seen: list[object] = []
    trt = SimpleNamespace(
        HardwareCompatibilityLevel=SimpleNamespace(AMPERE_PLUS="ampere"),
        BuilderFlag=SimpleNamespace(VERSION_COMPATIBLE="compatible"),
    )
    config = SimpleNamespace(set_flag=seen.append)
    asked = TrtOptions(compatible="AMPERE_PLUS", version_compatible=True)
    _compatibility(trt, config, asked)  # type: ignore[arg-type]
    assert (config.hardware_compatibility_level, seen) == ("ampere", ["compatible"])
