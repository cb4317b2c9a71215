"""`cnnkit datasets`: which data sets there are, which are at hand, and fetching one."""

from __future__ import annotations

from pathlib import Path

import click

from toolkit.cli import printing
from toolkit.cli.options import data_dir_option, json_option


@click.command()
@click.option("--fetch", "wanted", metavar="NAME", help="Find this data set, or download it into your cache.")
@data_dir_option
@json_option
def datasets(*, wanted: str | None, data_dir: Path | None, as_json: bool) -> None:
    """List the data sets, or find or fetch one."""
    from toolkit.inspection.listing import datasets as find

    found = find(fetch=wanted, data_dir=data_dir)
    if as_json:
        printing.emit(found.to_json())
    elif wanted:
        printing.stdout.print(f"{wanted}: {found.named[0].source}", markup=False, soft_wrap=True)
    else:
        printing.print_table(printing.as_rich(found.table()))


COMMAND = datasets
