"""Networks of people's own files: weights under two names, and more outputs than one."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from cnnkit import front_door
from toolkit.artifacts import open_artifact
from toolkit.checkpoints import load_module, load_state
from toolkit.errors import CnnkitError
from toolkit.outputs import logits_of
from toolkit.training.jobs import make_job
from toolkit.training.run import train

torch = pytest.importorskip("torch")

FILE = """
from toolkit.models import ModelSpec, Recipe


def build(kind):
    def made(channels, classes):
        from torch import nn

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.second = nn.Conv2d(channels, 4, 3, 2), nn.Conv2d(4, 4, 3, 2)
                self.again, self.head = nn.Conv2d(4, 4, 3, 2), nn.Linear(4, classes)
                if kind == "tied":
                    self.again.weight = self.second.weight
                if kind == "named twice":
                    self.again = self.second

            def forward(self, x):
                maps = self.again(self.second(self.first(x).relu()).relu())
                scores = self.head(maps.mean((2, 3)))
                several = {"dictionary": {"maps": maps, "logits": scores}, "pair": (maps, scores)}
                return several.get(kind, scores)

        return Net()

    return made


KINDS = ("tied", "named twice", "dictionary", "pair")
MODELS = [
    ModelSpec(
        name=kind.replace(" ", "-"),
        family="own",
        input_shape=(1, 28, 28),
        build=build(kind),
        recipes={"default": Recipe(name="default", epochs=1, ema_decay=0.5)},
    )
    for kind in KINDS
]
"""


@pytest.mark.parametrize("name", ["tied", "named-twice", "dictionary", "pair"])
def test_a_network_of_ones_own_is_trained_and_opened_again(tmp_path: Path, name: str) -> None:
    own = tmp_path / "own.py"
    own.write_text(FILE)
    job = make_job(
        name,
        dataset="fashion-mnist-sample",
        root=tmp_path,
        model_file=own,
        images=64,
        batch=16,
        save_every_s=0,
        arithmetic="fp32",
        layout="contiguous",
    )
    path = train(job).checkpoint.path
    state = load_state(open_artifact(path))
    assert torch.equal(state["again.weight"], state["second.weight"]) == (name in ("tied", "named-twice"))
    answered = load_module(open_artifact(path), model_file=own)(torch.zeros(2, 1, 28, 28))
    assert isinstance(answered, tuple) == (name in ("dictionary", "pair"))
    assert tuple(logits_of(answered).shape) == (2, 10)


LAZY = """
from toolkit.models import ModelSpec, Recipe


def build(channels, classes):
    from torch import nn

    return nn.Sequential(nn.LazyConv2d(4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(classes))


recipes = {"default": Recipe(name="default", epochs=1)}
MODELS = [ModelSpec(name="lazy", family="own", input_shape=(1, 28, 28), build=build, recipes=recipes)]
"""


def test_layers_that_wait_for_a_batch_to_have_a_shape_are_refused_in_words(tmp_path: Path) -> None:
    own = tmp_path / "lazy.py"
    own.write_text(LAZY)
    job = make_job("lazy", dataset="fashion-mnist-sample", root=tmp_path, model_file=own, images=64)
    with pytest.raises(CnnkitError, match=r"shape .* 0 \(LazyConv2d\), 3 \(LazyLinear\); say what comes in"):
        train(job)
    result = CliRunner().invoke(front_door.main, ["show", "lazy", "--model-file", str(own)])
    assert result.exit_code == 1
    assert "say what comes in, as nn.Conv2d(channels, 16, 3)" in result.stderr


STILL = """
from torch import nn

from toolkit.models import ModelSpec, Recipe


class Still(nn.Module):
    def __init__(self, classes, kind):
        super().__init__()
        self.classes, self.kind = classes, kind
        self.head = nn.Identity() if kind == "bare" else nn.Linear(784, classes)
        if kind == "held":
            self.requires_grad_(False)

    def forward(self, x):
        scores = self.head(x.flatten(1))[:, : self.classes]
        return scores.detach() if self.kind == "detached" else scores


MODELS = [
    ModelSpec(
        name=kind,
        family="own",
        input_shape=(1, 28, 28),
        build=lambda channels, classes, kind=kind: Still(classes, kind),
        recipes={"default": Recipe(name="default", epochs=1)},
    )
    for kind in ("bare", "held", "detached")
]
"""


@pytest.mark.parametrize("arithmetic", ["fp32", "measured"])
@pytest.mark.parametrize("name", ["bare", "held", "detached"])
def test_a_network_in_which_nothing_learns_is_refused_in_words(
    tmp_path: Path, name: str, arithmetic: str
) -> None:
    own = tmp_path / "still.py"
    own.write_text(STILL)
    typed = {"dataset": "fashion-mnist-sample", "root": tmp_path, "model_file": own, "images": 64}
    with pytest.raises(CnnkitError, match=r"^nothing in Still learns: its answers come of no weight"):
        train(make_job(name, **typed, arithmetic=arithmetic))
