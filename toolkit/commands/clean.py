"""`cnnkit clean`: what the cache holds, and how to free it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from toolkit.cli import parameters, printing
from toolkit.cli.options import json_option

if TYPE_CHECKING:
    from toolkit.inspection.cache import CacheContents


@click.command()
@click.option(
    "--free", metavar="KIND,…", callback=lambda _c, _p, value: parameters.words(value), help="Remove these."
)
@click.option(
    "--unused-days", type=parameters.FiniteRange(0), default=0.0, help="Only what was not used so long."
)
@json_option
def clean(*, free: tuple[str, ...], unused_days: float, as_json: bool) -> None:
    """Show what the cache holds, by kind; with --free remove what is of a kind, or `all` but downloads.

    All of it is made anew when it is needed. $CNNKIT_CACHE_GB bounds the cache: what was used longest ago
    goes first.
    """
    from toolkit.inspection.cache import clean as clean_cache

    found = clean_cache(*free, unused_days=unused_days)
    if as_json:
        printing.emit(found.to_json())
    else:
        _show(found)


def _show(found: CacheContents) -> None:
    from toolkit.figures import bytes_text

    if found.freed:
        freed = f"freed {bytes_text(found.freed_bytes)}: {len(found.freed)} things"
        printing.stdout.print(freed, markup=False)
    table = found.table()
    if not table.rows:
        printing.stdout.print(table.title, markup=False, soft_wrap=True)
        return
    printing.print_table(printing.as_rich(table))
    printing.stdout.print(
        "`--free KIND` removes all of a kind, `--free all` everything but downloads", markup=False
    )


COMMAND = clean
