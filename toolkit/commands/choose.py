"""`cnnkit choose`: the fastest way to run a network on this machine that keeps the accuracy asked for."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolkit.choices import ALLOWED_POINTS, NOTHING_LOST_POINTS, Budget
from toolkit.choosing import ChooseSettings
from toolkit.cli import parameters, printing
from toolkit.cli.options import (
    backend_option,
    data_dir_option,
    dataset_option,
    json_option,
    model_file_option,
    root_option,
    seed_option,
    untrained_option,
)
from toolkit.cli.overruling import typed
from toolkit.cli.reports import refuse_overwriting, report_option, write_report
from toolkit.errors import CnnkitError
from toolkit.figures import duration_text
from toolkit.machine.cpu import MOST_THREADS

if TYPE_CHECKING:
    from toolkit.choosing.result import Choice


# which options say the fields of a budget
BUDGETS: Mapping[str, tuple[str, ...]] = {
    "within_ms": ("p95", "quantile"),
    "quantile": ("p95", "quantile"),
    "throughput": ("throughput",),
    "max_accuracy_drop": ("max_accuracy_drop",),
    "memory_bytes": ("memory",),
}


def _threads(value: str) -> tuple[int, ...]:
    found = parameters.counts(value)
    if max(found) > MOST_THREADS:
        raise ValueError(f"at most {MOST_THREADS} threads")
    return found


@click.command()
@click.argument("model", required=False)
@click.option(
    "--p95", type=parameters.FiniteRange(0, min_open=True), metavar="MS", help="95 % of the calls within."
)
@click.option(
    "--quantile",
    type=(
        parameters.FiniteRange(0, 1, min_open=True, max_open=True),
        parameters.FiniteRange(0, min_open=True),
    ),
    metavar="Q MS",
    help="Another share of the calls within: 0.99 20.",
)
@click.option("--throughput", is_flag=True, help="The most pictures a second, instead of the least median.")
@click.option(
    "--max-accuracy-drop",
    type=parameters.FiniteRange(0),
    default=ALLOWED_POINTS,
    show_default=True,
    metavar="POINTS",
    help=f"The whole interval must lie within; 0 stands for {NOTHING_LOST_POINTS}.",
)
@click.option(
    "--memory", type=parameters.FiniteRange(0, min_open=True), metavar="MB", help="Of the whole process."
)
@click.option(
    "--batch",
    "batches",
    callback=parameters.checked(parameters.counts),
    metavar="N,…",
    help="[default: 1, or what the file fixes; 1,8,32 with --throughput]",
)
@backend_option("or several by commas, or all [default: all that run here].")
@click.option(
    "--threads",
    callback=parameters.checked(_threads),
    metavar="N,…",
    help="[default: each runtime's own, and fewer]",
)
@click.option(
    "--time",
    "time_s",
    type=parameters.FiniteRange(5),
    default=ChooseSettings.time_s,
    show_default=True,
    metavar="SECONDS",
    help="For measuring; files that are missing are made before.",
)
@click.option("--unjudged", is_flag=True, help="Choose what no picture can judge, too.")
@click.option("--allow-noise", is_flag=True, help="The baseline where the machine is too noisy to tell.")
@click.option("--confirm", is_flag=True, help="Measure the choice that is here again, and change nothing.")
@report_option("--html", "Write one HTML file, with a plot.")
@parameters.options(
    dataset_option,
    data_dir_option,
    untrained_option,
    seed_option,
    root_option,
    model_file_option,
    json_option,
)
def choose_command(
    *,
    model: str | None,
    p95: float | None,
    quantile: tuple[float, float] | None,
    throughput: bool,
    max_accuracy_drop: float,
    memory: float | None,
    batches: tuple[int, ...] | None,
    backend: str | None,
    threads: tuple[int, ...] | None,
    time_s: float,
    unjudged: bool,
    allow_noise: bool,
    confirm: bool,
    html: Path | None,
    dataset: str | None,
    data_dir: Path | None,
    untrained: bool,
    seed: int,
    root: Path,
    model_file: Path | None,
    as_json: bool,
) -> None:
    """Choose how MODEL runs fastest here: backend, precision, threads and settings, within a budget.

    `serve` and `predict` take the choice. Exit 4: nothing keeps to the budget, and the nearest is told.
    """
    from toolkit.choosing.choose import choose
    from toolkit.choosing.confirm import confirm_choice

    if p95 is not None and quantile is not None:
        raise click.UsageError("--p95 MS is --quantile 0.95 MS: name one of them")
    share, within = quantile if quantile is not None else (0.95, p95)
    budget = Budget(
        within_ms=within,
        quantile=share,
        throughput=throughput,
        max_accuracy_drop=max_accuracy_drop,
        memory_bytes=None if memory is None else round(memory * 1e6),
    )
    settings = ChooseSettings(
        batches=batches,
        backends=parameters.words(backend) or None,
        threads=threads,
        time_s=time_s,
        unjudged=unjudged,
        allow_noise=allow_noise,
        seed=seed,
        data_dir=data_dir,
        model_file=model_file,
    )
    refuse_overwriting(html, read=(model, dataset))
    # what was chosen is held to its own budget, but for what was typed
    changes = {name: getattr(budget, name) for name, words in BUDGETS.items() if typed(*words)}
    do = partial(confirm_choice, changes=changes) if confirm else partial(choose, budget=budget)
    found = do(
        model,
        dataset=dataset,
        settings=settings,
        untrained=untrained,
        root=root,
        tell=printing.say,
    )
    if as_json:
        printing.emit(found.to_json())
    else:
        _show(found)
    if html is not None:  # what was found is told first, whatever becomes of the page
        write_report(html, found.html())
    if found.partial:
        raise CnnkitError("interrupted: nothing was chosen or written")


def _show(found: Choice) -> None:
    printing.print_table(printing.as_rich(found.table()))
    if found.rejected:
        printing.print_table(printing.as_rich(found.rejected_table()))
    for note in found.notes:
        printing.stdout.print(f"note: {note}", markup=False, soft_wrap=True)
    if found.chosen is not None:
        printing.stdout.print(f"chosen: {found.chosen.label}, {found.why}", markup=False, soft_wrap=True)
    if found.choice_file is not None:
        from toolkit.artifacts import artifacts_root

        folder = found.choice_file.parents[1]
        usual = folder.resolve() == artifacts_root().resolve()
        where = "" if usual else f" --artifacts {shlex.quote(str(folder))}"
        takes = f"`cnnkit serve {found.model}{where}` takes it"
        printing.say(f"wrote {found.choice_file} in {duration_text(found.seconds, rough=True)}; {takes}")


ORDER = 70
COMMAND = choose_command
