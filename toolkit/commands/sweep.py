"""`cnnkit sweep`: train a model under every combination of values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import click
from rich.table import Table

from toolkit import cli, zoo
from toolkit.cli import Function
from toolkit.commands._recipe_options import option_names
from toolkit.datasets import dataset_of
from toolkit.errors import CnnkitError, UnavailableError
from toolkit.figures import mebibytes_text
from toolkit.training import Arithmetic, Layout, Loader, recipes
from toolkit.training.sweep import (
    CellResult,
    SweepPlan,
    cell_label,
    open_folder,
    rows,
    run_sweep,
    write_results,
)

_AXES = "cnnkit.axes"


def _axis(*names: str, check: Callable[[str], object], text: str) -> Callable[[Function], Function]:
    """Make an option whose comma-separated values are an axis of the sweep."""

    def remember(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
        if value is None:
            return
        values = []
        for part in value.split(","):
            try:
                read = check(part.strip())
            except (CnnkitError, ValueError) as error:
                raise click.BadParameter(str(error), ctx=context, param=parameter) from None
            # a switch may be written in several ways, which are one cell
            values.append(str(read).lower() if isinstance(read, bool) else part.strip())
        context.meta.setdefault(_AXES, {})[names[0].removeprefix("--")] = tuple(dict.fromkeys(values))

    return click.option(
        *names,
        names[0][2:].replace("-", "_"),
        metavar="V[,V…]",
        expose_value=False,
        callback=remember,
        help=text,
    )


def _one_of(choices: tuple[str, ...]) -> Callable[[str], object]:
    def check(text: str) -> None:
        if text not in choices:
            raise ValueError(f"{text!r} is none of {', '.join(choices)}")

    return check


def _whole(least: int, most: int | None = None) -> Callable[[str], object]:
    wanted = f"whole number from {least}" + (f" to {most}" if most else "")

    def check(text: str) -> None:
        if not text.isdecimal() or int(text) < least or (most is not None and int(text) > most):
            raise ValueError(f"{text!r} is no {wanted}")

    return check


_job_axes = cli.options(
    _axis("--recipe", check=str, text="Recipes of the model, or TOML files."),
    _axis("--seed", check=_whole(0), text="Seeds."),
    _axis("--device", check=cli.check_device, text="cpu, cuda, cuda:N or mps."),
    _axis("--threads", check=_whole(1, cli.MOST_THREADS), text="Threads to compute with."),
    _axis("--precision", check=_one_of(get_args(Arithmetic)), text="What to compute in while training."),
    _axis("--layout", check=_one_of(get_args(Layout)), text="How pixels lie in memory."),
    _axis("--loader", check=_one_of(get_args(Loader)), text="memory or torch."),
    _axis("--workers", check=_whole(0, cli.MOST_WORKERS), text="Processes that load, for DataLoader."),
    _axis("--images", check=_whole(1), text="Train on so many images, evenly over the classes."),
    _axis("--size", check=_whole(1), text="Side of the network's square input, in pixels."),
)


def _recipe_axes(function: Function) -> Function:
    for setting in reversed(list(recipes.settings().values())):
        function = _axis(*option_names(setting), check=setting.parse, text=setting.help)(function)
    return function


@click.command()
@click.argument("model")
@cli.dataset_option
@cli.data_dir_option
@click.option(
    "--cell-timeout",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Stop a cell after so long.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with the newest sweep of this command; failed cells are tried again.",
)
@cli.root_option
@cli.model_file_option
@cli.json_option
@_job_axes
@_recipe_axes
@click.pass_context
def sweep(
    context: click.Context,
    /,
    *,
    model: str,
    dataset: str | None,
    data_dir: Path | None,
    cell_timeout: float | None,
    resume: bool,
    root: Path,
    model_file: Path | None,
    as_json: bool,
) -> None:
    """Train MODEL under every combination of comma-separated values, e.g. --batch 8,64 --lr 0.1,0.9.

    Each cell is a `cnnkit train` in a process of its own. The result is a table, overlaid curves and,
    for two axes, a heat map, under artifacts/MODEL/sweeps.
    """
    spec = zoo.model(model, model_file=model_file)
    axes: dict[str, tuple[str, ...]] = context.meta.get(_AXES, {})
    # what would fail in every cell is told before the first one starts
    dataset_of(dataset or spec.dataset)
    chosen = {name: asdict(recipes.find(spec, name)) for name in axes.get("recipe", ("default",))}
    _insist_on_a_device(axes.get("device", ("cpu",)))
    wanted = {"--dataset": dataset, "--data-dir": data_dir, "--model-file": model_file}
    fixed = [part for word, value in wanted.items() if value is not None for part in (word, str(value))]
    plan = SweepPlan(model=model, axes=axes, fixed=tuple(fixed), recipes=chosen)
    folder = open_folder(root / spec.name / "sweeps", plan, resume=resume)
    count = len(plan.cells())
    cli.say(f"{count} cell{'s' if count > 1 else ''}, results in {folder}")
    results: list[CellResult] = []
    try:
        for result, known in run_sweep(plan, folder, timeout_s=cell_timeout):
            results.append(result)
            _say_cell(plan, result, known, f"{len(results)} of {count}")
    except KeyboardInterrupt:
        raise CnnkitError(f"stopped after {len(results)} of {count} cells; --resume goes on") from None
    files = write_results(plan, folder, results)
    if as_json:
        cli.emit(
            {"model": model, "folder": folder, "axes": axes, "files": files, "cells": rows(plan, results)}
        )
    else:
        show_results(plan, results, files)
    _fail_over(results)


def _fail_over(results: list[CellResult]) -> None:
    """Raise what the cells without a result come to: a script must not take a table with holes for whole."""
    failed = [result for result in results if result.status != "done"]
    if not failed:
        return
    absent = all(result.exit_status == UnavailableError.exit_status for result in failed)
    kind = UnavailableError if absent else CnnkitError
    raise kind(
        f"{len(failed)} of {len(results)} cells not trained; the first said: {failed[0].error}; "
        "--resume tries again what failed"
    )


def _insist_on_a_device(names: tuple[str, ...]) -> None:
    """Raise UnavailableError where none of the devices is here."""
    if any(name.startswith("cpu") for name in names):
        return
    from toolkit.opening import require_torch
    from toolkit.training.compute.format import find_device

    require_torch()
    absent = []
    for name in names:
        try:
            find_device(name)
            return
        except UnavailableError as error:
            absent.append(error)
    raise absent[0]


def _say_cell(plan: SweepPlan, result: CellResult, known: bool, place: str) -> None:
    label = cell_label(result.values, plan.varied)
    if result.status != "done":
        cli.say(f"{place}: {label}: {result.status} after {result.wall_s:.0f} s: {result.error}")
        return
    before = ", from before" if known else ""
    accuracy = result.figure("test_accuracy")
    cli.say(f"{place}: {label}: test accuracy {accuracy:.4f}, {result.figure('seconds'):.1f} s{before}")


def show_results(plan: SweepPlan, results: list[CellResult], files: dict[str, Path]) -> None:
    """Print the table of the first write-up: time, images a second, accuracy and peak memory."""
    table = Table(*plan.varied, "time", "images/s", "test accuracy", "validation", "peak memory")
    on_gpu = any(result.figure("device_peak_memory_bytes") for result in results)
    if on_gpu:
        table.add_column("GPU memory")
    for result in results:
        cells = [result.values[axis] for axis in plan.varied]
        if result.status != "done":
            table.add_row(*cells, f"[red]{result.status}[/red]")
            continue
        rate, held = result.figure("images_per_second"), result.figure("val_accuracy")
        table.add_row(
            *cells,
            f"{result.figure('seconds'):.1f} s",
            f"{rate:,.0f}" if rate else "–",
            f"{result.figure('test_accuracy'):.4f}",
            f"{held:.4f}" if held is not None else "–",
            mebibytes_text(result.figure("peak_memory_bytes")),
            *([mebibytes_text(result.figure("device_peak_memory_bytes"))] if on_gpu else []),
        )
    cli.print_table(table)
    for path in files.values():
        cli.say(str(path))


COMMAND = sweep
