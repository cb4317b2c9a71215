"""A graph that takes raw pixels: scaling and normalisation become its first nodes, softmax its last."""

from __future__ import annotations

from typing import Any

import numpy as np

from exporters.graphs.capture import finish
from exporters.graphs.naming import note_modules
from toolkit.images import Preprocessing

MODULE = "/preprocess"
SOFTMAX = "/softmax"


def take_pixels(model: Any, preprocessing: Preprocessing) -> Any:
    """Return a copy of an fp32 graph whose input is (N, C, H, W) uint8; x = (pixel × scale − mean) / std."""
    import onnx
    from onnx import helper, numpy_helper

    made = onnx.ModelProto()
    made.CopyFrom(model)
    value = made.graph.input[0]
    name = value.name
    channels = (1, preprocessing.channels, 1, 1)
    std = np.resize(np.array(preprocessing.std, np.float32), preprocessing.channels)
    mean = np.resize(np.array(preprocessing.mean, np.float32), preprocessing.channels)
    sign = -1.0 if preprocessing.invert else 1.0  # 255 − p, then scaled, is an affine function of p, too
    factor = np.float32(preprocessing.scale) / std
    shift = mean / std - (factor * np.float32(255) if preprocessing.invert else np.float32(0))
    constants = {
        f"{MODULE}/Mul.B": (factor * np.float32(sign)).reshape(channels),
        f"{MODULE}/Sub.B": shift.reshape(channels),
    }
    nodes = [
        helper.make_node("Cast", [name], [f"{MODULE}/Cast"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", [f"{MODULE}/Cast", f"{MODULE}/Mul.B"], [f"{MODULE}/Mul"]),
        helper.make_node("Sub", [f"{MODULE}/Mul", f"{MODULE}/Sub.B"], [f"{MODULE}/Sub"]),
    ]
    for node in nodes:
        node.name = node.output[0]
        note_modules(node, [MODULE], "preprocess")
    for node in made.graph.node:
        node.input[:] = [f"{MODULE}/Sub" if given == name else given for given in node.input]
    rest = [*made.graph.node]
    copies = [*nodes, *(onnx.NodeProto.FromString(node.SerializeToString()) for node in rest)]
    del made.graph.node[:]
    made.graph.node.extend(copies)
    made.graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(array, np.float32), key)
        for key, array in constants.items()
    )
    value.type.tensor_type.elem_type = onnx.TensorProto.UINT8
    return finish(onnx, made)


def add_softmax(model: Any) -> Any:
    """Return a copy of a graph whose first output, (N, K), is probabilities instead of logits."""
    import onnx
    from onnx import helper

    made = onnx.ModelProto()
    made.CopyFrom(model)
    name = made.graph.output[0].name
    inner = f"{name}/raw"
    for node in made.graph.node:
        node.output[:] = [inner if value == name else value for value in node.output]
        node.input[:] = [inner if value == name else value for value in node.input]
    node = helper.make_node("Softmax", [inner], [name], name=f"{SOFTMAX}/Softmax", axis=-1)
    note_modules(node, [SOFTMAX], "softmax")
    made.graph.node.append(node)
    return finish(onnx, made)
