"""The walk names layers as the exporter does, and counts what is known."""

from __future__ import annotations

import gc
import weakref

import pytest

from toolkit import zoo
from toolkit.errors import ShapeError
from toolkit.modules import shadow, visit, walk

torch = pytest.importorskip("torch")
nn = torch.nn


class Twice(nn.Module):
    """Calls one ReLU twice, adds, flattens, and drops out in between."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.relu = nn.ReLU()
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(4 * 8 * 8, 3)
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.bn(self.conv(x)))
        y = self.drop(self.relu(y + x))
        return self.fc(torch.flatten(y, 1)) * self.gain


def test_names_follow_calls_functions_and_paths() -> None:
    names = [row.name for row in walk(Twice(), (2, 1, 8, 8))]
    assert names == ["conv", "bn", "relu", "/add", "relu#2", "drop", "/flatten", "fc", "/mul"]


def test_names_are_the_exporters_but_for_layers_that_leave_no_node() -> None:
    pytest.importorskip("onnx")
    from toolkit.graphs.naming import _origins

    for module, shape in ((Twice(), (1, 1, 8, 8)), (_resnet(), (1, 3, 32, 32))):
        program = torch.export.export(module.eval(), (torch.zeros(shape),))
        exported = list(dict.fromkeys(o.module for o in _origins(program, module).values()))
        walked = [row for row in walk(module, shape) if row.type != "Dropout"]
        assert [row.name for row in walked] == [name for name in exported if name != "drop"]


def _resnet() -> torch.nn.Module:
    return pytest.importorskip("torchvision").models.resnet18(num_classes=10)


def test_known_numbers_of_lenet_and_alexnet() -> None:
    lenet = walk(zoo.model("lenet").build(1, 10), (1, 1, 28, 28))
    assert sum(row.parameters for row in lenet) == 61_706
    assert sum(row.macs for row in lenet) == 416_520
    with torch.device("meta"):
        alexnet = walk(zoo.model("alexnet").build(1, 10), (1, 1, 224, 224))
    most_work = max(alexnet, key=lambda row: row.macs)
    assert (most_work.name, most_work.macs) == ("features.3", 415_334_400)
    heaviest = max(alexnet, key=lambda row: row.weights_bytes)
    assert (heaviest.name, heaviest.weights_bytes) == ("classifier.1", 4 * (6400 * 4096 + 4096))


def test_meta_and_real_modules_give_the_same_rows_and_rows_add_up() -> None:
    spec = zoo.model("lenet")
    with torch.device("meta"):
        shadow = spec.build(1, 10)
    assert walk(shadow, (3, 1, 28, 28)) == walk(spec.build(1, 10), (3, 1, 28, 28))
    module = Twice()
    rows = walk(module, (1, 1, 8, 8))
    assert sum(row.parameters for row in rows) == sum(p.numel() for p in module.parameters())
    held = [*module.parameters(), *module.buffers()]
    assert sum(row.weights_bytes for row in rows) == sum(t.nbytes for t in held)


def test_views_take_no_memory_and_the_module_stays_as_it_was() -> None:
    module = Twice().train()
    module.bn.eval()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    rows = {row.name: row for row in walk(module, (2, 1, 8, 8))}
    assert rows["/flatten"].activation_bytes == rows["drop"].activation_bytes == 0
    assert rows["conv"].activation_bytes == 2 * 4 * 8 * 8 * 4
    assert module.training
    assert not module.bn.training
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert not module.conv._forward_hooks


class InPlace(nn.Module):
    """A residual block whose activation and sum write over what they read."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.act(self.conv(x))
        y += x
        return torch.flatten(self.pool(input=y), 1)


def test_what_is_read_and_written_counts_in_place_too_and_not_for_a_view() -> None:
    size = 4 * 2 * 8 * 8
    rows = {row.name: row for row in walk(InPlace(), (1, 2, 8, 8))}
    assert rows["act"].activation_bytes == rows["/add"].activation_bytes == 0
    moved = {name: (row.read_bytes, row.written_bytes) for name, row in rows.items()}
    assert moved == {
        "conv": (size, size),
        "act": (size, size),
        "/add": (2 * size, size),
        "pool": (size, size // 4),
        "/flatten": (0, 0),
    }
    twice = {row.name: row for row in walk(Twice().eval(), (2, 1, 8, 8))}
    assert (twice["drop"].read_bytes, twice["drop"].written_bytes) == (0, 0)


def test_a_shape_that_does_not_pass_is_told_in_words() -> None:
    module = zoo.model("lenet").build(1, 10)
    with pytest.raises(ShapeError, match="1×3×28×28 input does not pass"):
        walk(module, (1, 3, 28, 28))
    assert not module.conv1._forward_hooks


def test_a_shape_that_a_network_asserts_against_is_told_in_words() -> None:
    models = pytest.importorskip("torchvision").models
    with torch.device("meta"):
        module = models.vit_b_16()
    with pytest.raises(ShapeError, match=r"1×3×64×64 input does not pass .*Expected 224"):
        walk(module, (1, 3, 64, 64))


def test_what_a_watcher_computes_is_no_row() -> None:
    seen = []
    module = Twice()
    rows = visit(module, torch.ones(1, 1, 8, 8), lambda row, output: seen.append(float((output + 1).sum())))
    assert rows == walk(module, (1, 1, 8, 8))
    assert len(seen) == len(rows)


class Decides(nn.Module):
    """Is built with values (as torchvision's RegNet is), and shares a weight between two layers."""

    def __init__(self) -> None:
        super().__init__()
        widths = [int(width.item()) for width in torch.linspace(4, 4, 2)]
        self.one, self.two = (nn.Linear(width, width) for width in widths)
        self.two.weight = self.one.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.two(self.one(x))


def test_a_network_that_is_built_with_values_is_walked_without_data_and_its_shared_weights_stay_one() -> None:
    module = shadow(lambda channels, classes: Decides(), 3, 10)
    assert all(tensor.is_meta for tensor in module.parameters())
    assert [row.weights_bytes for row in walk(module.eval(), (2, 4))] == [4 * 20, 4 * 4]


def test_outputs_are_freed_as_the_walk_ends() -> None:
    """Not when the garbage collector runs next: on a GPU they would count as somebody's memory until then."""
    seen: list[weakref.ref[torch.Tensor]] = []
    gc.disable()
    try:
        visit(Twice(), torch.zeros(1, 1, 8, 8), lambda row, output: seen.append(weakref.ref(output)))
        assert seen
        assert [output for output in seen if output() is not None] == []
    finally:
        gc.enable()
