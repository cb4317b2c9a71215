"""`cnnkit models`: the zoo, and the networks of other packages by a pattern."""

from __future__ import annotations

from pathlib import Path

import click

from toolkit.cli import printing
from toolkit.cli.options import json_option, model_file_option


@click.command()
@click.argument("pattern", required=False)
@model_file_option
@json_option
def models(*, pattern: str | None, model_file: Path | None, as_json: bool) -> None:
    """List the networks of the zoo: input, parameters, multiply-adds, data set; yours with --model-file.

    PATTERN with * and ? chooses among them, or among another package's: 'timm:mobilenet*'.
    """
    from toolkit.inspection.listing import models as listed
    from toolkit.zoo import libraries

    found = listed(pattern, model_file=model_file, tell=printing.say)
    if as_json:
        printing.emit({"models": found})
    else:
        printing.print_table(printing.as_rich(found.table()))
        if pattern is None:
            printing.say(
                "other packages' networks: " + ", ".join(f"`cnnkit models '{one}:*'`" for one in libraries())
            )


COMMAND = models
