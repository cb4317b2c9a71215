"""`cnnkit train` and `cnnkit sweep` as they are typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import cnnkit
from toolkit.training.recipes import settings

SAMPLE = ("--dataset", "fashion-mnist-sample", "--threads", "1")
PROMISED = {
    "model",
    "recipe",
    "dataset",
    "epochs",
    "seed",
    "test_accuracy",
    "val_accuracy",
    "seconds",
    "images_per_second",
    "checkpoint",
}


def typed(*words: object) -> Result:
    result = CliRunner().invoke(cnnkit.main, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_every_recipe_field_is_an_option_of_train_and_an_axis_of_sweep() -> None:
    for command in ("train", "sweep"):
        text = typed(command, "--help").output
        for setting in settings().values():
            assert f"--{setting.option}" in text


def test_train_prints_one_json_object_with_the_promised_keys(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    words = ("train", "lenet-relu", *SAMPLE, "--epochs", 1, "--batch-size", 32, "--seed", 3, "--json")
    result = typed(*words, "--artifacts", tmp_path)
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads(result.stdout)
    assert set(report) >= PROMISED
    assert (report["model"], report["recipe"], report["epochs"], report["seed"]) == (
        "lenet-relu",
        "default",
        1,
        3,
    )
    assert report["settings"]["batch"] == 32
    assert Path(report["checkpoint"]).is_absolute()
    assert Path(report["checkpoint"]).is_file()
    assert report["peak_memory_bytes"] > 1e8
    assert 0 < report["device_utilisation"] <= 1
    assert len(report["class_accuracy"]) == len(report["confusion"]) == 10
    assert "epoch 1 of 1" in result.stderr


def test_train_speaks_to_people_without_json(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    result = typed("train", "lenet-relu", *SAMPLE, "--epochs", 1, "--flip-test", "--artifacts", tmp_path)
    assert "test accuracy 0." in result.stdout
    assert "95 % interval" in result.stdout
    assert "with mirror images averaged in" in result.stdout


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("train", "lenett"), 1, "Did you mean 'lenet'"),
        (("train", "lenet", "--recipe", "defualt"), 1, "Did you mean 'default'"),
        (("train", "lenet", "--optimizer", "lion"), 2, "it takes sgd or adam or adamw"),
        (("train", "lenet", "--lr", "0"), 1, "nothing would be learned"),
        (("train", "lenet", "--epochs", "-1"), 2, "it takes a whole number from 1"),
        (("train", "lenet", "--momentum", "0.9"), 1, "momentum belongs to sgd"),
        (("train", "lenet", "--loader", "memory", "--workers", "2"), 2, "--workers belong to --loader torch"),
        (("train", "lenet", "--dataset", "folder:/nowhere"), 1, "/nowhere"),
        (("train", "lenet", "--dataset", "fashion-mnist-sample", "--device", "tpu"), 3, "known: cpu, cuda"),
        (("train", "lenet", "--recipe", "none.toml"), 1, "cannot be read"),
        (("sweep", "lenet", "--lr", "0.1,fast"), 2, "lr cannot be 'fast'"),
        (("sweep", "lenet", "--workers", "0,-1"), 2, "no whole number from 0"),
        (("sweep", "lenet", "--precision", "fp8"), 2, "none of auto, fp32"),
        (("sweep", "lenet", "--recipe", "textbok"), 1, "Did you mean 'textbook'"),
        (("sweep", "lenett"), 1, "Did you mean 'lenet'"),
        (("sweep", "lenet", "--dataset", "fashion-mnst"), 1, "Did you mean 'fashion-mnist'"),
    ],
)
def test_what_cannot_be_is_answered_in_one_line(
    words: tuple[str, ...], status: int, said: str, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    result = typed(*words, "--artifacts", tmp_path)
    assert result.exit_code == status, result.output
    assert said in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_sweep_is_a_table_and_one_json_object(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    words = (
        "sweep",
        "lenet-relu",
        *SAMPLE,
        "--images",
        200,
        "--epochs",
        1,
        "--batch-size",
        "32,64",
        "--json",
    )
    result = typed(*words, "--artifacts", tmp_path)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert [cell["batch"] for cell in report["cells"]] == ["32", "64"]
    assert all(cell["status"] == "done" and cell["images_per_second"] for cell in report["cells"])
    assert Path(report["files"]["curves"]).is_file()
    table = typed(*words[:-1], "--resume", "--artifacts", tmp_path)
    assert "images/s" in table.stdout
    assert "from before" in table.stderr


def test_a_sweep_of_which_nothing_could_be_trained_fails(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    result = typed("sweep", "lenet", *SAMPLE, "--momentum", "0.9", "--artifacts", tmp_path)
    assert result.exit_code == 1
    assert "no cell was trained; the first said" in result.stderr
