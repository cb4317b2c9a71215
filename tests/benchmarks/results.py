"""Run the write-ups' experiments and write docs/results.md.

python -m tests.benchmarks.results run [--only PATTERN] [--folder NAME=PATH] [--threads N]
python -m tests.benchmarks.results page

`run` goes through the experiments one at a time, skips runs that docs/results/runs.jsonl holds already, and
adds a line to it after each; a stopped one is taken up where it was, and one that ended unrecorded is
recorded. What fails is told at the end. `page` writes the page and its pictures from that file alone.
"""

from __future__ import annotations

import dataclasses
import datetime
import fnmatch
import json
import resource
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from cnnkit import front_door
from tests.benchmarks.experiments import EXPERIMENTS, Experiment
from tests.benchmarks.results_page import write_page
from toolkit import zoo
from toolkit.artifacts import write_bytes
from toolkit.clusters.local import run_child
from toolkit.errors import unknown_name
from toolkit.locking import lock
from toolkit.profiling.measuring.machine import describe_machine
from toolkit.training import recipes
from toolkit.training.record.folder import unfinished_runs

ROOT = Path(__file__).parents[2]
RUNS = ROOT / "docs/results/runs.jsonl"


def recorded(path: Path = RUNS) -> list[dict[str, Any]]:
    """The runs so far, oldest first."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def settings_of(row: Experiment) -> dict[str, Any]:
    """What the row's command would train with today, as the command line reads it and JSON writes it."""
    with click.Context(front_door.main) as context:
        name, command, rest = front_door.main.resolve_command(context, row.command.split()[1:])
        assert command is not None
        # raises UsageError for what is unknown
        made = command.make_context(name, rest, parent=context)
        recipe = recipes.find(zoo.models()[row.model], made.params["recipe"])
        changes = {name: made.params[name] for name in recipes.settings() if made.params[name] is not None}
        told: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(recipes.override(recipe, changes))))
        return told


@click.group()
def main() -> None:
    """The table of results."""


def _chosen(context: click.Context, parameter: click.Parameter, value: str) -> list[Experiment]:
    for pattern in value.split(","):
        if not any(fnmatch.fnmatch(e.key, pattern) for e in EXPERIMENTS):
            error = unknown_name("experiment", pattern, [e.key for e in EXPERIMENTS])
            raise click.BadParameter(str(error), ctx=context, param=parameter)
    return [e for e in EXPERIMENTS if any(fnmatch.fnmatch(e.key, p) for p in value.split(","))]


