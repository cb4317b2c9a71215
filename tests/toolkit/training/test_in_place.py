"""Networks that change their input in place learn, score and are explained as their twins are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.toolkit.training.conftest import Listener, objective_for  # noqa: E402  (after the skip)
from toolkit import zoo  # noqa: E402
from toolkit.backends import BACKENDS, EngineOptions  # noqa: E402
from toolkit.checkpoints import write_untrained  # noqa: E402
from toolkit.datasets import Split  # noqa: E402
from toolkit.models import Recipe  # noqa: E402
from toolkit.modules import outputs, visit  # noqa: E402
from toolkit.preprocessing import Preprocessing  # noqa: E402
from toolkit.training.compute.format import Compute  # noqa: E402
from toolkit.training.compute.probe import Trial  # noqa: E402
from toolkit.training.data.batches import InputTransform, MemoryBatches  # noqa: E402
from toolkit.training.loop import Loop, LoopSetup  # noqa: E402
from toolkit.training.scoring import score  # noqa: E402
from toolkit.training.teacher import Teacher  # noqa: E402

FILE = """
from torch import nn

from toolkit.models import ModelSpec, Recipe


class Twin(nn.Module):
    def __init__(self, channels, classes, in_place):
        super().__init__()
        self.in_place = in_place
        self.conv, self.head = nn.Conv2d(channels, 4, 3, 2), nn.Linear(4 * 13 * 13, classes)

    def forward(self, x):
        x = x.sub_(0.5).mul_(3) if self.in_place else (x - 0.5) * 3
        return self.head(self.conv(x).relu().flatten(1))


MODELS = [
    ModelSpec(
        name=name,
        family="own",
        input_shape=(1, 28, 28),
        build=lambda channels, classes, in_place=in_place: Twin(channels, classes, in_place),
        recipes={"default": Recipe(name="default", epochs=1)},
    )
    for name, in_place in (("usual", False), ("in-place", True))
]
"""
COMPUTE = Compute(device="cpu", threads=1, arithmetic="fp32", channels_last=False)
TRANSFORM = InputTransform(preprocessing=Preprocessing(size=(28, 28), channels=1), device=torch.device("cpu"))
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 1, 28, 28), dtype=np.uint8)
DATA = Split(images=PIXELS, labels=np.arange(40) % 10)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(FILE)
    return path


def twins(own: Path) -> list[Any]:
    """Return both twins with equal weights."""
    modules = [zoo.model(name, model_file=own).build(1, 10) for name in ("usual", "in-place")]
    modules[1].load_state_dict(modules[0].state_dict())
    return modules


def learnt(module: Any, teacher: Teacher | None = None, *, freeze: bool = False) -> tuple[Any, list[str]]:
    """Train for an epoch; return the weights, and what was said."""
    listener = Listener()
    recipe = Recipe(name="default", batch=8, teacher_share=0.9)
    setup = LoopSetup(
        recipe=recipe,
        compute=COMPUTE,
        seed=0,
        batches=MemoryBatches(DATA, recipe, 0, TRANSFORM),
        objective=objective_for(DATA.labels, classes=10),
        by_classes=frozenset({"head.weight", "head.bias"}),
        freeze=freeze,
        teacher=teacher,
        guard=None,
        watcher=listener,
    )
    loop = Loop(module, setup)
    loop.epoch(lambda: None)
    return loop.weights(), listener.said


def test_a_teacher_is_shown_what_the_student_was(own: Path) -> None:
    wise = zoo.model("in-place", model_file=own).build(1, 10).eval()
    teacher = Teacher(module=wise, compute=COMPUTE, scale=torch.ones(1), shift=torch.zeros(1))
    (usual, _), (changing, _) = (learnt(module, teacher) for module in twins(own))
    assert all(torch.equal(usual[name], changing[name]) for name in usual)


def test_frozen_layers_compute_once(own: Path) -> None:
    _, said = learnt(twins(own)[1], freeze=True)
    assert said == ["the frozen layers' answers were computed once, for every epoch"]


def test_mirror_images_are_those_of_the_pictures(own: Path) -> None:
    found = [score(m, DATA, classes=10, transform=TRANSFORM, batch=8, flip=True).loss for m in twins(own)]
    assert found[0] == found[1]


def test_candidates_of_number_formats_start_from_one_input(own: Path) -> None:
    inputs, labels = torch.rand(4, 1, 28, 28), torch.arange(4)
    before = inputs.clone()
    for module in twins(own):
        one, other = (Trial(module, inputs, labels, COMPUTE) for _ in range(2))
        assert torch.equal(one.gradient, other.gradient)
    assert torch.equal(inputs, before)


def test_layers_are_looked_at_without_changing_what_they_are_shown(own: Path) -> None:
    shown = torch.rand(2, 1, 28, 28)
    before = shown.clone()
    changing = twins(own)[1].eval()
    visit(changing, shown)
    answer, _ = outputs(changing, shown.requires_grad_())  # a leaf, which may not be changed in place
    assert torch.equal(shown, before)
    (gradient,) = torch.autograd.grad(answer.sum(), shown)
    assert gradient.abs().sum() > 0


def test_an_engine_leaves_its_callers_pictures_as_they_are(own: Path, tmp_path: Path) -> None:
    artifact = write_untrained(zoo.model("in-place", model_file=own), tmp_path, model_file=own)
    batch = np.random.default_rng(0).random((2, 1, 28, 28), dtype=np.float32)
    before = batch.copy()
    with BACKENDS.load("pytorch").open(artifact, EngineOptions(model_file=own)) as engine:
        first = engine.run(batch)[0]
        engine.bind(batch)()
        engine.trace(batch, windows=1, runs=1)
        np.testing.assert_array_equal(batch, before)
        np.testing.assert_array_equal(engine.run(batch)[0], first)
