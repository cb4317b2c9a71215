"""Run the write-ups' experiments and write docs/results.md.

python -m tests.benchmarks.results run [--only PATTERN] [--folder NAME=PATH] [--threads N]
python -m tests.benchmarks.results page

`run` goes through the experiments one at a time, skips runs that docs/results/runs.jsonl holds already, and
adds a line to it after each; a stopped one is taken up where it was. `page` writes the page and its pictures
from that file alone.
"""

from __future__ import annotations

import datetime
import fnmatch
import json
import os
import resource
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from tests.benchmarks.experiments import EXPERIMENTS, Experiment
from tests.benchmarks.results_page import write_page
from toolkit.profiling.machine import describe_machine

ROOT = Path(__file__).parents[2]
RUNS = ROOT / "docs/results/runs.jsonl"


def recorded() -> list[dict[str, Any]]:
    """The runs so far, oldest first."""
    return [json.loads(line) for line in RUNS.read_text().splitlines()] if RUNS.exists() else []


@click.group()
def main() -> None:
    """The table of results."""


@main.command()
@click.option("--only", default="*", help="Keys of experiments, as a shell pattern; commas between several.")
@click.option("--folder", "folders", multiple=True, metavar="NAME=PATH", help="Where a folder data set lies.")
@click.option("--threads", type=int, default=os.cpu_count() or 1, show_default=True)
@click.option("--artifacts", type=click.Path(path_type=Path), default=Path("artifacts/results"))
def run(only: str, folders: tuple[str, ...], threads: int, artifacts: Path) -> None:
    """Run what is missing, one at a time."""
    places = dict(folder.split("=", 1) for folder in folders)
    done = {(line["experiment"], line["seed"]) for line in recorded()}
    patterns = only.split(",")
    chosen = [e for e in EXPERIMENTS if any(fnmatch.fnmatch(e.key, pattern) for pattern in patterns)]
    # all first seeds before any second: a stopped queue leaves a whole table
    for seed in range(max((e.seeds for e in chosen), default=0)):
        for experiment in chosen:
            if seed >= experiment.seeds or (experiment.key, seed) in done:
                continue
            if experiment.dataset and experiment.dataset not in places:
                raise click.UsageError(f"{experiment.key} needs --folder {experiment.dataset}=PATH")
            _run_one(experiment, seed, places, threads, artifacts)


def _run_one(
    experiment: Experiment, seed: int, places: dict[str, str], threads: int, artifacts: Path
) -> None:
    arguments = ["train", experiment.model, *experiment.options, "--seed", str(seed)]
    if experiment.dataset:
        arguments += ["--dataset", f"folder:{places[experiment.dataset]}"]
    name = f"{experiment.key}-{seed}"
    arguments += ["--name", name, "--threads", str(threads), "--artifacts", str(artifacts), "--json"]
    # a run that is not recorded but has left its folder was stopped
    resumed = (artifacts / name / "runs").exists()
    arguments += ["--resume"] if resumed else []
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    finished = subprocess.run(
        [sys.executable, "-m", "cnnkit", *arguments], stdout=subprocess.PIPE, text=True, check=False
    )
    if finished.returncode:
        raise click.ClickException(f"{experiment.key}, seed {seed}: exit {finished.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    processor_seconds = None if resumed else round(spent, 1)  # what was spent before the stop is unknown
    line = _line(experiment, seed, json.loads(finished.stdout), processor_seconds)
    RUNS.parent.mkdir(parents=True, exist_ok=True)
    with RUNS.open("a") as file:
        file.write(json.dumps(line) + "\n")
    click.echo(f"{experiment.key} {seed}: {line['test_accuracy']:.4f}, {line['seconds']:.0f} s")


def _line(
    experiment: Experiment, seed: int, result: dict[str, Any], processor_seconds: float | None
) -> dict[str, Any]:
    kept = (
        "test_accuracy", "test_accuracy_ci95", "test_images", "selected_epoch", "confusion", "seconds",
        "images_per_second", "threads", "arithmetic", "layout", "events", "sha256", "settings",
    )  # fmt: skip
    machine = describe_machine(None)
    curve = ("epoch", "train_loss", "train_accuracy", "val_accuracy")
    return {
        "experiment": experiment.key,
        "seed": seed,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        **{key: result[key] for key in kept},
        "processor_seconds": processor_seconds,
        "history": [{key: epoch[key] for key in curve} for epoch in result["history"]],
        "machine": f"{machine['processor']}, {machine['cores']} cores",
        "torch": version("torch"),
    }


@main.command()
def page() -> None:
    """Write docs/results.md and its pictures."""
    write_page(recorded(), ROOT / "docs")


if __name__ == "__main__":
    main()
