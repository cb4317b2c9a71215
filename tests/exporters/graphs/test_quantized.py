"""int8 in two dialects: each one opens in its own runtime, and only the heavy ends are in float."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import cnnkit
from exporters.graphs.quantized import (
    quantised_nodes,
    quantize,
    refuse_lost_operators,
    unquantizable,
)
from exporters.graphs.ranges import Range, measure
from tests import odd_graphs as odd
from toolkit.errors import CnnkitError
from toolkit.exporting import ExportOptions
from toolkit.graphs.completing import complete
from toolkit.graphs.running import logits
from toolkit.graphs.weights import HEAVY
from toolkit.passports import Dialect
from toolkit.tensorrt.flavours import load
from toolkit.tensorrt.network import parse


@pytest.fixture
def graph(root: Any) -> Any:
    return onnx.load(root / "lenet-maxpool" / "lenet-maxpool.onnx")


@pytest.fixture
def inputs() -> Any:
    return np.random.default_rng(0).normal(0, 1, (32, 1, 28, 28)).astype(np.float32)


@pytest.fixture
def ranges(graph: Any, inputs: Any) -> dict[str, Range]:
    return measure(graph, inputs).ranges


def emit(graph: Any, ranges: Any, dialect: Dialect, **options: Any) -> Any:
    return quantize(graph, ranges, method="minmax", dialect=dialect, **{"reduce_range": False, **options})


def activation_types(model: Any) -> set[int]:
    points = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    return {points[node.input[2]] for node in model.graph.node if node.op_type == "QuantizeLinear"}


def test_the_cpu_dialect_is_u8s8_and_answers_nearly_alike(graph: Any, ranges: Any, inputs: Any) -> None:
    made = emit(graph, ranges, "U8S8")
    assert activation_types(made) == {onnx.TensorProto.UINT8}
    wanted, found = logits(graph, inputs), logits(made, inputs)
    assert np.corrcoef(wanted.ravel(), found.ravel())[0, 1] > 0.99


def test_the_tensorrt_dialect_is_symmetric_s8s8_and_its_parser_takes_it(graph: Any, ranges: Any) -> None:
    made = emit(graph, ranges, "S8S8")
    assert activation_types(made) == {onnx.TensorProto.INT8}
    points = [t for t in made.graph.initializer if t.name.endswith("_zero_point")]
    assert points
    assert all(not numpy_helper.to_array(t).any() for t in points)
    with parse(load("rtx"), made.SerializeToString()) as network:
        heavy = [layer for layer in network.layers if layer.type in ("CONVOLUTION", "MATRIX_MULTIPLY")]
        assert [layer.precision for layer in heavy] == ["INT8"] * 5
        weights = sum(layer.weights_bytes for layer in network.layers)
    assert weights < 61_706 * 1.2


def test_the_cpu_dialect_is_not_for_tensorrt(graph: Any, ranges: Any) -> None:
    with pytest.raises(Exception, match="TensorRT cannot parse"):
        parse(load("rtx"), emit(graph, ranges, "U8S8").SerializeToString())


def test_a_layer_kept_in_float_has_no_int8_weights(graph: Any, ranges: Any) -> None:
    made = emit(graph, ranges, "U8S8", keep=["conv1/Conv"])
    names = {tensor.name: tensor.data_type for tensor in made.graph.initializer}
    assert names["conv1.weight"] == onnx.TensorProto.FLOAT
    assert "conv1.weight_quantized" not in names
    assert "conv2.weight_quantized" in names


def test_a_reduced_range_leaves_weights_seven_bits(graph: Any, ranges: Any) -> None:
    made = emit(graph, ranges, "U8S8", reduce_range=True)
    weights = [
        numpy_helper.to_array(t) for t in made.graph.initializer if t.name.endswith("weight_quantized")
    ]
    assert max(int(np.abs(w.astype(int)).max()) for w in weights) <= 64
    full = emit(graph, ranges, "U8S8")
    weights = [
        numpy_helper.to_array(t) for t in full.graph.initializer if t.name.endswith("weight_quantized")
    ]
    assert max(int(np.abs(w.astype(int)).max()) for w in weights) == 127


def test_weights_are_scaled_per_channel_and_logits_stay_float(graph: Any, ranges: Any) -> None:
    made = emit(graph, ranges, "U8S8")
    scales = {
        t.name: numpy_helper.to_array(t) for t in made.graph.initializer if t.name.endswith("weight_scale")
    }
    assert scales["conv2.weight_scale"].shape == (16,)
    maker = next(node for node in made.graph.node if "logits" in node.output)
    assert maker.op_type == "Gemm"


def test_an_operator_that_was_lost_is_named() -> None:
    source = odd.network()
    for one, name in zip(source.graph.node, "abcde", strict=True):
        one.name = name
    lost = onnx.ModelProto.FromString(source.SerializeToString())
    del lost.graph.node[1]  # the ReLU: what it read is now what its reader reads
    lost.graph.node[0].output[0] = "act"
    with pytest.raises(CnnkitError, match=r"int8 would lose the node 'b' \(Relu\)"):
        refuse_lost_operators(list(source.graph.node), lost)
    refuse_lost_operators(list(source.graph.node), source)


def test_a_layer_normalization_over_several_extents_stays_in_float() -> None:
    draw = np.random.default_rng(0).standard_normal
    wide = odd.node("LayerNormalization", ["act", "gain", "bias"], "normal", axis=1)
    nodes = [*odd.layers()[:2], wide, *odd.layers()[2:]]
    nodes[3].input[0] = "normal"
    constants = [*odd.plain_weights(), *(odd.stored(name, draw((6, 8, 8))) for name in ("gain", "bias"))]
    source = complete(odd.network(nodes, constants=constants))
    for place, one in enumerate(source.graph.node):
        one.name = f"{one.op_type}_{place}"
    assert unquantizable(source) == {"LayerNormalization_2": "LayerNormalization over several extents"}
    pictures = odd.seeded(64)
    for dialect in get_args(Dialect):
        made = emit(source, measure(source, pictures).ranges, dialect)
        (kept,) = (one for one in made.graph.node if one.op_type == "LayerNormalization")
        assert [*kept.input[1:]] == ["gain", "bias"]
        assert [one.name for one in made.graph.node if one.op_type in HEAVY] == ["Conv_0", "Gemm_5"]
        wanted, found = logits(source, pictures), logits(made, pictures)
        assert np.corrcoef(wanted.ravel(), found.ravel())[0, 1] > 0.98


def test_a_graph_of_operators_without_int8_is_refused(tmp_path: Path) -> None:
    fused = odd.network(domains=["com.microsoft"])
    for one in fused.graph.node:
        if one.op_type in ("Conv", "Gemm"):
            one.op_type, one.domain = f"Fused{one.op_type}", "com.microsoft"
            one.attribute.append(onnx.helper.make_attribute("activation", "Relu"))
    options = ExportOptions(root=tmp_path)
    report = cnnkit.export(
        odd.save(fused, tmp_path / "a.onnx"), formats=("onnx",), precisions=("int8",), options=options
    )
    with pytest.raises(
        CnnkitError, match=r"has a form in int8 \(it computes with FusedConv of com.microsoft"
    ):
        report.require()
    assert not (tmp_path / "a" / "a.int8.onnx").exists()


def test_functions_of_a_graph_are_quantised_as_their_nodes(tmp_path: Path) -> None:
    source = odd.network(domains=["own"])
    for one in source.graph.node:
        if one.op_type in ("Conv", "Gemm"):
            body = type(one).FromString(one.SerializeToString())
            opset = [onnx.helper.make_opsetid("", 17)]
            name, ends = f"Own{one.op_type}", ([*one.input], [*one.output])
            source.functions.append(onnx.helper.make_function("own", name, *ends, [body], opset))
            one.op_type, one.domain = name, "own"
            del one.attribute[:]
    options = ExportOptions(root=tmp_path)
    cnnkit.export(
        odd.save(source, tmp_path / "a.onnx"), formats=("onnx",), precisions=("int8",), options=options
    ).require()
    made = onnx.load(tmp_path / "a" / "a.int8.onnx")
    assert len(quantised_nodes(made)) == 2
