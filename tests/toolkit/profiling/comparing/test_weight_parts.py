"""Every weight of a checkpoint counts, whether a layer's call holds it or not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.toolkit.profiling.comparing.test_networks import run
from toolkit.profiling.comparing.networks import compare_networks

pytest.importorskip("torch")

OWN = """
import torch
from torch import nn
from toolkit.models import ModelSpec

class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 4))
        self.block = nn.Sequential(nn.Linear(4, classes))
        self.block.scale = nn.Parameter(torch.ones(classes))
        self.aux = nn.Linear(4, classes)

    def forward(self, x):
        out = self.block(x.flatten(1) + self.token) * self.block.scale
        return out + self.aux(x.flatten(1)) if self.training else out

MODELS = ModelSpec(name="own-net", family="own", input_shape=(1, 2, 2), classes=3,
                   build=lambda channels, classes: Net(classes))
"""


def test_weights_that_no_call_of_a_layer_holds_are_compared(tmp_path: Path) -> None:
    import safetensors.torch

    from toolkit import zoo
    from toolkit.checkpoints import write_untrained

    code = tmp_path / "own.py"
    code.write_text(OWN)
    spec = zoo.model("own-net", model_file=code)
    first, second = (write_untrained(spec, tmp_path / side, model_file=code, seed=0).path for side in "ab")
    assert compare_networks(first, second, model_file=code).equal
    state = safetensors.torch.load_file(second)
    for name in ("token", "block.scale", "aux.bias"):
        safetensors.torch.save_file({**state, name: state[name] + 2}, second)
        for file in (code, None):  # with its code, and by its names alone
            found = compare_networks(first, second, model_file=file)
            (entry,) = found.changes
            module, _, role = name.rpartition(".")
            assert (entry.change, entry.module, entry.difference) == ("weights", module or name, 2)
            assert (entry.before or "").startswith(f"{role}: float32")
    assert compare_networks("own-net", "own-net", root=tmp_path / "none", model_file=code).equal
    assert run("own-net", "own-net", "--artifacts", tmp_path / "none", "--model-file", code).exit_code == 0


ATTENDING = """
from torch import nn
from toolkit.models import ModelSpec

class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.attend = nn.MultiheadAttention(3, 1, batch_first=True)
        self.act = nn.ReLU()
        self.head = nn.Linear(3, classes)

    def forward(self, x):
        x = x.flatten(2).transpose(1, 2)
        return self.head(self.act(self.attend(x, x, x)[0]).mean(1))

MODELS = ModelSpec(name="attending", family="own", input_shape=(3, 2, 2), classes=3,
                   build=lambda channels, classes: Net(classes))
"""


def test_bare_weights_and_those_of_a_network_that_is_known_are_compared_by_name(tmp_path: Path) -> None:
    import safetensors.torch

    from toolkit import zoo
    from toolkit.checkpoints import write_untrained

    code = tmp_path / "own.py"
    code.write_text(ATTENDING)
    known = write_untrained(zoo.model("attending", model_file=code), tmp_path / "a", model_file=code).path
    bare, state = tmp_path / "bare.safetensors", safetensors.torch.load_file(known)
    safetensors.torch.save_file(state, bare)
    for pair in ((known, bare), (bare, known)):
        found = compare_networks(*pair, model_file=code)
        assert (found.changes, found.same) == ((), 3)  # attend, attend.out_proj and head
    for name in ("head.bias", "attend.out_proj.bias"):
        safetensors.torch.save_file({key: value for key, value in state.items() if key != name}, bare)
        (entry,) = compare_networks(known, bare, model_file=code).changes
        assert (entry.change, entry.module) == ("weights", name.removesuffix(".bias"))
        assert entry.after == "no bias"
        (entry,) = compare_networks(bare, known, model_file=code).changes
        assert entry.before == "no bias"


CALLING = """
from torch import nn
from torch.nn import functional as F
from toolkit.models import ModelSpec

class Net(nn.Module):
    def __init__(self, classes, call):
        super().__init__()
        self.head, self.call = nn.Linear(4, classes), call

    def forward(self, x):
        return self.head(self.call(x.flatten(1)))

CALLS = {
    "twice": lambda x: F.leaky_relu(x * 2, 0.1)[:, :4],
    "same": lambda x: F.leaky_relu(x * 2.0, negative_slope=0.1, inplace=True)[:, :4],
    "thrice": lambda x: F.leaky_relu(x * 3, 0.1)[:, :4],
    "leakier": lambda x: F.leaky_relu(x * 2, 0.2)[:, :4],
    "turned": lambda x: F.leaky_relu(x * 2, 0.1)[:, -4:],
}
MODELS = [
    ModelSpec(name=name, family="own", input_shape=(1, 2, 2), classes=3,
              build=lambda channels, classes, call=call: Net(classes, call))
    for name, call in CALLS.items()
]
"""


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ("same", None),
        ("thrice", ("/mul", "settings 2", "settings 3")),
        ("leakier", ("/leaky_relu", "settings 0.1", "settings 0.2")),
        ("turned", ("/getitem", "settings (::, :4:)", "settings (::, -4::)")),
    ],
)
def test_what_a_function_is_called_with_is_compared(
    tmp_path: Path, other: str, told: tuple[str, str, str] | None
) -> None:
    code = tmp_path / "own.py"
    code.write_text(CALLING)
    found = compare_networks("twice", other, root=tmp_path, model_file=code)
    assert [(e.change, e.module, e.before, e.after) for e in found.changes] == (
        [("settings", *told)] if told else []
    )
