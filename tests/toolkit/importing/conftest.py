"""Small networks with a known right answer, as other tools write them, and pictures for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

onnx = pytest.importorskip("onnx")
helper, numpy_helper, TensorProto = onnx.helper, onnx.numpy_helper, onnx.TensorProto

NAMES = ("blue", "green", "red", "yellow")
COLOURS = ((30, 50, 210), (40, 190, 60), (200, 40, 30), (200, 190, 40))
SIZE = 8

Run = Callable[..., Result]


@dataclass(kw_only=True)
class Odd:
    """A classifier of the four colours, and how its file differs from a plain one.

    `before` are nodes between the input and the values in [0, 1], (N, 3, 8, 8), called `x`.
    """

    shape: Sequence[int | str | None] = ("n", 3, SIZE, SIZE)
    kind: int = TensorProto.FLOAT
    before: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)
    after: list[Any] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)
    outputs: list[Any] | None = None
    props: dict[str, str] = field(default_factory=dict)
    order: Sequence[int] = (0, 1, 2, 3)

    def save(self, path: Path) -> Path:
        """Write the file; its class scores are `scores`, made of the values' means over each picture."""
        entry = "pixels" if self.before else "x"
        weights = np.array(COLOURS, np.float32)[list(self.order)] / 255 - 0.45
        weights /= np.linalg.norm(weights, axis=1, keepdims=True)
        nodes = [
            *self.before,
            helper.make_node("GlobalAveragePool", ["x"], ["means"], name="pool"),
            helper.make_node("Flatten", ["means"], ["flat"], name="flatten"),
            helper.make_node("Sub", ["flat", "middle"], ["centred"], name="centre"),
            helper.make_node("Gemm", ["centred", "weights"], ["scores"], transB=1, alpha=20.0, name="dense"),
            *self.after,
        ]
        constants = [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.full(3, 0.45, np.float32), "middle"),
            *self.constants,
        ]
        taken = helper.make_tensor_value_info(entry, self.kind, self.shape)
        outputs = self.outputs or [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 4])]
        graph = helper.make_graph(nodes, "odd", [taken, *self.inputs], outputs, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        helper.set_model_props(model, self.props)
        onnx.save(model, path)
        return path


def constant(name: str, *values: float, dtype: Any = np.float32) -> Any:
    return numpy_helper.from_array(np.array(values, dtype), name)


def figure(name: str, value: float) -> Any:
    return numpy_helper.from_array(np.float32(value), name)


def node(kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> Any:
    return helper.make_node(kind, inputs, outputs, name=f"{kind}/{outputs[0]}", **attributes)


def value(name: str, shape: Sequence[Any] | None, kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


# x is made of `pixels` as the word says
ODD: dict[str, Odd] = {
    "plain": Odd(),
    "nhwc": Odd(shape=("n", SIZE, SIZE, 3), before=[node("Transpose", ["pixels"], ["x"], perm=[0, 3, 1, 2])]),
    "nhwc-uint8": Odd(
        shape=("n", SIZE, SIZE, 3),
        kind=TensorProto.UINT8,
        before=[
            node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
            node("Transpose", ["floats"], ["turned"], perm=[0, 3, 1, 2]),
            node("Div", ["turned", "most"], ["x"]),
        ],
        constants=[figure("most", 255)],
    ),
    "int32": Odd(
        kind=TensorProto.INT32,
        before=[
            node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
            node("Div", ["floats", "most"], ["x"]),
        ],
        constants=[figure("most", 255)],
    ),
    "row": Odd(
        shape=("n", 3 * SIZE * SIZE),
        before=[node("Reshape", ["pixels", "to"], ["x"])],
        constants=[constant("to", -1, 3, SIZE, SIZE, dtype=np.int64)],
    ),
    "open": Odd(shape=("n", 3, "h", "w")),
    "half": Odd(kind=TensorProto.FLOAT16, before=[node("Cast", ["pixels"], ["x"], to=TensorProto.FLOAT)]),
    "bgr-0-to-255": Odd(
        before=[
            node("Gather", ["pixels", "turn"], ["turned"], axis=1),
            node("Div", ["turned", "most"], ["x"]),
        ],
        constants=[constant("turn", 2, 1, 0, dtype=np.int64), figure("most", 255)],
    ),
    "scaled-by-another": Odd(before=[node("Mul", ["pixels", "times"], ["x"])], inputs=[value("times", [1])]),
    "squeezed": Odd(
        after=[node("Reshape", ["scores", "maps"], ["answers"])],
        constants=[constant("maps", 0, 4, 1, 1, dtype=np.int64)],
        outputs=[value("answers", ["n", 4, 1, 1])],
    ),
    "labels-first": Odd(
        after=[node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0)],
        outputs=[value("label", ["n"], TensorProto.INT64), value("scores", ["n", 4])],
    ),
    "probabilities": Odd(
        after=[node("Softmax", ["scores"], ["answers"], axis=1)], outputs=[value("answers", ["n", 4])]
    ),
    "shares": Odd(after=[node("Sigmoid", ["scores"], ["answers"])], outputs=[value("answers", ["n", 4])]),
    "said-wrong": Odd(outputs=[value("scores", ["n", 7])]),
    "batch-of-1": Odd(
        after=[node("Reshape", ["scores", "one"], ["answers"])],
        constants=[constant("one", 1, 4, dtype=np.int64)],
        outputs=[value("answers", [1, 4])],
    ),
}


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of four classes of plain colours, 24 to train on and 12 to test, of some sizes."""
    root = tmp_path_factory.mktemp("colours")
    random = np.random.default_rng(7)
    for part, count in (("train", 24), ("test", 12)):
        for name, colour in zip(NAMES, COLOURS, strict=True):
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                extent = random.integers(8, 20, 2)
                pixels = random.normal(colour, 12, (*extent, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


def replaced(odd: Odd, **changes: Any) -> Odd:
    return dataclasses.replace(odd, **changes)
