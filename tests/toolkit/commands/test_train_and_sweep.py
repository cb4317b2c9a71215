"""`cnnkit train` and `cnnkit sweep` as they are typed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cnnkit import front_door
from toolkit import zoo
from toolkit.commands._training_screen import Screen
from toolkit.commands.sweep import show_table
from toolkit.models import Recipe
from toolkit.training import EpochRecord, TrainingReport
from toolkit.training.cell_results import CellResult
from toolkit.training.recipes import settings
from toolkit.training.table import Table

SAMPLE = ("--dataset", "fashion-mnist-sample", "--threads", "1")
SHORT_SWEEP = ("sweep", "lenet-relu", *SAMPLE, "--images", 200, "--epochs", 1)
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
    result = CliRunner().invoke(front_door.main, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_every_recipe_field_is_an_option_of_train_and_an_axis_of_sweep() -> None:
    for command in ("train", "sweep"):
        text = typed(command, "--help").output
        for setting in settings().values():
            assert f"--{setting.word}" in text
        assert "--batch-size" in text
        assert "--learning-rate" in text


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


def test_freezing_random_weights_is_said(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    words = (
        "train",
        "lenet-relu",
        *SAMPLE,
        "--epochs",
        1,
        "--images",
        40,
        "--artifacts",
        tmp_path,
        "--freeze",
    )
    told = "note: --freeze without --pretrained keeps random weights"
    result = typed(*words)
    assert told in result.stderr
    assert "only fc3 learns" in result.stderr
    weights = tmp_path / "weights.pth"
    torch.save(zoo.model("lenet-relu").build(1, 10).state_dict(), weights)
    result = typed(*words, "--pretrained", weights)
    assert result.exit_code == 0, result.output
    assert told not in result.stderr


@pytest.mark.parametrize(
    ("loss", "shown"),
    [
        (0.25, "loss 0.2500"),
        (9999.5, "loss 9999.5000"),
        (1e4, "loss 1.0000e+04"),
        (4.112768120301747e24, "loss 4.1128e+24"),
        (float("inf"), "loss inf"),
        (float("nan"), "loss nan"),
    ],
)
def test_a_loss_is_shown_in_a_few_figures_however_large(
    loss: float, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    record = EpochRecord(
        epoch=1,
        attempt=0,
        rate=0.1,
        train_loss=loss,
        train_accuracy=0.1,
        val_loss=None,
        val_accuracy=None,
        seconds=1.0,
    )
    Screen().epoch(record)
    assert f"{shown}  train 0.1000" in capsys.readouterr().err


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
        (("train", "lenet", "--device", "cdua"), 2, "known: cpu, cuda, cuda:N, mps. Did you mean 'cuda'?"),
        (("train", "lenet", "--device", "cuda:"), 2, "no device 'cuda:'"),
        (("predict", "lenet", "x.png", "--device", "tpu"), 2, "no device 'tpu'; known: cpu, cuda"),
        (("sweep", "lenet", "--device", "cpu,cdua"), 2, "Did you mean 'cuda'?"),
        (("train", "lenet", "--recipe", "none.toml"), 1, "cannot be read"),
        (("sweep", "lenet", "--lr", "0.1,fast"), 2, "lr cannot be 'fast'"),
        (("sweep", "lenet", "--workers", "0,-1"), 2, "no whole number from 0"),
        (("sweep", "lenet", "--threads", "2,99999"), 2, "no whole number from 1 to 1024"),
        (("train", "lenet", "--name", "../x"), 2, "'../x' cannot name an artifact"),
        (("train", "lenet", "--name", ""), 2, "'' cannot name an artifact"),
        (("train", "lenet", "--threads", "99999"), 2, "not in the range 1<=x<=1024"),
        (("train", "lenet", "--workers", "99999"), 2, "not in the range 0<=x<=256"),
        (("sweep", "lenet", "--cell-memory", "nan"), 2, "nan is no finite number"),
        (("sweep", "lenet", "--cell-memory", "inf"), 2, "inf is not in the range 0<x<=1048576"),
        (("sweep", "lenet", "--cell-memory", "1e305"), 2, "not in the range 0<x<=1048576"),
        (("sweep", "lenet", "--precision", "fp8"), 2, "none of auto, measured, fp32"),
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
    words = (*SHORT_SWEEP, "--batch-size", "32,64", "--json")
    result = typed(*words, "--artifacts", tmp_path)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert [cell["batch"] for cell in report["cells"]] == ["32", "64"]
    assert all(cell["status"] == "done" and cell["images_per_second"] for cell in report["cells"])
    assert Path(report["files"]["curves"]).is_file()
    table = typed(*words[:-1], "--resume", "--artifacts", tmp_path)
    assert "images/s" in table.stdout
    assert "from before" in table.stderr


def test_a_switch_is_an_axis_however_it_is_written(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    result = typed(*SHORT_SWEEP, "--json", "--flip", "yes,no,TRUE", "--artifacts", tmp_path)
    assert [(c["flip"], c["status"]) for c in json.loads(result.stdout)["cells"]] == [
        ("true", "done"),
        ("false", "done"),
    ]


REPORT = TrainingReport(
    **{"model": "alexnet", "recipe": "default", "dataset": "mnist", "epochs": 1, "seed": 0},
    **{"checkpoint": "/a.safetensors", "sha256": "", "run": "/runs", "settings": Recipe(name="default")},
    **{"selected_epoch": 1, "test_accuracy": 0.9, "test_accuracy_ci95": (0.8, 1.0), "test_images": 100},
    **{"val_accuracy": None, "class_accuracy": (0.9,), "confusion": ((9, 1),), "flip_test_accuracy": None},
    **{"seconds": 1.0, "images_per_second": None, "arithmetic": "fp32", "layout": "contiguous"},
    **{"threads": 1, "peak_memory_bytes": 300 << 20, "device_peak_memory_bytes": None},
    **{"device_utilisation": None, "history": ()},
)


def test_a_sweep_on_a_gpu_tables_its_memory_too(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    cells = tuple(
        CellResult(
            values={"device": name},
            status="done",
            wall_s=1.0,
            report=dataclasses.replace(REPORT, device_peak_memory_bytes=peak),
        )
        for name, peak in (("cpu", None), ("cuda", 2000 << 20))
    )
    table = Table(model="alexnet", folder=tmp_path, axes={"device": ("cpu", "cuda")}, results=cells)
    assert [row["device_peak_memory_bytes"] for row in table.rows()] == [None, 2000 << 20]
    show_table(table)
    shown = capsys.readouterr().out
    assert "GPU memory" in shown
    assert "2,000 MiB" in shown
    show_table(dataclasses.replace(table, results=cells[:1]))
    assert "GPU memory" not in capsys.readouterr().out


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_a_device_that_was_named_and_is_not_here_is_status_3(command: str, tmp_path: Path) -> None:
    if pytest.importorskip("torch").cuda.is_available():
        pytest.skip("an NVIDIA GPU is here")
    result = typed(command, "lenet", *SAMPLE, "--device", "cuda", "--artifacts", tmp_path)
    assert result.exit_code == 3
    assert "device 'cuda' needs an NVIDIA GPU" in result.stderr
    assert not list(tmp_path.iterdir())  # a sweep says so before its first cell


def test_a_sweep_of_cells_that_all_lack_what_was_named_is_status_3(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    result = typed("sweep", "lenet", *SAMPLE, "--precision", "fp16", "--json", "--artifacts", tmp_path)
    assert result.exit_code == 3, result.output
    assert "fp16 training does not run on cpu" in result.stderr
    assert json.loads(result.stdout)["cells"][0]["status"] == "failed"


def test_a_sweep_of_which_nothing_could_be_trained_fails(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    # the pictures have as many pixels
    result = typed("sweep", "lenet", *SAMPLE, "--shift-pixels", "28", "--artifacts", tmp_path)
    assert result.exit_code == 1
    assert "1 of 1 cells not trained; the first said" in result.stderr


def test_a_sweep_with_a_hole_gives_its_table_and_fails(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    words = ("sweep", "lenet", *SAMPLE, "--images", 200, "--epochs", 1, "--json", "--artifacts", tmp_path)
    result = typed(*words, "--precision", "fp32,fp16")
    assert [cell["status"] for cell in json.loads(result.stdout)["cells"]] == ["done", "failed"]
    assert result.exit_code == 3  # fp16 was named and is not to be had on a CPU
    assert "1 of 2 cells not trained; the first said: " in result.stderr
    assert "--resume tries again what failed" in result.stderr
