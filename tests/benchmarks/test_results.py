"""The table of results: every row's command exists, and the page says what the recorded runs say."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import click
import pytest

import cnnkit
from tests.benchmarks.experiments import EXPERIMENTS, Experiment
from tests.benchmarks.results import recorded
from tests.benchmarks.results_page import write_page
from toolkit import catalog
from toolkit.commands._recipe_options import changes
from toolkit.training import recipes

DOCS = Path(__file__).parents[2] / "docs"


def settings_of(row: Experiment) -> dict[str, Any]:
    """What the row's command would train with today, as the command line reads it."""
    with click.Context(cnnkit.main) as context:
        name, command, rest = cnnkit.main.resolve_command(context, row.command.split()[1:])
        assert command is not None
        # raises UsageError for what is unknown
        made = command.make_context(name, rest, parent=context)
        recipe = recipes.find(catalog.models()[row.model], made.params["recipe_name"])
        return dataclasses.asdict(recipes.override(recipe, changes(made)))


@pytest.mark.parametrize("row", EXPERIMENTS, ids=lambda row: row.key)
def test_every_recorded_run_was_made_with_what_its_command_says_today(row: Experiment) -> None:
    told = json.loads(json.dumps(settings_of(row)))
    for line in recorded():
        if line["experiment"] == row.key:
            # a field that is younger than the run stood at what it has by default
            made = {**told, **line["settings"], "changed": told["changed"], "assumed": told["assumed"]}
            assert made == told, f"seed {line['seed']}"


def test_no_two_experiments_share_a_key() -> None:
    assert max(Counter(row.key for row in EXPERIMENTS).values()) == 1


def test_the_page_is_what_the_recorded_runs_give(tmp_path: Path) -> None:
    write_page(recorded(), tmp_path)
    assert (tmp_path / "results.md").read_text("utf-8") == (DOCS / "results.md").read_text("utf-8")
    assert {p.name for p in (tmp_path / "results").iterdir()} == {
        p.name for p in (DOCS / "results").iterdir() if p.suffix == ".png"
    }


def test_a_miss_is_printed_as_one(tmp_path: Path) -> None:
    runs: list[dict[str, Any]] = [
        {**line, "test_accuracy": 0.5} for line in recorded() if line["experiment"] == "maxpool-best"
    ]
    write_page(runs, tmp_path)
    row = next(r for r in (tmp_path / "results.md").read_text("utf-8").splitlines() if "--recipe best`" in r)
    assert "0.925, missed" in row
    assert "0.5000" in row
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


def test_runs_of_another_torch_than_most_are_named(tmp_path: Path) -> None:
    runs = [*made_up_runs("cifarnet-adam", [1.0, 1.0]), *made_up_runs("cifarnet-step", [1.0])]
    for run, torch in zip(runs, ("9.1", "9.1", "9.0"), strict=True):
        run["torch"] = torch
    write_page(runs, tmp_path)
    assert "torch 9.1; 9.0 for cifarnet, SGD with StepLR." in (tmp_path / "results.md").read_text("utf-8")
