"""Loading weights without a random start first gives the same network, or falls back to the slow way."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from toolkit import zoo
from toolkit.checkpoints import load_module, write_untrained

OWN = '''
import torch
from torch import nn
from toolkit.models import ModelSpec


class Keeps(nn.Module):
    """Keeps a value that no checkpoint holds."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 10)
        self.register_buffer("shift", torch.arange(10.0), persistent=False)

    def forward(self, x):
        return self.head(x.flatten(1)) + self.shift


class Counts(nn.Module):
    """Computes with values while it is built."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 10 if float(torch.ones(3).sum()) == 3 else 1)

    def forward(self, x):
        return self.head(x.flatten(1))


class Hides(nn.Module):
    """Keeps values where neither parameters nor buffers are looked for."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 10)
        self.mean = torch.tensor([0.5])
        self.scales = [torch.full((10,), 2.0)]

    def forward(self, x):
        return self.head(x.flatten(1) - self.mean) * self.scales[0]


MODELS = tuple(
    ModelSpec(name=name, family="own", input_shape=(1, 2, 2), build=lambda c, k, kind=kind: kind())
    for name, kind in (("keeps", Keeps), ("counts", Counts), ("hides", Hides))
)
'''


@pytest.mark.parametrize("name", ["lenet", "cifarnet-bn", "keeps", "counts", "hides"])
def test_a_lean_load_answers_as_a_plain_one(name: str, tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(OWN)
    spec = zoo.model(name, model_file=own)
    artifact = write_untrained(spec, tmp_path)
    plain = load_module(artifact, model_file=own)
    lean = load_module(artifact, model_file=own, lean=True)
    assert not lean.training
    batch = torch.randn(3, *spec.input_shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(lean(batch), plain(batch), rtol=0, atol=0)


def test_weights_that_do_not_fit_are_told_either_way(tmp_path: Path) -> None:
    artifact = write_untrained(zoo.model("lenet"), tmp_path)
    wrong = type(artifact)(
        path=artifact.path,
        passport=type(artifact.passport)(
            **{
                **artifact.passport.__dict__,
                "model": "alexnet28",
            }
        ),
    )
    with pytest.raises(Exception, match="does not hold the weights of alexnet28"):
        load_module(wrong, lean=True)
