"""`cnnkit compare`: which module became slower between two profiles."""

from __future__ import annotations

from pathlib import Path

import click

from toolkit import cli, schema


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
@click.option(
    "--allow-noise", is_flag=True, help="Let --fail-over pass rows that are too noisy to judge, and say so."
)
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
    allow_noise: bool,
    markdown: bool,
    html: Path | None,
    as_json: bool,
) -> None:
    """Compare two JSON profiles row by row: BEFORE.json with AFTER.json."""
    from toolkit.profiling.comparing.differences import compare
    from toolkit.profiling.reports.comparison import markdown_report, passed_in_noise, print_comparison

    found = compare(before, after, fail_over=fail_over, allow_noise=allow_noise)
    if as_json:
        told = {"differences": found.differences, "regressions": found.regressions(over=fail_over or 0.0)}
        cli.emit({"before": before, "after": after, **told, **schema.plain(found.mismatch)})
    elif markdown:
        click.echo(markdown_report(found))
    else:
        print_comparison(found, cli.stdout)
    if html:
        from toolkit.artifacts import write_bytes
        from toolkit.profiling.reports.html import html_report

        write_bytes(html, html_report(found.after, found).encode())
        cli.say(f"wrote {html}")
    found.require()
    said = passed_in_noise(found)
    if said:
        cli.say(said)


COMMAND = compare_command
