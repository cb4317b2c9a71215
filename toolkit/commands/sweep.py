"""`cnnkit sweep`: train a model under every combination of values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from toolkit.cli import parameters, printing
from toolkit.cli.options import (
    data_dir_option,
    dataset_option,
    json_option,
    model_file_option,
    on_options,
    root_option,
)
from toolkit.commands._recipe_options import option_names
from toolkit.commands._training_options import reading_options, start_options
from toolkit.errors import CnnkitError
from toolkit.splits import MOST_FOLDS
from toolkit.training.axes import axes, axis_values
from toolkit.training.fields import FieldSpec
from toolkit.training.search_plan import MOST_TRIALS, USUAL
from toolkit.training.table import Table

USUAL_WORDS = ", ".join(USUAL)
_MOST_GIB = 1 << 20  # a petabyte: more is no machine's, and the bytes of a figure without end are none


def _axis(word: str, setting: FieldSpec | None) -> Callable[[parameters.Function], parameters.Function]:
    """Make an option whose comma-separated values are an axis of the sweep."""

    def read(context: click.Context, parameter: click.Parameter, value: str | None) -> Any:
        if value is None:
            return None
        parts = [part.strip() for part in value.split(",")]
        try:
            if word == "device":
                parts = [parameters.check_device(part) for part in parts]
            return axis_values(word, parts)
        except CnnkitError as error:
            raise click.BadParameter(str(error), ctx=context, param=parameter) from None

    return click.option(
        *(option_names(setting) if setting else [f"--{word}"]),
        word.replace("-", "_"),
        metavar="V[,V…]",
        callback=read,
        help=setting.help if setting else "Recipes of the model, or TOML files.",
    )


@click.command()
@click.argument("model")
@dataset_option
@data_dir_option
@reading_options
@start_options
@click.option(
    "--cell-timeout",
    "cell_timeout_s",
    type=parameters.FiniteRange(0, min_open=True),
    metavar="SECONDS",
    help="Stop a cell after so long.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with the newest sweep of this command; failed cells are tried again.",
)
@click.option("--folds", type=click.IntRange(2, MOST_FOLDS), metavar="K", help="Vary the fold held out.")
@click.option(
    "--search",
    type=click.IntRange(1, MOST_TRIALS),
    metavar="N",
    help="Draw N trials by what earlier ones came to, instead of every combination.",
)
@click.option(
    "--over",
    callback=parameters.checked(parameters.words),
    metavar="FIELD[,FIELD…]",
    help=f"With --search: recipe fields to vary, in ranges that they declare (default: {USUAL_WORDS}).",
)
@click.option(
    "--search-seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of what is drawn."
)
@click.option(
    "--search-ahead",
    type=click.IntRange(0, MOST_TRIALS),
    default=0,
    show_default=True,
    metavar="K",
    help="Draw a trial without the results of the K before it, which may then run along with it.",
)
@on_options
@click.option(
    "--cell-memory",
    "cell_memory_bytes",
    type=parameters.FiniteRange(0, _MOST_GIB, min_open=True),
    callback=lambda _context, _parameter, value: None if value is None else int(value * 2**30),
    metavar="GIB",
    help="Memory that a machine of a cluster must have for a cell.",
)
@root_option
@model_file_option
@json_option
@parameters.options(*(_axis(word, setting) for word, setting in axes().items()))
def sweep(*, model: str, as_json: bool, **options: Any) -> None:
    """Train MODEL under every combination of comma-separated values, e.g. --batch 8,64 --lr 0.1,0.9.

    With --search N: N trials, drawn by what the earlier ones came to. With --on CLUSTER cells run on other
    machines, as many at once as have a CPU for each thread of theirs; their files come back here.

    Each cell is a `cnnkit train` in a process of its own. The result is a table, overlaid curves and,
    for two axes, a heat map, under artifacts/MODEL/sweeps.
    """
    from toolkit.training.sweep import sweep as run

    given = {name: value for name, value in options.items() if value is not None}
    table = run(model, tell=printing.say, **given)
    if as_json:
        printing.emit(table.to_json())
    else:
        show_table(table)
    table.require()


def show_table(table: Table) -> None:
    """Print the cells, and where files of theirs lie."""
    shown = printing.as_rich(table.text())
    for row, result in zip(shown.rows, table.results, strict=True):
        row.style = {"done": None, "pruned": "dim", "diverged": "dim"}.get(result.status, "red")
    printing.print_table(shown)
    if table.best is not None and len(table.results) > 1:
        rivals = "best " if table.compares else ""
        said = f"{rivals}on held-out images: {table.best.sentence(table.varied)}"
        printing.stdout.print(said, markup=False, soft_wrap=True)
    for path in table.files.values():
        printing.say(str(path))


ORDER = 100
COMMAND = sweep
