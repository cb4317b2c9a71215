"""`cnnkit models`: the zoo, and the networks of other packages by a pattern."""

from __future__ import annotations

from pathlib import Path

import click

from toolkit import cli


@click.command()
@click.argument("pattern", required=False)
@cli.model_file_option
@cli.json_option
def models(*, pattern: str | None, model_file: Path | None, as_json: bool) -> None:
    """List the networks of the zoo: input, parameters, multiply-adds, data set; yours with --model-file.

    PATTERN with * and ? chooses among them, or among another package's: 'timm:mobilenet*'.
    """
    from toolkit.inspection.listing import models as listed
    from toolkit.zoo import libraries

    found = listed(pattern, model_file=model_file, tell=cli.say)
    if as_json:
        cli.emit({"models": found})
    else:
        cli.print_table(cli.as_rich(found.table()))
        if pattern is None:
            cli.say(
                "other packages' networks: " + ", ".join(f"`cnnkit models '{one}:*'`" for one in libraries())
            )


COMMAND = models
