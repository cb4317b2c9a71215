"""What ONNX Runtime says of a graph reaches people without lines of its source."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

import cnnkit
from tests import odd_graphs as odd
from toolkit.errors import CnnkitError
from toolkit.graphs.reasons import NEWER_HINT, reason_of

SOURCE = "/onnxruntime_src/onnxruntime/core"
SAID = {
    "[ONNXRuntimeError] : 1 : FAIL : Load model from a.onnx failed:"
    f"{SOURCE}/graph/model.cc:256 onnxruntime::Model::Model(onnx::ModelProto&&, const "
    "onnxruntime::PathString&) Unsupported model IR version: 99, max supported IR version: 13": (
        f"its IR version 99 is newer than the runtime here takes (13){NEWER_HINT}"
    ),
    "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Reshape node. Name:'r' "
    f"Status Message: {SOURCE}/providers/cpu/tensor/reshape_helper.h:84 "
    "onnxruntime::ReshapeHelper::ReshapeHelper(const onnxruntime::TensorShape&, bool) size != 0 && "
    "(input_shape_size % size) == 0 was false. The input tensor cannot be reshaped to the "
    "requested shape. Input shape:{3}, requested shape:{-1,3}": (
        "node 'r' (Reshape): The input tensor cannot be reshaped to the requested shape. Input shape:{3}, "
        "requested shape:{-1,3}"
    ),
    "[ONNXRuntimeError] : 1 : FAIL : tensorprotoutils.cc:1534 Validate "
    "Initializer 'w1': raw_data size (856)": ("Initializer 'w1': raw_data size (856)"),
    '[ONNXRuntimeError] : 10 : INVALID_GRAPH : This is an invalid model. In Node, ("conv", Conv, "", -1) : '
    '("x": tensor(float),) -> ("c",) , Error Unrecognized attribute: nonsense for operator Conv': (
        "node 'conv' (Conv): Unrecognized attribute: nonsense for operator Conv"
    ),
}


@pytest.mark.parametrize("text", SAID, ids=range(len(SAID)))
def test_a_reason_is_told_without_the_runtimes_source(text: str) -> None:
    assert reason_of(RuntimeError(text)) == SAID[text]


def test_an_opset_to_come_is_refused_in_words(tmp_path: Path) -> None:
    model = odd.network(opset=onnx.defs.onnx_opset_version())
    model.opset_import[0].version = 99
    path = odd.save(model, tmp_path / "net.onnx")
    with pytest.raises(CnnkitError, match=r"opset 99 of ai\.onnx is newer than the runtime here takes"):
        cnnkit.import_(path, root=tmp_path / "out")
    assert not (tmp_path / "out").exists()
