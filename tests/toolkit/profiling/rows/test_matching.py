"""Every module and every executed node on exactly one row: zoo, other exporters' nets, int8, bad graphs."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.toolkit.profiling.conftest import LEVELS, Aligned, Exported, aligned, assert_partition, ops
from toolkit import zoo
from toolkit.backends import BACKENDS, EngineOptions
from toolkit.graphs.counting import SourceGraph, SourceNode
from toolkit.passports import Dialect
from toolkit.profiling.columns import open_any
from toolkit.profiling.network.modules import Module
from toolkit.profiling.rows.align import align, coverage
from toolkit.profiling.rows.claims import Claim, inferred_regions
from toolkit.profiling.rows.matching import claim
from toolkit.tensorrt.layers import SPELLING
from toolkit.traces import PLAIN, ExecutedNode

# the largest take seconds to capture: they are held to the same in the long run
LARGE = {"alexnet", "resnet18-cifar", "cifarnet-best"}
ZOO = [pytest.param(n, marks=pytest.mark.slow) if n in LARGE else n for n in zoo.models()]
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
LIGHT_NETS = [
    pytest.param(n, marks=pytest.mark.slow) if n in {"vgg19", "zfnet512", "bvlc_alexnet"} else n
    for n in (
        "bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet",
        "squeezenet", "vgg19", "zfnet512",
    )
]  # fmt: skip


@pytest.mark.parametrize("name", ZOO)
def test_every_module_and_node_of_the_zoo_is_on_one_row_at_every_level(name: str, exported: Exported) -> None:
    artifact = exported(name)
    for level in LEVELS:
        assert_partition(aligned(artifact, level=level))


@pytest.mark.parametrize("name", LIGHT_NETS)
@pytest.mark.parametrize("level", ["basic", "extended", "all"])
def test_every_node_of_other_exporters_nets_is_on_one_row(name: str, level: str) -> None:
    found = aligned(open_any(LIGHT / f"light_{name}.onnx"), level=level, own=True)
    assert_partition(found)
    assert set(ops(found, "layout")) <= {"ReorderInput", "ReorderOutput"}


# a blocked int8 convolution of ONNX Runtime works channels-last: Transpose
CONVERSIONS = {"QuantizeLinear", "DequantizeLinear", "ReorderOutput", "ReorderInput", "Transpose"}


def groups(found: Aligned) -> set[tuple[str, ...]]:
    return {tuple(m.name for m in row.modules) for row in found.rows if row.modules}


def test_a_fused_convolution_stands_with_its_activation(exported: Exported) -> None:
    found = aligned(exported("lenet-maxpool"), level="extended")
    assert {("conv1", "act1"), ("conv2", "act2"), ("fc1", "act3"), ("fc2", "act4"), ("fc3",)} <= groups(found)
    matches = {entry.match for entry in found.claims if "act1" in entry.modules}
    assert matches <= {"name", "tensor"}


def test_without_optimisation_each_module_has_a_row_of_its_own(exported: Exported) -> None:
    found = aligned(exported("lenet-maxpool"), level="disable")
    assert all(len(group) == 1 for group in groups(found))
    assert not ops(found, "layout")


def test_a_residual_sum_stands_with_the_convolution_that_took_it_in(exported: Exported) -> None:
    found = aligned(exported("resnet18"), level="all")
    joined = next(group for group in groups(found) if "layer1.0/add" in group)
    assert "layer1.0.conv2" in joined
    assert "layer1.0.bn2" in joined


def test_reorders_name_the_module_that_wanted_them(exported: Exported) -> None:
    found = aligned(exported("lenet-maxpool"))
    causes = {row.caused_by for row in found.rows if row.kind == "layout"}
    names = {module.name for module in found.modules}
    assert causes
    assert causes <= names


def test_a_layer_that_leaves_no_node_keeps_its_row(exported: Exported) -> None:
    found = aligned(exported("lenet-dropout"))
    dropped = [row for row in found.rows if any("drop" in m.name for m in row.modules)]
    assert len(dropped) == 2
    assert all(not row.nodes.get("ort") for row in dropped)


@pytest.mark.parametrize("dialect", ["U8S8", "S8S8"])
@pytest.mark.parametrize("level", ["basic", "extended", "all"])
def test_int8_graphs_align_and_their_conversions_are_layout(
    dialect: Dialect, level: str, exported: Exported, tmp_path: Path
) -> None:
    artifact = exported("lenet-maxpool")
    path = tmp_path / "lenet-maxpool.int8.onnx"
    onnx.save(quantized(onnx.load(artifact.path), dialect), path)
    found = aligned(open_any(path), level=level)
    assert_partition(found)
    assert set(ops(found, "layout")) <= CONVERSIONS
    names = {module.name for module in found.modules}
    assert {"conv1", "pool1", "fc3"} <= names


def quantized(model: onnx.ModelProto, dialect: Dialect) -> onnx.ModelProto:
    """Quantize as `cnnkit export --int8` does, on seeded noise: accuracy is not the subject here."""
    from exporters.graphs.quantized import quantize
    from exporters.graphs.ranges import measure

    inputs = np.random.default_rng(0).standard_normal((4, 1, 28, 28), dtype=np.float32)
    ranges = measure(model, inputs).ranges
    made: onnx.ModelProto = quantize(model, ranges, method="minmax", dialect=dialect, reduce_range=False)
    return made


def test_pytorch_and_ort_share_the_finest_rows(exported: Exported) -> None:
    found = aligned(exported("lenet-maxpool"), level="extended")
    torch_nodes = [
        Claim(node=ExecutedNode(name=m.name, type=m.type, modules=(m.name,)), modules=(m.name,), match="name")
        for m in found.modules
    ]
    rows = align(found.modules, {"ort": found.claims, "pytorch": torch_nodes})
    assert len(rows) == len(found.rows)
    placed = sorted(i for row in rows for i in row.nodes.get("pytorch", ()))
    assert placed == list(range(len(torch_nodes)))


def chain(count: int) -> SourceGraph:
    """Return Conv → Relu → Conv → … of `count` nodes."""
    nodes = tuple(
        SourceNode(
            name=f"n{i}",
            op="Relu" if i % 2 else "Conv",
            inputs=(f"t{i}",),
            outputs=(f"t{i + 1}",),
            modules=(f"n{i}",),
            type="Relu" if i % 2 else "Conv",
        )
        for i in range(count)
    )
    return SourceGraph(
        nodes=nodes, inputs={"t0": ("float32", (1,))}, outputs=(f"t{count}",), constants=frozenset()
    )


def test_a_thousand_nodes_align_within_a_second_of_work() -> None:
    graph = chain(1000)
    nodes = [
        ExecutedNode(name=f"n{i}", type="FusedConv", inputs=(f"t{i}",), outputs=(f"t{i + 2}",))
        for i in range(0, 1000, 2)
    ]
    start = time.process_time()
    claims = claim(nodes, graph, PLAIN)
    modules = [Module(name=n.name, type=n.type) for n in graph.nodes]
    rows = align(modules, {"ort": claims})
    spent = time.process_time() - start
    assert [tuple(m.name for m in row.modules) for row in rows] == [
        (f"n{i}", f"n{i + 1}") for i in range(0, 1000, 2)
    ]
    # a promise of the benchmark; here only that nothing is quadratic beyond use
    assert spent < 10


def test_a_node_that_nothing_explains_is_shown_and_lowers_coverage() -> None:
    graph = chain(2)
    nodes = [
        ExecutedNode(name="n0", type="FusedConv", inputs=("t0",), outputs=("t2",)),
        ExecutedNode(name="mystery", type="Mystery", inputs=("x",), outputs=("y",)),
    ]
    claims = claim(nodes, graph, PLAIN)
    assert coverage(claims) == 0.5
    rows = align([Module(name="n0", type="Conv"), Module(name="n1", type="Relu")], {"ort": claims})
    assert [row.label for row in rows if row.kind == "unmatched"] == ["mystery"]


def test_only_what_converts_is_layout_where_the_source_names_no_module() -> None:
    parts = [("Div", "t0", "t1", ()), ("Cast", "t1", "t2", ()), ("Conv", "t2", "t3", ("conv",))]
    nodes = tuple(
        SourceNode(name=op.lower(), op=op, inputs=(a,), outputs=(b,), modules=modules, type=op)
        for op, a, b, modules in parts
    )
    graph = SourceGraph(nodes=nodes, inputs={"t0": ("float32", (1,))}, outputs=("t3",), constants=frozenset())
    ran = [ExecutedNode(name=n.name, type=n.op, inputs=n.inputs, outputs=n.outputs) for n in nodes]
    claims = claim(ran, graph, PLAIN)
    assert [entry.layout for entry in claims] == [False, True, False]
    assert coverage(claims) == 0.5  # the division computes, and stands for no module
    rows = align([Module(name="conv", type="Conv")], {"ort": claims})
    assert [row.label for row in rows if row.kind == "unmatched"] == ["div"]


def test_a_kernel_put_beside_its_neighbour_without_a_tensor_in_common_is_not_covered() -> None:
    conv = Claim(node=ExecutedNode(name="conv", type="x", outputs=("t1",)), modules=("conv",), match="name")
    reads = ExecutedNode(name="__mye1", type="x", inputs=("t1",), outputs=("t2",))
    lone = ExecutedNode(name="__mye2", type="x", inputs=("t8",), outputs=("t9",))
    found = inferred_regions([conv, Claim(node=reads), Claim(node=lone)], SPELLING)
    assert [entry.modules for entry in found] == [("conv",)] * 3
    assert [entry.guessed for entry in found] == [False, False, True]
    assert coverage(found) == pytest.approx(2 / 3)


def test_coverage_is_unknown_where_nothing_computes() -> None:
    moved = ExecutedNode(name="reorder", type="ReorderInput", moves_data=True)
    assert coverage([Claim(node=moved, layout=True)]) is None


def test_merged_siblings_join_both_branches() -> None:
    claims = [
        Claim(node=ExecutedNode(name="a || b", type="conv"), modules=("a", "b"), match="metadata"),
        Claim(node=ExecutedNode(name="c", type="conv"), modules=("c",), match="metadata"),
    ]
    modules = [Module(name=name, type="Conv2d") for name in "abc"]
    rows = align(modules, {"trt": claims})
    assert [tuple(m.name for m in row.modules) for row in rows] == [("a", "b"), ("c",)]


def test_two_kernels_of_one_region_stand_on_one_row() -> None:
    claims = [
        Claim(node=ExecutedNode(name="k1", type="myelin"), modules=("a", "b"), match="metadata"),
        Claim(node=ExecutedNode(name="k2", type="myelin"), modules=("b", "c"), match="metadata"),
    ]
    rows = align([Module(name=name, type="x") for name in "abc"], {"trt": claims})
    assert len(rows) == 1
    assert rows[0].nodes == {"trt": (0, 1)}


def test_a_custom_domain_is_refused_in_words_by_the_runtime(tmp_path: Path) -> None:
    from toolkit.errors import CorruptError

    node = onnx.helper.make_node("Strange", ["x"], ["y"], name="strange", domain="own.domain")
    value = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 4]) for n in "xy"]
    opsets = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid("own.domain", 1)]
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "g", value[:1], value[1:]), opset_imports=opsets, ir_version=10
    )
    path = tmp_path / "strange.onnx"
    onnx.save(model, path)
    with pytest.raises(CorruptError, match=r"strange\.onnx: .*own\.domain.*export without this one"):
        BACKENDS.load("ort").open(open_any(path), EngineOptions())


def activated(
    folder: Path, nodes: list[onnx.NodeProto], extra: list[onnx.TensorProto], channels: int
) -> Aligned:
    """Run Conv, an activation from `p` to `q`, and Conv, in ONNX Runtime at its highest level."""
    draw = np.random.default_rng(0).standard_normal
    weights = [
        onnx.numpy_helper.from_array(draw((channels, channels, 3, 3)).astype(np.float32), name)
        for name in ("w1", "w2")
    ]
    convs = [
        onnx.helper.make_node("Conv", [given, w], [made], name=name, pads=[1] * 4)
        for given, w, made, name in (("x", "w1", "p", "conv1"), ("q", "w2", "y", "conv2"))
    ]
    ends = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, channels, 8, 8]) for n in "xy"]
    graph = onnx.helper.make_graph([convs[0], *nodes, convs[1]], "g", ends[:1], ends[1:], [*weights, *extra])
    path = folder / "net.onnx"
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10), path
    )
    return aligned(open_any(path), own=True)


ACTIVATIONS = ["Relu", "Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid", "HardSwish"]


@pytest.mark.parametrize("channels", [8, 32])
@pytest.mark.parametrize("op", ACTIVATIONS)
def test_an_activation_that_the_kernel_took_in_stands_on_its_row(
    op: str, channels: int, tmp_path: Path
) -> None:
    found = activated(tmp_path, [onnx.helper.make_node(op, ["p"], ["q"], name="act")], [], channels)
    assert_partition(found)
    assert groups(found) == {("conv1", "act"), ("conv2",)}


@pytest.mark.parametrize("channels", [8, 32])
def test_an_activation_of_two_nodes_that_the_kernel_took_in_stands_on_its_row(
    channels: int, tmp_path: Path
) -> None:
    gate = onnx.helper.make_node("HardSigmoid", ["p"], ["g"], name="gate", alpha=1 / 6, beta=0.5)
    product = onnx.helper.make_node("Mul", ["p", "g"], ["q"], name="product")
    found = activated(tmp_path, [gate, product], [], channels)
    assert_partition(found)
    assert groups(found) == {("conv1", "gate", "product"), ("conv2",)}


@pytest.mark.parametrize("op", ["Elu", "Softplus", "Gelu"])
def test_an_activation_with_a_kernel_of_its_own_has_a_row_of_its_own(op: str, tmp_path: Path) -> None:
    found = activated(tmp_path, [onnx.helper.make_node(op, ["p"], ["q"], name="act")], [], 8)
    assert groups(found) == {("conv1",), ("act",), ("conv2",)}


def test_a_split_has_a_row_of_its_own_and_glues_nothing(tmp_path: Path) -> None:
    sizes = onnx.numpy_helper.from_array(np.array([4, 4], np.int64), "sizes")
    nodes = [
        onnx.helper.make_node("Split", ["p", "sizes"], ["a", "b"], name="split", axis=1),
        onnx.helper.make_node("Relu", ["a"], ["c"], name="relu"),
        onnx.helper.make_node("Concat", ["c", "b"], ["q"], name="cat", axis=1),
    ]
    found = activated(tmp_path, nodes, [sizes], 8)
    assert_partition(found)
    assert groups(found) == {("conv1",), ("split",), ("relu",), ("cat",), ("conv2",)}
