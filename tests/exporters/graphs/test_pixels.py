"""A graph that takes raw pixels answers as the one that takes the normalised tensor."""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters.graphs.form import take_pixels
from toolkit.graphs.running import logits
from toolkit.preprocessing import Formula, Preprocessing, normalise


def network() -> onnx.ModelProto:
    """Return a graph that hands out each channel's mean, so that channels are told apart."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["mean"], name="mean"),
        helper.make_node("Reshape", ["mean", "flat"], ["y"], name="flat"),
    ]
    return helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 4, 4])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
            [numpy_helper.from_array(np.array([0, -1], np.int64), "flat")],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("formula", ["divide", "multiply"])
@pytest.mark.parametrize(("invert", "scale"), [(False, 1 / 255), (True, 1 / 255), (False, 1.0)])
def test_raw_pixels_are_normalised_in_the_graph(
    order: Literal["rgb", "bgr"], formula: Formula, invert: bool, scale: float
) -> None:
    prepared = Preprocessing(
        size=(4, 4),
        channels=3,
        order=order,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        invert=invert,
        scale=scale,
        formula=formula,
    )
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 4), np.uint8)
    wanted = logits(network(), normalise(pixels, prepared))
    found = logits(take_pixels(network(), prepared), pixels)
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)
