"""`cnnkit datasets`: which data sets there are, which are at hand, and fetching one."""

from __future__ import annotations

from pathlib import Path

import click
from rich.markup import escape
from rich.table import Table

from toolkit import cli
from toolkit.datasets import dataset_names, dataset_of, own_sources
from toolkit.errors import CnnkitError


@click.command()
@click.option("--fetch", "wanted", metavar="NAME", help="Find this data set, or download it into your cache.")
@cli.data_dir_option
@cli.json_option
def datasets(*, wanted: str | None, data_dir: Path | None, as_json: bool) -> None:
    """List the data sets, or find or fetch one."""
    rows = (
        [_row(wanted, data_dir, fetch=True)]
        if wanted
        else [_row(name, data_dir, fetch=False) for name in dataset_names()]
    )
    if as_json:
        own = [
            {"scheme": spec.scheme, "example": spec.example, "summary": spec.summary, "layout": spec.layout}
            for spec in own_sources()
        ]
        cli.emit({"datasets": rows, "own": own})
        return
    if wanted:
        cli.stdout.print(f"{wanted}: {rows[0]['source']}", soft_wrap=True)
        return
    table = Table("data set", "pictures", "licence", "where")
    for row in rows:
        table.add_row(
            row["name"], row["summary"], row["licence"], row["source"] or f"not here: --fetch {row['name']}"
        )
    for spec in own_sources():
        table.add_row(spec.example, spec.summary, spec.licence, escape(spec.layout or ""))
    cli.print_table(table)


def _row(name: str, data_dir: Path | None, *, fetch: bool) -> dict[str, str | None]:
    spec = dataset_of(name)
    row: dict[str, str | None] = {"name": name, "summary": spec.summary, "licence": spec.licence}
    try:
        data = spec.load(name, data_dir, fetch, None)
    except CnnkitError as error:
        if fetch:
            raise
        return {**row, "source": None, "fingerprint": None, "why_not": str(error)}
    return {**row, "source": data.source, "fingerprint": data.fingerprint, "why_not": None}


COMMAND = datasets
