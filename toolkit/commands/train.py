"""`cnnkit train`: train a network and write its checkpoint."""

from __future__ import annotations

from typing import Any

import click

from toolkit import cli
from toolkit.commands._recipe_options import recipe_options
from toolkit.commands._training_options import training_options
from toolkit.training.jobs import WORKERS_WITHOUT_LOADER


@click.command()
@click.argument("model")
@training_options
@cli.json_option
@recipe_options
def train(*, model: str, as_json: bool, **options: Any) -> None:
    """Train MODEL, a network of the zoo, and write artifacts/MODEL/MODEL.safetensors.

    The best epoch is chosen on images held out from the training set; the test set is read once, at
    the end. A run that was stopped or killed goes on with --resume, to the same weights bit for bit.
    """
    from toolkit.allocation import reuse_freed_memory
    from toolkit.commands._training_screen import Screen, show_outcome
    from toolkit.training.jobs import train as run

    given = {name: value for name, value in options.items() if value is not None}
    if given.get("loader") == "memory" and "workers" in given:
        raise click.UsageError(WORKERS_WITHOUT_LOADER)
    reuse_freed_memory()
    with Screen() as screen:
        outcome = run(model, watcher=screen, **given)
    if as_json:
        cli.emit(outcome.report())
    else:
        show_outcome(outcome)


COMMAND = train
