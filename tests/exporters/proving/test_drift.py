"""When parity fails, the first module that drifts is named; networks of one's own come from a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from exporters.proving.drift import drifts, explain
from tests.exporters.conftest import cnnkit_json, cnnkit_run
from toolkit.artifacts import Artifact, open_artifact

OWN = '''
import torch
from torch import nn
from toolkit.models import ModelSpec


class Cancel(nn.Module):
    """A small signal on a large pedestal: it is lost in fp16."""

    def __init__(self):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.lift = nn.Conv2d(1, 1, 1)
        self.drop = nn.Conv2d(1, 1, 1)
        self.head = nn.Linear(4, 4)
        for layer, shift in ((self.lift, 3000.0), (self.drop, -3000.0)):
            nn.init.ones_(layer.weight)
            nn.init.constant_(layer.bias, shift)
        nn.init.eye_(self.head.weight)
        self.head.weight.data *= 50

    def forward(self, x):
        return self.head(torch.flatten(self.drop(self.lift(self.pool(x))), 1))


class Two(nn.Module):
    """Two outputs from one body that is called twice."""

    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(1, 1, 3, padding=1)
        self.first, self.second = nn.Linear(64, 5), nn.Linear(64, 2)

    def forward(self, x):
        x = torch.relu(self.body(torch.relu(self.body(x)) + x)).flatten(1)
        return self.first(x), self.second(x)


MODELS = (
    ModelSpec(name="cancel", family="own", input_shape=(1, 8, 8), classes=4, build=lambda c, k: Cancel()),
    ModelSpec(name="two", family="own", input_shape=(1, 8, 8), classes=5, build=lambda c, k: Two()),
)
'''


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


def test_the_module_that_ruins_fp16_is_named_and_nothing_is_announced(own: Path, tmp_path: Path) -> None:
    arguments = ("export", "cancel", "--model-file", own, "--untrained", "--format", "onnx", "--images", 64)
    result = cnnkit_run(*arguments, "--fp16", "--explain", "--artifacts", tmp_path)
    assert result.exit_code == 4
    said = " ".join(result.stderr.split())
    assert "cancel-untrained.fp16.onnx on a GPU, which rounds every value," in said
    assert "the first module that drifts is drop: its output differs by" in said
    assert "the 2 modules before it agree" in said
    assert not list(tmp_path.rglob("*fp16*"))
    short = cnnkit_run(*arguments, "--fp16", "--artifacts", tmp_path)
    assert "`--explain` names the first module" in short.stderr


def test_a_checkpoint_is_compared_with_a_graph_that_runs_fewer_pictures_at_once(
    checkpoint: Artifact, root: Path
) -> None:
    model = onnx.load(root / "lenet-maxpool" / "lenet-maxpool.onnx")
    weights = next(one for one in model.graph.initializer if one.name == "conv2.weight")
    weights.CopyFrom(onnx.numpy_helper.from_array(2 * onnx.numpy_helper.to_array(weights), weights.name))
    pictures = np.random.default_rng(0).standard_normal((64, 1, 28, 28), np.float32)
    said = explain(checkpoint, model, pictures, "fp32", None)
    assert said.startswith("the first module that drifts is conv2: its output differs by")


def test_a_network_of_ones_own_with_two_outputs_is_exported_whole(own: Path, tmp_path: Path) -> None:
    payload = cnnkit_json(
        *("export", "two", "--model-file", own, "--untrained", "--fp16", "--int8", "--images", 16),
        *("--calibration-images", 16, "--artifacts", tmp_path),
    )
    assert len(payload["artifacts"]) == 6
    for entry in payload["artifacts"]:
        passport = open_artifact(Path(entry["path"])).passport
        assert passport.outputs == ("logits", "logits_2")
        assert passport.model == "two"


def test_drift_is_relative_and_in_order() -> None:
    reference = {"a": np.ones((2, 3)), "b": np.full((2, 3), 100.0), "c": np.zeros((2, 3))}
    found = {"a": np.full((2, 3), 1.00001), "b": np.full((2, 3), 101.0), "c": np.full((2, 3), np.nan)}
    seen = drifts(reference, found, "fp32")
    assert [(one.module, one.explained) for one in seen] == [("a", True), ("b", False), ("c", False)]
    assert seen[1].relative == pytest.approx(0.01)


def test_modules_that_only_one_network_has_are_left_out() -> None:
    one = np.ones((1, 2))
    assert [d.module for d in drifts({"a": one, "gone": one}, {"a": one, "new": one}, "fp32")] == ["a"]
