"""`cnnkit models`: the zoo."""

from __future__ import annotations

from pathlib import Path

import click

from toolkit import cli


@click.command()
@cli.model_file_option
@cli.json_option
def models(*, model_file: Path | None, as_json: bool) -> None:
    """List the networks of the zoo: input, parameters, multiply-adds, data set; yours with --model-file."""
    from toolkit.inspection.listing import models as listed

    found = listed(model_file=model_file, tell=cli.say)
    if as_json:
        cli.emit({"models": found})
    else:
        cli.print_table(cli.as_rich(found.table()))


COMMAND = models
