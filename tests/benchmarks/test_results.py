"""The table of results: every row's command exists, and the page says what the recorded runs say."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.benchmarks.experiments import EXPERIMENTS, Experiment
from tests.benchmarks.results import main, record, recorded, settings_of
from tests.benchmarks.results_epochs import epochs_table
from tests.benchmarks.results_page import write_page
from toolkit.models import Recipe

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("row", EXPERIMENTS, ids=lambda row: row.key)
def test_every_recorded_run_was_made_with_what_its_command_says_today(row: Experiment) -> None:
    told = settings_of(row)
    # a field that is younger than the run stood at its default
    defaults = json.loads(json.dumps(dataclasses.asdict(Recipe(name=""))))
    for line in recorded():
        if line["experiment"] == row.key:
            made = {**defaults, **line["settings"], "changed": told["changed"], "assumed": told["assumed"]}
            assert made == told, f"seed {line['seed']}"
            assert line.get("command", row.command) == row.command


def test_every_run_is_recorded_once_and_belongs_to_an_experiment() -> None:
    keys = [(line["experiment"], line["seed"]) for line in recorded()]
    assert max(Counter(keys).values()) == 1
    assert {key for key, _ in keys} <= {row.key for row in EXPERIMENTS}


def test_no_two_experiments_share_a_key() -> None:
    assert max(Counter(row.key for row in EXPERIMENTS).values()) == 1


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of all recorded runs, written anew."""
    folder = tmp_path_factory.mktemp("docs")
    write_page(recorded(), folder)
    return folder


def test_the_page_is_what_the_recorded_runs_give(written: Path) -> None:
    assert (written / "results.md").read_text("utf-8") == (DOCS / "results.md").read_text("utf-8")
    assert {p.name for p in (written / "results").iterdir()} == {
        p.name for p in (DOCS / "results").iterdir() if p.suffix == ".png"
    }


def test_the_pictures_are_drawn_from_the_recorded_runs(written: Path) -> None:
    for path in (written / "results").iterdir():
        with Image.open(path) as drawn, Image.open(DOCS / "results" / path.name) as kept:
            if drawn.info.get("Software") != kept.info.get("Software"):
                pytest.skip(
                    f"the pictures were drawn with {kept.info.get('Software')}, not with what is here"
                )
            assert drawn.size == kept.size, path.name
            difference = np.asarray(drawn.convert("L"), int) - np.asarray(kept.convert("L"), int)
            assert np.abs(difference).mean() < 0.1, path.name


def test_a_miss_is_printed_as_one(tmp_path: Path) -> None:
    runs: list[dict[str, Any]] = [
        {**line, "test_accuracy": 0.5} for line in recorded() if line["experiment"] == "maxpool-best"
    ]
    write_page(runs, tmp_path)
    row = next(r for r in (tmp_path / "results.md").read_text("utf-8").splitlines() if "--recipe best`" in r)
    assert "0.925, missed" in row
    assert "0.5000" in row
    assert "fp32; 1 thread" in row
    assert "not run yet" in (tmp_path / "results.md").read_text("utf-8")


def made_up_runs(key: str, losses: list[float]) -> list[dict[str, Any]]:
    """A recorded run's line once for each loss of its last epoch."""
    line = next(line for line in recorded() if line["experiment"] == key)
    return [
        {**line, "seed": seed, "history": [{**line["history"][-1], "train_loss": loss}]}
        for seed, loss in enumerate(losses)
    ]


def test_last_epochs_stand_beside_what_the_write_up_prints_of_them(tmp_path: Path) -> None:
    write_page(made_up_runs("cifarnet-adam", [0.9, 0.7, 0.75]), tmp_path)
    page = (tmp_path / "results.md").read_text("utf-8")
    assert "| Adam | 0.779 | 0.750 (0.700 to 0.900) |" in page
    assert "| SGD with StepLR | 1.068 | not run yet |" in page


def test_accuracies_by_epoch_are_means_of_a_sweep(tmp_path: Path) -> None:
    path = tmp_path / "sweep.csv"
    path.write_text(
        "seed,recipe,epochs,test_accuracy\n0,textbook,1,0.1\n1,textbook,1,0.2\n0,textbook-adam,12,0.6\n"
    )
    (text,) = epochs_table(path)
    assert "| 1 | 0.16 | 0.150 ± 0.071 | 0.48 | not run yet |" in text
    assert "| 12 | 0.56 | not run yet | 0.65 | 0.600 |" in text


def test_runs_of_another_torch_than_most_are_named(tmp_path: Path) -> None:
    runs = [*made_up_runs("cifarnet-adam", [1.0, 1.0]), *made_up_runs("cifarnet-step", [1.0])]
    for run, torch in zip(runs, ("9.1", "9.1", "9.0"), strict=True):
        run["torch"] = torch
    write_page(runs, tmp_path)
    assert "torch 9.1; 9.0 for cifarnet, SGD with StepLR." in (tmp_path / "results.md").read_text("utf-8")


def test_a_row_of_which_seeds_are_missing_says_so(tmp_path: Path) -> None:
    runs = [line for line in recorded() if line["experiment"] == "maxpool-best" and line["seed"] < 2]
    write_page(runs, tmp_path)
    row = next(r for r in (tmp_path / "results.md").read_text("utf-8").splitlines() if "--recipe best`" in r)
    assert "0.925, reached so far | 2 of 5 |" in row


def test_a_run_is_recorded_once(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    first, second = made_up_runs("cifarnet-adam", [0.9, 0.8])
    for line in (first, second, {**first, "test_accuracy": 0.0}):
        record(line, path)
    assert recorded(path) == [first, second]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--only", "lenet-defualt"), "Did you mean 'lenet-default'?"),
        (("--folder", "cifar10-jpeg75"), "is not NAME=PATH with a folder that exists"),
        (("--folder", "elsewhere=/"), "NAME of cifar10-jpeg75"),
    ],
)
def test_a_queue_refuses_what_it_cannot_do_before_it_begins(words: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(main, ["run", *words])
    assert result.exit_code == 2
    assert said in " ".join(result.output.replace("│", " ").split())
