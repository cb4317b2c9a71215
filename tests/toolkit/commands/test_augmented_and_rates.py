"""`show --augmented`, `train --find-lr` and `sweep --folds` as people type them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from cnnkit import front_door
from toolkit.artifacts import shipped_root
from toolkit.clusters.local import run_child
from toolkit.inspection.augmented import augmented

pytest.importorskip("torch")

WEIGHTS = shipped_root() / "lenet-maxpool" / "lenet-maxpool.safetensors"
SAMPLE = ("--dataset", "fashion-mnist-sample")


def test_a_sheet_shows_what_training_shows_the_network(tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    words = ["show", "lenet-relu", "--augmented", *SAMPLE, "--set", "mixup=1", "--set", "flip=no"]
    words += ["--images", "60", "--fold", "1/3", "--size", "20", "--pretrained", str(WEIGHTS)]
    result = CliRunner().invoke(front_door.main, [*words, "--out", str(path), "--json"])
    assert result.exit_code == 0, result.output
    assert "40 images to train on" in result.stderr
    assert "input: 20×20 pixels with the pretrained network's mean" in result.stderr
    told = json.loads(result.stdout)
    assert told["sheet"] == str(path)
    assert path.stat().st_size > 10_000
    for picture in told["pictures"]:
        assert sum(picture["shares"].values()) == pytest.approx(1)
    assert any(len(picture["shares"]) == 2 for picture in told["pictures"])


@pytest.mark.parametrize("pixels", ["standardise", "unit", "half"])
def test_a_sheets_pictures_are_those_of_the_data_set_where_nothing_is_augmented(pixels: str) -> None:
    plain = {"flip": False, "shift_pixels": 0, "pixels": pixels}
    found = augmented("lenet-relu", dataset="fashion-mnist-sample", changes=plain)
    for shown in found.pictures:
        assert np.array_equal(shown.plain, shown.augmented)
        assert len(shown.shares) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--set", "mixup=1"), "--set goes with --augmented, not with the table of layers"),
        (("--columns", "label=2"), "--columns goes with --augmented, not with the table of layers"),
        (("--layer", "act1"), "--layer goes with --features, not with the table of layers"),
        (("--recipe", "fast"), "--recipe goes with --training and --augmented"),
        (("--pretrained",), "--pretrained takes a FILE; without one it goes with --augmented"),
        (("--augmented", "--set", "mixup"), "--set takes FIELD=VALUE, not 'mixup'"),
        (
            ("--augmented", "--untrained"),
            "goes with the table of layers and --features, not with --augmented",
        ),
        (("--augmented", "--batch", "8"), "not with --augmented; --set batch=… is the recipe's"),
        (("--augmented", "--features", "x.png"), "--features and --augmented draw two sheets"),
        (
            ("--features", "x.png", "--classes", "3"),
            "--classes goes with the table of layers, not with --feat",
        ),
    ],
)
def test_what_does_not_go_together_is_wrong_usage(words: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(front_door.main, ["show", "lenet-relu", *words])
    assert result.exit_code == 2
    assert said in result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--pretrained", "nothere.pth"), "no file nothere.pth; weights are"),
        (("--pretrained", "imagenet"), "there are no ImageNet weights for lenet-relu"),
        (("--teacher", "nonsense"), "no model 'nonsense'; known"),
        (("--set", "class-weights=nothere.json"), "--class-weights nothere.json cannot be read"),
        (("--freeze", "--set", "unfreeze-at=50", "--set", "epochs=2"), "there are 2: --epochs 51 or more"),
    ],
)
def test_a_sheet_is_not_drawn_of_what_a_training_refuses(
    words: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(front_door.main, ["show", "lenet-relu", "--augmented", *SAMPLE, *words])
    assert (result.exit_code, said in result.stderr) == (1, True), result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("word", ["seed", "dataset", "recipe", "root", "no-such"])
def test_what_is_no_recipe_field_is_not_set(word: str) -> None:
    result = CliRunner().invoke(
        front_door.main, ["show", "lenet-relu", "--augmented", *SAMPLE, "--set", f"{word}=1"]
    )
    assert result.exit_code == 1
    assert f"no recipe field '{word.replace('-', '_')}'; known: " in result.stderr


def test_the_rate_finder_prints_one_object_and_leaves_no_checkpoint(tmp_path: Path) -> None:
    words = ["train", "lenet-relu", "--find-lr", *SAMPLE, "--artifacts", str(tmp_path), "--json"]
    result = CliRunner().invoke(front_door.main, words)
    assert result.exit_code == 0, result.output
    curve = json.loads(result.stdout)
    assert len(curve["rates"]) == len(curve["losses"]) > 100
    assert 1e-5 < curve["suggested"] < 1
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_child_that_has_done_enough_is_ended() -> None:
    code = "import time; print('begun', flush=True); time.sleep(60)"
    began = time.monotonic()
    status, output = run_child([sys.executable, "-c", code], enough=lambda: time.monotonic() - began > 0.5)
    assert status < 0
    assert time.monotonic() - began < 30
    assert output in (b"begun\n", b"")
    assert run_child([sys.executable, "-c", "print(1)"], enough=lambda: False) == (0, b"1\n")
    with pytest.raises(subprocess.TimeoutExpired):
        run_child([sys.executable, "-c", code], timeout_s=0.2, enough=lambda: False)
