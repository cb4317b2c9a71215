"""What a row must move and what fusing saves, by hand: residuals, siblings, activations in place, views."""

from __future__ import annotations

from tests.toolkit.profiling.conftest import Exported
from toolkit.graphs.counting import SourceGraph, SourceNode, count_graph
from toolkit.profiling.network.flow import flows
from toolkit.profiling.network.modules import Module, modules_of
from toolkit.profiling.network.traffic import Traffic

SIZE = 400  # bytes of every tensor


def graph_of(*nodes: tuple[str, str, str, str], outputs: str) -> SourceGraph:
    """Return a graph of nodes `(modules, op, inputs, output)`, in which every tensor is of SIZE bytes."""
    made = tuple(
        SourceNode(
            name=f"{place}",
            op=op,
            inputs=tuple(reads.split()),
            outputs=(writes,),
            modules=tuple(modules.split()),
            type=op,
            output_bytes=SIZE,
        )
        for place, (modules, op, reads, writes) in enumerate(nodes)
    )
    tensors = {t for node in made for t in (*node.inputs, *node.outputs)} - {"w"}
    return SourceGraph(
        nodes=made,
        inputs={"x": ("float32", (1, 100))},
        outputs=tuple(outputs.split()),
        constants=frozenset({"w"}),
        tensor_bytes=dict.fromkeys(tensors, SIZE),
    )


RESIDUAL = graph_of(
    ("stem", "Conv", "x w", "t0"),
    ("conv bn", "Conv", "t0 w", "t1"),
    ("add", "Add", "t1 t0", "t2"),
    ("act", "Relu", "t2", "t3"),
    ("flat", "Reshape", "t3 w", "t4"),
    ("fc", "Gemm", "t4 w", "y"),
    outputs="y",
)


def residual_modules() -> dict[str, Module]:
    """Return the graph's modules as torch runs them: sum and activation write over what they read."""
    flow = flows(RESIDUAL)
    computing = ("stem", "conv", "bn", "add", "act", "fc")
    made = {
        name: Module(
            name=name, type="x", weights_bytes=0, activation_bytes=0 if name in ("add", "act") else SIZE,
            read_bytes=2 * SIZE if name == "add" else SIZE, written_bytes=SIZE, flow=flow[name],
        )
        for name in computing
    }  # fmt: skip
    flat = Module(
        name="flat", type="flatten", weights_bytes=0, read_bytes=0, written_bytes=0, flow=flow["flat"]
    )
    return {**made, "flat": flat}


def test_a_fused_residual_row_reads_its_shortcut_too() -> None:
    modules = residual_modules()
    traffic = Traffic(modules.values())
    group = [modules[name] for name in ("conv", "bn", "add", "act")]
    # the convolution's input and the shortcut are one tensor here; the result is written once
    assert traffic.ideal(group) == 2 * SIZE
    assert traffic.ideal([modules[name] for name in ("add", "act")]) == 3 * SIZE


def test_fusing_saves_what_is_written_in_place_too() -> None:
    modules = residual_modules()
    traffic = Traffic(modules.values())
    # conv → bn → add → act: each but the last writes a tensor that the next one reads again
    assert traffic.saved([modules[name] for name in ("conv", "bn", "add", "act")]) == 6 * SIZE
    assert traffic.saved([modules["act"], modules["flat"]]) == 0
    assert traffic.saved([modules["act"]]) is None


def test_a_view_moves_nothing_and_what_is_behind_it_reads_what_is_before_it() -> None:
    modules = residual_modules()
    traffic = Traffic(modules.values())
    assert traffic.ideal([modules["flat"]]) == 0
    assert flows(RESIDUAL)["fc"].reads == {"t3": SIZE}
    assert traffic.ideal([modules["flat"], modules["fc"]]) == 2 * SIZE


def test_merged_siblings_write_both_outputs_and_read_their_input_once() -> None:
    graph = graph_of(
        ("a", "Conv", "x w", "ta"),
        ("b", "Conv", "x w", "tb"),
        ("", "QuantizeLinear", "tb w", "tq"),
        ("cat", "Concat", "ta tq", "y"),
        outputs="y",
    )
    modules = {module.name: module for module in modules_of(None, graph, batch=1)}
    traffic = Traffic(modules.values())
    assert traffic.ideal([modules["a"], modules["b"]]) == 3 * SIZE
    assert traffic.saved([modules["a"], modules["b"]]) == 0
    assert traffic.ideal([modules["cat"]]) == 3 * SIZE


def test_without_a_graph_a_module_moves_what_torch_saw() -> None:
    pool = Module(name="pool", type="MaxPool2d", weights_bytes=0, read_bytes=4 * SIZE, written_bytes=SIZE)
    assert Traffic([pool]).ideal([pool]) == 5 * SIZE
    assert Traffic([pool]).ideal([Module(name="odd", type="x")]) is None


def test_a_block_of_the_zoo_moves_its_input_its_weights_and_its_output(exported: Exported) -> None:
    artifact = exported("resnet18")
    found = {m.name: m for m in modules_of(None, count_graph(artifact.path, batch=1), batch=1)}
    traffic = Traffic(found.values())
    group = [found[name] for name in found if name in ("layer1.0.conv2", "layer1.0.bn2", "layer1.0/add")]
    inner = found["layer1.0.conv2"]
    assert inner.read_bytes is not None
    assert inner.weights_bytes is not None
    # all three tensors are of one shape: the branch's, the shortcut and the sum
    assert traffic.ideal(group) == 3 * inner.read_bytes + sum(m.weights_bytes or 0 for m in group)
