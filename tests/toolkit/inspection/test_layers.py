"""`cnnkit show` and `cnnkit models`: known numbers, and memory as autograd really keeps it."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.toolkit.inspection.conftest import Run, read
from toolkit import zoo
from toolkit.artifacts import open_artifact
from toolkit.inspection.features import look
from toolkit.inspection.layers import dissect, shadow
from toolkit.inspection.training_memory import optimizer_copies
from toolkit.models import Recipe

torch = pytest.importorskip("torch")

# as the AlexNet write-up prints them
ALEXNET_SHAPES = [
    *([1, 96, 54, 54], [1, 96, 54, 54], [1, 96, 26, 26], [1, 256, 26, 26], [1, 256, 26, 26]),
    *([1, 256, 12, 12], [1, 384, 12, 12], [1, 384, 12, 12], [1, 384, 12, 12], [1, 384, 12, 12]),
    *([1, 256, 12, 12], [1, 256, 12, 12], [1, 256, 5, 5], [1, 6400], [1, 4096], [1, 4096], [1, 4096]),
    *([1, 4096], [1, 4096], [1, 4096], [1, 10]),
]


def test_alexnet_is_as_its_write_up_prints_it_but_for_the_layer_that_computes_most(run: Run) -> None:
    found = read(run("show", "alexnet", "--json"))
    assert [row["output_shape"] for row in found["rows"]] == ALEXNET_SHAPES
    assert found["parameters"] == 46_764_746
    assert found["most_compute"] == "features.3"  # the second convolution; the write-up names a later one
    rows = {row["name"]: row for row in found["rows"]}
    assert rows["features.3"]["macs"] == 415_334_400
    assert (found["most_weights"], found["most_memory"]) == ("classifier.1", "classifier.1")
    assert rows["classifier.1"]["weights_bytes"] == 104_873_984


def test_show_prints_a_table_and_says_what_weighs_and_computes_most(run: Run) -> None:
    shown = run("show", "lenet", "--training", "--batch", "2").stdout
    assert "[2, 6, 28, 28]" in shown
    assert "61,706" in shown
    assert "most compute: conv2 (480,000 multiply-adds" in shown
    assert "a training step (default, adamw, fp32)" in shown


def test_the_layer_that_holds_most_in_training_counts_gradients_and_optimizer(run: Run) -> None:
    words = ("show", "alexnet", "--training", "--batch", "128")
    found = read(run(*words, "--json"))
    assert found["most_memory"] == "classifier.1"
    rows = {row["name"]: row for row in found["rows"]}
    dense = rows["classifier.1"]
    # AdamW keeps two moments beside the gradient
    assert dense["held_bytes"] == dense["weights_bytes"] * 4 + dense["saved_bytes"]
    assert (
        "most memory: classifier.1 (422.8 MB: 104.9 MB weights, 314.6 MB gradients and" in run(*words).stdout
    )


def test_training_memory_of_a_small_net_is_what_can_be_counted_by_hand() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    recipe = Recipe(name="r", optimizer="sgd", momentum=0.9)
    held = dissect(net, (5, 8), training=recipe).training
    assert held is not None
    # Linear keeps its input, ReLU its output, which is the next Linear's input and counts once
    assert held.saved_by_row == (5 * 8 * 4, 5 * 4 * 4, 0)
    weights = 4 * (8 * 4 + 4 + 4 * 2 + 2)
    assert (held.gradient_bytes, held.optimizer_bytes) == (weights, weights)


def test_saved_bytes_are_those_of_a_real_step() -> None:
    spec = zoo.model("lenet-maxpool")
    shape = (4, *spec.input_shape)
    recipe = spec.recipe("default")
    shadowed = dissect(shadow(spec, 1, 10), shape, training=recipe).training
    assert shadowed == dissect(spec.build(1, 10), shape, training=recipe).training


@pytest.mark.parametrize(
    ("change", "copies"),
    [
        ({"optimizer": "sgd"}, 0),
        ({"optimizer": "sgd", "momentum": 0.9}, 1),
        ({"optimizer": "adam"}, 2),
        ({"optimizer": "adamw", "ema_decay": 0.99}, 3),
    ],
)
def test_optimizers_keep_what_torch_says(change: dict[str, object], copies: int) -> None:
    recipe = dataclasses.replace(Recipe(name="r"), **change)  # type: ignore[arg-type]
    assert optimizer_copies(recipe) == copies


def test_show_takes_an_artifact_with_its_own_classes_and_a_model_file(run: Run, tmp_path: Path) -> None:
    own = tmp_path / "mine.py"
    own.write_text(
        "from toolkit.models import ModelSpec\n"
        "def build(channels, classes):\n"
        "    from torch import nn\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(channels * 64, classes))\n"
        "MODELS = ModelSpec(name='flat', family='mine', input_shape=(1, 8, 8), build=build)\n"
    )
    found = read(run("show", "flat", "--model-file", own, "--classes", "3", "--channels", "3", "--json"))
    assert (found["input_shape"], found["parameters"]) == ([1, 3, 8, 8], 3 * 64 * 3 + 3)
    run("predict", "lenet", "--untrained", "--dataset", "fashion-mnist-sample", "--artifacts", tmp_path)
    path = tmp_path / "lenet-untrained" / "lenet-untrained.safetensors"
    assert read(run("show", path, "--json"))["parameters"] == 61_706
    listed = read(run("models", "--model-file", own, "--json"))["models"]
    assert listed[-1]["name"] == "flat"


def test_models_lists_every_network_with_its_figures(run: Run) -> None:
    rows = {row["name"]: row for row in read(run("models", "--json"))["models"]}
    assert set(rows) == set(zoo.models())
    assert (rows["lenet"]["parameters"], rows["lenet"]["macs"]) == (61_706, 416_520)
    assert rows["resnet18-cifar"]["macs"] == 555_422_720
    keys = {"name", "family", "input_shape", "classes", "parameters", "macs", "dataset", "source"}
    assert all(keys <= set(row) for row in rows.values())
    assert "46.8 M" in run("models").stdout


def test_features_are_the_first_two_activations_and_their_figures_are_real(
    run: Run, trained: Path, boot: Path, tmp_path: Path
) -> None:
    out = tmp_path / "maps.png"
    words = ("show", "lenet-maxpool", "--features", boot, "--out", out, "--artifacts", trained)
    (model,) = read(run(*words, "--json"))["models"]
    assert [(layer["name"], layer["shape"]) for layer in model["layers"]] == [
        ("act1", [6, 28, 28]),
        ("act2", [16, 10, 10]),
    ]
    with Image.open(out) as image:
        assert image.width > 6 * 56
    artifact = open_artifact(trained / "lenet-maxpool" / "lenet-maxpool.safetensors")
    conv, act = look(artifact, boot, layers=["conv1", "act1"]).layers
    np.testing.assert_array_equal(act.maps, np.maximum(conv.maps, 0))


def test_two_networks_stand_side_by_side(run: Run, trained: Path, boot: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    words = ("show", "lenet-maxpool", "--features", boot, "--artifacts", trained, "--layer", "conv2")
    assert run(*words, "--out", one).exit_code == 0
    other = trained / "lenet-maxpool" / "lenet-maxpool.safetensors"
    drawn = run(*words, "--out", two, "--against", other, "--json")
    assert [entry["model"] for entry in read(drawn)["models"]] == [
        "lenet-maxpool",
        "lenet-maxpool/lenet-maxpool",
    ]
    with Image.open(one) as single, Image.open(two) as double:
        assert double.width > 2 * single.width


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--layer", "act9"), "Did you mean 'act"),
        (("--layer", "fc1"), "puts out 120 figures, no pictures; these do: conv1"),
        (("--out", "maps.gif"), "name it maps.png"),
    ],
)
def test_features_that_cannot_be_drawn_are_told_in_words(
    run: Run, trained: Path, boot: Path, words: tuple[str, ...], message: str
) -> None:
    result = run("show", "lenet-maxpool", "--features", boot, "--artifacts", trained, *words)
    assert result.exit_code == 1
    assert message in result.stderr


@pytest.mark.parametrize(
    ("source", "model", "first"),
    [
        ("lenet", "lenet", "[1, 6, 28, 28]"),
        ("alexnet", "alexnet", "[1, 96, 54, 54]"),
        ("alexnet", "alexnet28", "[1, 64, 14, 14]"),
    ],
)
def test_shapes_are_those_that_the_write_up_prints(
    run: Run, shared: Path, source: str, model: str, first: str
) -> None:
    printed = re.findall(
        r"^(\w+) output shape:\s+torch\.Size\((\[[\d, ]+\])\)",
        (shared / "sources" / f"{source}-fashion-mnist.txt").read_text(),
        re.MULTILINE,
    )
    begin = [shape for _, shape in printed].index(first)
    found = read(run("show", model, "--json"))["rows"]
    rows = [(row["type"], str(row["output_shape"])) for row in found]
    assert rows == printed[begin : begin + len(rows)]


def test_the_model_file_in_the_documentation_works(run: Run, tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "zoo.md").read_text()
    code = page.partition("```python\n")[2].partition("```")[0]
    path = tmp_path / "mine.py"
    path.write_text(code)
    assert read(run("show", "linear", "--model-file", path, "--json"))["parameters"] == 7_850


def test_models_and_show_say_what_is_missing_where_torch_is_not_installed() -> None:
    script = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'torchvision', 'onnx', 'gradio')));"
        "sys.argv[1:] = {words}; from cnnkit import front_door; front_door.main()"
    )

    def without_torch(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", script.format(words=list(words))]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    listed = without_torch("models", "--json")
    assert listed.returncode == 0, listed.stderr
    rows = json.loads(listed.stdout)["models"]
    assert {row["name"] for row in rows} == set(zoo.models())
    assert all(row["parameters"] is None and row["macs"] is None for row in rows)
    shown = without_torch("show", "lenet")
    assert shown.returncode == 3
    assert "pip install 'cnnkit[train]'" in shown.stderr
