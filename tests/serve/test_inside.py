"""What layers put out, and which step computes them, of the network that ships: known shapes and names."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest

from serve.lineup import line_up
from serve.page.inside import LayerOutput, draw, drawn, drawn_large, open_interior, why_no_interior
from serve.page.models import PageModel
from serve.page.times import LayerGraph, steps_of, times
from serve.settings import OpeningSettings
from toolkit.artifacts import open_artifact
from toolkit.backends import DEFAULT_BACKEND
from toolkit.errors import NotFoundError
from toolkit.traces import PLAIN, ExecutedNode, Trace

LAYERS = ["conv1", "act1", "pool1", "conv2", "act2", "pool2", "flatten", "fc1", "act3", "fc2", "act4", "fc3"]


@pytest.mark.parametrize(("suffix", "package"), [("onnx", "onnx"), ("safetensors", "torch")])
def test_graph_and_checkpoint_put_out_the_same_layers(shipped: Path, suffix: str, package: str) -> None:
    pytest.importorskip(package, reason=f"{package} is not installed (extras export, train)")
    artifact = open_artifact(shipped.with_suffix(f".{suffix}"))
    assert why_no_interior(artifact) is None
    rows = np.random.default_rng(0).random((1, 1, 28, 28), dtype=np.float32)
    found = open_interior(artifact, None).outputs(rows)
    assert [layer.name for layer in found] == LAYERS
    shapes = {layer.name: layer.values.shape for layer in found}
    assert (shapes["conv1"], shapes["pool2"], shapes["fc3"]) == ((6, 28, 28), (16, 5, 5), (10,))
    assert float(found[1].values.min()) == 0.0


def test_channels_lie_on_one_scale() -> None:
    values = np.array([[[-1.0, 0.0]], [[0.5, 1.0]]], dtype=np.float32)
    found = draw(LayerOutput(name="a", type="Conv", values=values), side=32, most=64, most_bytes=1000)
    assert (found.low, found.high, found.count, found.shown) == (-1.0, 1.0, 2, 2)
    assert list(base64.b64decode(found.tiles)) == [0, 128, 191, 255]


def test_what_is_no_picture_is_a_row_of_figures_and_what_is_large_is_made_small() -> None:
    vector = LayerOutput(name="fc", type="Gemm", values=np.arange(10, dtype=np.float32))
    assert (draw(vector, side=32, most=64, most_bytes=1000).height, vector.values.shape) == (1, (10,))
    large = LayerOutput(name="c", type="Conv", values=np.random.default_rng(0).random((512, 100, 100)))
    found = draw(large, side=32, most=64, most_bytes=32 * 32 * 10)
    assert (found.height, found.width, found.count, found.shown) == (32, 32, 512, 10)
    with pytest.raises(NotFoundError, match="no layer 'x'; known: c"):
        drawn_large([large], "x")


def test_all_layers_of_a_deep_network_fit_what_a_page_can_draw() -> None:
    layer = LayerOutput(name="c", type="Conv", values=np.zeros((256, 56, 56), dtype=np.float32))
    found = drawn([layer] * 200)
    assert len(found) == 48
    assert sum(len(one.tiles) for one in found) < 600_000


def test_a_step_computes_what_lies_between_what_it_reads_and_what_it_makes() -> None:
    graph = LayerGraph([("conv", ("x",), ("c",)), ("act", ("c",), ("a",)), ("fc", ("a",), ("f",))])
    nodes = (
        ExecutedNode(name="fused", type="Conv", inputs=("x",), outputs=("a",)),
        ExecutedNode(name="moved", type="Reorder", inputs=("a",), outputs=("m",), moves_data=True),
        ExecutedNode(name="last", type="Gemm", inputs=("m",), outputs=("f",)),
    )
    trace = Trace(nodes=nodes, node_ms=np.array([[2.0, 1.0, 3.0], [4.0, 1.0, 3.0]]))
    steps = steps_of(trace, graph, PLAIN)
    assert [(step.layers, step.ms) for step in steps] == [(["conv", "act"], 3.0), ([], 1.0), (["fc"], 3.0)]


def test_an_if_or_a_loop_takes_what_its_body_takes() -> None:
    nodes = (
        ExecutedNode(name="loop", type="Loop", modules=("loop",)),
        ExecutedNode(name="loop › if", type="If", inside="loop"),
        ExecutedNode(name="loop › if › conv", type="Conv", inside="loop › if"),
        ExecutedNode(name="fc", type="Gemm", modules=("fc",)),
    )
    trace = Trace(nodes=nodes, node_ms=np.array([[1.0, 2.0, 4.0, 3.0]]))
    assert [(step.layers, step.ms) for step in steps_of(trace, None, PLAIN)] == [
        (["loop"], 7.0),
        (["fc"], 3.0),
    ]


def test_every_layer_of_the_network_that_ships_is_timed_once(shipped: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed (extra export)")
    entries = line_up([str(shipped)], DEFAULT_BACKEND, OpeningSettings(root=tmp_path), others=False)
    rows = np.random.default_rng(0).random((1, 1, 28, 28), dtype=np.float32)
    found = times(PageModel(name="lenet", entries=entries).engine(None), rows)
    timed = [layer for step in found.steps for layer in step.layers]
    assert sorted(timed) == sorted(LAYERS)
    assert all(step.ms > 0 for step in found.steps)
