"""Files of torch's own exporter have modules for rows, as its notes on the nodes tell them."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.graphs.counting import count_graph
from toolkit.graphs.scopes import CLASSES, SCOPES, scoped_nodes

torch = pytest.importorskip("torch")
nn = torch.nn


class Net(nn.Module):  # type: ignore[misc, name-defined]
    """Folds a norm, splits, calls one ReLU twice, and computes outside of its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.relu = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()
        self.block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.Hardswish())
        self.fc = nn.Linear(8 * 8 * 8, 5)

    def forward(self, x: object) -> object:
        x = self.relu(self.bn(self.conv(x)))
        a, b = x.chunk(2, 1)
        return self.fc(torch.flatten(torch.cat([self.relu(self.block(a)), b], 1), 1))


def test_nodes_of_torchs_default_exporter_have_modules_and_classes(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    torch.onnx.export(Net().eval(), (torch.zeros(1, 3, 8, 8),), path, dynamo=True, verbose=False)
    found = [(node.modules, node.type) for node in count_graph(path, batch=1).nodes]
    split = [entry for entry in found if entry[1] == "Split"]
    assert len(split) == 1  # a row of its own, whatever it is called
    assert [entry for entry in found if entry not in split] == [
        (("conv", "bn"), "Conv"),
        (("relu",), "ReLU"),
        (("block.0",), "Conv2d"),
        (("block.1",), "Hardswish"),
        (("relu#2",), "ReLU"),
        (("/cat",), "cat"),
        (("/view",), "view"),
        (("fc",), "Linear"),
    ]


@pytest.mark.parametrize("told", ["", "nonsense(", "[1, 2]", "[]", "{}", "[" * 500])
def test_notes_that_nobody_can_read_are_no_modules(told: str) -> None:
    from onnx import helper

    node = helper.make_node("Relu", ["x"], ["y"], name="relu")
    for key in (SCOPES, CLASSES):
        node.metadata_props.add(key=key, value=told)
    assert scoped_nodes(helper.make_graph([node], "g", [], [])) == {}