def _places(context: click.Context, parameter: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    known = sorted({e.dataset for e in EXPERIMENTS if e.dataset})
    places = {}
    for value in values:
        name, _, path = value.partition("=")
        if name not in known or not Path(path).is_dir() or not path:
            raise click.BadParameter(
                f"{value!r} is not NAME=PATH with a folder that exists and NAME of {', '.join(known)}",
                ctx=context,
                param=parameter,
            )
        places[name] = path
    return places


@main.command()
@click.option(
    "--only",
    "chosen",
    default="*",
    callback=_chosen,
    help="Keys of experiments, as a shell pattern; commas between several.",
)
@click.option(
    "--folder",
    "places",
    multiple=True,
    metavar="NAME=PATH",
    callback=_places,
    help="Where a folder data set lies.",
)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--artifacts", type=click.Path(path_type=Path), default=Path("artifacts/results"))
def run(chosen: list[Experiment], places: dict[str, str], threads: int, artifacts: Path) -> None:
    """Run what is missing, one at a time."""
    artifacts.mkdir(parents=True, exist_ok=True)
    held = lock(artifacts / "queue.lock")
    if held is None:
        raise click.ClickException(f"another queue works in {artifacts}; wait for it, or name another folder")
    missing = list(_missing(chosen))
    absent = {e.dataset for e, _ in missing if e.dataset} - places.keys()
    if absent:
        raise click.UsageError(f"these runs need {', '.join(f'--folder {name}=PATH' for name in absent)}")
    failed = []
    with held:
        for experiment, seed in missing:
            arguments = ["train", experiment.model, *experiment.options, "--seed", str(seed)]
            if experiment.dataset:
                arguments += ["--dataset", f"folder:{places[experiment.dataset]}"]
            line = _run_one(experiment, seed, [*arguments, "--threads", str(threads)], artifacts)
            if line is None:
                failed.append(f"{experiment.key} {seed}")
                continue
            record(line)
            click.echo(f"{experiment.key} {seed}: {line['test_accuracy']:.4f}, {line['seconds']:.0f} s")
    if failed:
        raise click.ClickException(f"not trained, see above: {', '.join(failed)}")


def _missing(chosen: Sequence[Experiment]) -> Iterator[tuple[Experiment, int]]:
    """Yield the runs that are not recorded: all first seeds before any second, for a whole table soon."""
    done = {(line["experiment"], line["seed"]) for line in recorded()}
    for seed in range(max((e.seeds for e in chosen), default=0)):
        for experiment in chosen:
            if seed < experiment.seeds and (experiment.key, seed) not in done:
                yield experiment, seed


def record(line: dict[str, Any], path: Path = RUNS) -> None:
    """Add a run's line to those so far, unless another process has recorded that run meanwhile."""
    before = recorded(path)
    if any((known["experiment"], known["seed"]) == (line["experiment"], line["seed"]) for known in before):
        return
    write_bytes(path, "".join(json.dumps(each) + "\n" for each in [*before, line]).encode())


def _run_one(
    experiment: Experiment, seed: int, arguments: Sequence[str], artifacts: Path
) -> dict[str, Any] | None:
    """Train one run, or go on with it, or read what came of it; None where it failed."""
    name = f"{experiment.key}-{seed}".replace(".", "-")  # names of artifacts hold no dots
    runs = artifacts / name / "runs"
    found = _report(runs, settings_of(experiment))
    if found is not None:
        return _line(experiment, seed, found, resumed=None, processor_seconds=None)
    resumed = bool(unfinished_runs(runs))
    command = [*arguments, "--name", name, "--artifacts", str(artifacts), "--json"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    status, output = run_child([sys.executable, "-m", "cnnkit", *command, *(["--resume"] if resumed else [])])
    if status:
        return None
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    processor_seconds = None if resumed else round(spent, 1)  # what was spent before the stop is unknown
    return _line(experiment, seed, json.loads(output), resumed=resumed, processor_seconds=processor_seconds)


def _report(runs: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """Return what came of a run that ended with these settings and was not recorded."""
    for path in sorted(runs.glob("*/report.json"), reverse=True):
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if found["settings"] == settings:
            return found
    return None


def _line(
    experiment: Experiment,
    seed: int,
    result: dict[str, Any],
    *,
    resumed: bool | None,
    processor_seconds: float | None,
) -> dict[str, Any]:
    kept = (
        "test_accuracy", "test_accuracy_ci95", "test_images", "selected_epoch", "confusion", "seconds",
        "images_per_second", "threads", "arithmetic", "layout", "events", "sha256", "settings",
    )  # fmt: skip
    machine = describe_machine(None)
    curve = ("epoch", "train_loss", "train_accuracy", "val_accuracy")
    begun = json.loads((Path(result["run"]) / "run.json").read_text("utf-8"))["torch"]
    return {
        "experiment": experiment.key,
        "command": experiment.command,
        "seed": seed,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        **{key: result[key] for key in kept},
        "resumed": resumed,
        "processor_seconds": processor_seconds,
        "history": [{key: epoch[key] for key in curve} for epoch in result["history"]],
        "machine": f"{machine.processor}, {machine.cores} cores",
        "torch": " then ".join(dict.fromkeys((begun, version("torch")))),
    }


@main.command()
def page() -> None:
    """Write docs/results.md and its pictures."""
    lines = recorded()
    if not lines:
        raise click.ClickException(f"{RUNS} holds no run yet; `run` makes some")
    write_page(lines, ROOT / "docs")


if __name__ == "__main__":
    main()
