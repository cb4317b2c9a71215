"""`cnnkit compare`: which module became slower between two profiles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolkit import cli

if TYPE_CHECKING:
    from toolkit.profiling.result import Profile


def _share(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    try:
        share = float(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
    except ValueError:
        raise click.BadParameter("a share, as in 5% or 0.05") from None
    if not 0 <= share < 100:
        raise click.BadParameter("a share of 0 or more, as in 5% or 0.05")
    return share


@click.command("compare")
@click.argument("before", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("after", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--fail-over", callback=_share, metavar="5%", help="Exit with 4 if a module is slower by more.")
@click.option("--markdown", is_flag=True, help="Print Markdown, for a pull request.")
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), help="Write both into one HTML file."
)
@cli.json_option
def compare_command(
    *,
    before: Path,
    after: Path,
    fail_over: float | None,
    markdown: bool,
    html: Path | None,
    as_json: bool,
) -> None:
    """Compare two JSON profiles row by row: BEFORE.json with AFTER.json."""
    from toolkit.profiling.comparing.conditions import context_of, refuse_incomplete
    from toolkit.profiling.comparing.differences import SMALLEST_SHARE, compare, refuse_unjudged, regressions
    from toolkit.profiling.reports.comparison import gate, markdown_report, print_comparison

    first, second = _read(before), _read(after)
    found = compare(first, second, smallest=SMALLEST_SHARE if fail_over is None else fail_over)
    slower, context = regressions(found, over=fail_over or 0.0), context_of(first, second)
    if as_json:
        files = {"before": before, "after": after}
        cli.emit({**files, "differences": found, "regressions": slower, **cli.plain(context)})
    elif markdown:
        click.echo(markdown_report(found, first, second))
    else:
        print_comparison(found, first, second, cli.stdout)
    if html:
        from toolkit.artifacts import write_bytes
        from toolkit.profiling.reports.html import html_report

        write_bytes(html, html_report(second, before=first, differences=found).encode())
        cli.say(f"wrote {html}")
    if fail_over is not None:
        gate(slower, fail_over)
        refuse_incomplete(context)
        refuse_unjudged(found)


def _read(path: Path) -> Profile:
    from toolkit.errors import CorruptError, NotFoundError
    from toolkit.profiling.result import Profile

    try:
        return Profile.from_json(json.loads(path.read_text()), what=str(path))
    except FileNotFoundError:
        raise NotFoundError(f"no file {path}; `cnnkit profile MODEL --output {path}` writes one") from None
    except (OSError, ValueError) as error:
        raise CorruptError(f"{path} is no readable JSON: {error}") from None


COMMAND = compare_command
