"""`cnnkit models`: the zoo."""

from __future__ import annotations

import click
from rich.table import Table

from toolkit import catalog, cli


@click.command()
@cli.json_option
def models(*, as_json: bool) -> None:
    """List the networks of the zoo."""
    zoo = catalog.models().values()
    if as_json:
        cli.emit({"models": [{"name": spec.name, "family": spec.family} for spec in zoo]})
        return
    table = Table("model", "input", "data set", "what")
    for spec in zoo:
        table.add_row(spec.name, "×".join(map(str, spec.input_shape)), spec.dataset, spec.summary)
    cli.print_table(table)


COMMAND = models
