"""`cnnkit clean`: what the cache holds, and how to free it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from toolkit import cli

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.caching import Kept

_ALL = "all"


@click.command()
@click.option(
    "--free", metavar="KIND,…", callback=lambda _c, _p, value: cli.words(value), help="Remove these."
)
@click.option("--unused-days", type=cli.FiniteRange(0), default=0.0, help="Only what was not used so long.")
@cli.json_option
def clean(*, free: tuple[str, ...], unused_days: float, as_json: bool) -> None:
    """Show what the cache holds, by kind; with --free remove what is of a kind, or `all` but downloads.

    All of it is made anew when it is needed. $CNNKIT_CACHE_GB bounds the cache: what was used longest ago
    goes first.
    """
    from toolkit import caching
    from toolkit.artifacts import cache_root

    gone: list[Kept] = []
    if free:
        kinds = caching.droppable_kinds() if _ALL in free else free
        gone = caching.free(kinds, unused_days=unused_days)
    there = caching.kept_things()
    if as_json:
        cli.emit(
            {
                "cache": cache_root().absolute(),
                "limit_bytes": caching.limit_bytes(),
                "size_bytes": sum(one.size_bytes for one in there),
                "freed_bytes": sum(one.size_bytes for one in gone),
                "freed": [_row(one) for one in gone],
                "kept": [_row(one) for one in there],
            }
        )
    else:
        _show(there, gone)


def _row(one: Kept) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "path": one.path.absolute(),
        "what": one.what,
        "size_bytes": one.size_bytes,
        "unused_days": max(0.0, (time.time() - one.used) / 86400),
    }


def _show(there: Sequence[Kept], gone: Sequence[Kept]) -> None:
    from toolkit.artifacts import cache_root
    from toolkit.caching import LIMIT, limit_bytes
    from toolkit.figures import bytes_text
    from toolkit.tables import TextTable

    if gone:
        freed = bytes_text(sum(one.size_bytes for one in gone))
        cli.stdout.print(f"freed {freed}: {len(gone)} things", markup=False)
    total = sum(one.size_bytes for one in there)
    limit = limit_bytes()
    bound = f"of {bytes_text(limit)} that ${LIMIT} allows" if limit is not None else f"no limit (${LIMIT})"
    rows = tuple(
        (one.kind, one.what, f"{max(0.0, time.time() - one.used) / 86400:.0f}", bytes_text(one.size_bytes))
        for one in there
    )
    title = f"{cache_root()}: {bytes_text(total)}, {bound}"
    if not rows:
        cli.stdout.print(title, markup=False, soft_wrap=True)
        return
    head = ("kind", "what", "days unused", "size")
    cli.print_table(cli.as_rich(TextTable(head=head, rows=rows, title=title, figures=2)))
    cli.stdout.print(
        "`--free KIND` removes all of a kind, `--free all` everything but downloads", markup=False
    )


COMMAND = clean
