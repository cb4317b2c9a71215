"""`cnnkit train`: train a network and write its checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from toolkit.cli import printing
from toolkit.cli.options import json_option, on_options
from toolkit.clusters import DEFAULT_CLUSTER
from toolkit.commands._recipe_options import recipe_options
from toolkit.commands._training_options import training_options
from toolkit.training.compute.seats import ToldError, seat_of
from toolkit.training.jobs import WORKERS_WITHOUT_LOADER

if TYPE_CHECKING:
    from toolkit.training.finder import RateCurve


@click.command()
@click.argument("model")
@training_options
@on_options
@click.option(
    "--find-lr",
    is_flag=True,
    help="Train nothing: try learning rates, draw the loss against them and suggest one.",
)
@json_option
@recipe_options
def train(*, model: str, find_lr: bool, as_json: bool, **options: Any) -> None:
    """Train MODEL, a network of the zoo, and write artifacts/MODEL/MODEL.safetensors.

    The best epoch is chosen on images held out from the training set; the test set is read once, at
    the end. A run that was stopped or killed goes on with --resume, to the same weights bit for bit.
    """
    from toolkit.allocation import reuse_freed_memory
    from toolkit.commands._training_screen import Screen, show_outcome
    from toolkit.training.jobs import find_rate
    from toolkit.training.jobs import train as run

    given = {name: value for name, value in options.items() if value is not None}
    if given.get("loader") == "memory" and "workers" in given:
        raise click.UsageError(WORKERS_WITHOUT_LOADER)
    reuse_freed_memory()
    if find_lr:
        if given.pop("on", DEFAULT_CLUSTER) != DEFAULT_CLUSTER:
            raise click.UsageError("--find-lr tries rates on this machine; leave out --on")
        del given["verbose"]
        with Screen() as screen:
            curve = find_rate(model, watcher=screen, **given)
        show_curve(curve, as_json=as_json)
        return
    leads = seat_of().leads
    try:
        with Screen() as screen:
            outcome = run(model, watcher=screen, **given)
    except ToldError as error:
        raise SystemExit(error.exit_status) from None  # the first rank says it
    if not leads:
        return
    if as_json:
        printing.emit(outcome.report())
    else:
        show_outcome(outcome)


def show_curve(curve: RateCurve, *, as_json: bool) -> None:
    """Print what the rate finder found, and where its picture lies."""
    if as_json:
        printing.emit(curve)
        return
    printing.print_table(printing.as_rich(curve.table()))
    drawn = [f"curve in {curve.picture}"] if curve.picture else []
    printing.stdout.print("\n".join([curve.sentence, *drawn]), markup=False, soft_wrap=True)


ORDER = 10
COMMAND = train
