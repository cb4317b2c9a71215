"""The table of results: every row's command exists, and the page says what the recorded runs say."""

from __future__ import annotations

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

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("row", EXPERIMENTS, ids=lambda row: row.key)
def test_every_experiment_is_a_command_with_a_recipe(row: Experiment) -> None:
    words = row.command.split()[1:]
    with click.Context(cnnkit.main) as context:
        name, command, rest = cnnkit.main.resolve_command(context, words)
        assert command is not None
        command.make_context(name, rest, parent=context)  # raises UsageError for what is unknown
    recipe = words[words.index("--recipe") + 1] if "--recipe" in words else "default"
    assert recipe in catalog.models()[row.model].recipes


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
