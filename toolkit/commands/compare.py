"""`cnnkit compare`: which module became slower between two profiles, or what differs between two networks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolkit import schema
from toolkit.cli import parameters, printing
from toolkit.cli.options import json_option, model_file_option, root_option
from toolkit.cli.reports import refuse_overwriting, report_option, write_report
from toolkit.errors import CnnkitError

if TYPE_CHECKING:
    from toolkit.profiling.comparing.networks import NetworkComparison

MOST_CHANGES = 20  # of each kind, on the terminal


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
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@click.option("--fail-over", callback=_share, metavar="5%", help="Exit with 4 if a module is slower by more.")
@click.option(
    "--allow-noise", is_flag=True, help="Let --fail-over pass rows that are too noisy to judge, and say so."
)
@click.option("--markdown", is_flag=True, help="Print Markdown, for a pull request.")
@report_option("--html", "Write both into one HTML file.")
@click.option("--strict", is_flag=True, help="Of networks: exit with 4 when they differ.")
@parameters.options(root_option, model_file_option, json_option)
def compare_command(
    *,
    before: Path,
    after: Path,
    fail_over: float | None,
    allow_noise: bool,
    markdown: bool,
    html: Path | None,
    strict: bool,
    root: Path,
    model_file: Path | None,
    as_json: bool,
) -> None:
    """Compare two profiles row by row, or two networks (ONNX files, weights, names): BEFORE with AFTER."""
    refuse_overwriting(html, read=(before, after, model_file))
    if _are_networks(before, after):
        if fail_over is not None:
            raise click.UsageError("--fail-over is of profiles; networks have no times: --strict")
        if allow_noise:
            raise click.UsageError(
                "--allow-noise is of profiles' --fail-over; networks have no times to judge"
            )
        from toolkit.profiling.comparing.networks import compare_networks

        networks = compare_networks(before, after, root=root, model_file=model_file, tell=printing.say)
        _show_networks(networks, strict=strict, markdown=markdown, html=html, json=as_json)
        return
    if strict:
        raise click.UsageError("--strict is of networks; the gate of profiles is `--fail-over 5%`")
    if model_file is not None:
        raise click.UsageError("--model-file holds the code of networks, and profiles are compared")
    from toolkit.profiling.comparing.differences import compare
    from toolkit.profiling.reports.comparison import markdown_report, passed_in_noise, print_comparison

    found = compare(before, after, fail_over=fail_over, allow_noise=allow_noise)
    if as_json:
        told = {"differences": found.differences, "regressions": found.regressions(over=fail_over or 0.0)}
        printing.emit({"before": before, "after": after, **told, **schema.plain(found.mismatch)})
    elif markdown:
        click.echo(markdown_report(found))
    else:
        print_comparison(found, printing.stdout)
    if html:
        from toolkit.profiling.reports.html import html_report

        write_report(html, html_report(found.after, found))
    found.require()
    said = passed_in_noise(found)
    if said:
        printing.say(said)


def _are_networks(before: Path, after: Path) -> bool:
    """Tell by what the files hold whether networks are compared. Raises CnnkitError for one of each kind."""
    from toolkit.opening import is_path
    from toolkit.presence import is_file
    from toolkit.profiling.comparing.reading import kind_of

    kinds = ["name" if not is_file(p) and not is_path(str(p)) else kind_of(p) for p in (before, after)]
    if kinds.count("profile") == 1:
        profile, other = (before, after) if kinds[0] == "profile" else (after, before)
        raise CnnkitError(
            f"{profile} is a profile and {other} is a network; two of a kind are compared: "
            f"`cnnkit profile {other} --output after.json` makes a profile of it"
        )
    return "profile" not in kinds


def _show_networks(
    found: NetworkComparison, *, strict: bool, markdown: bool, html: Path | None, json: bool
) -> None:
    from rich.box import SIMPLE_HEAD

    if json:
        printing.emit({**schema.plain(found), "equal": found.equal})
    elif markdown:
        click.echo(found.markdown())
    else:
        if found.changes:
            printing.stdout.print(
                printing.as_rich(found.table(most=MOST_CHANGES), box=SIMPLE_HEAD, pad_edge=False)
            )
        for line in (found.summary(), *found.notes):
            printing.stdout.print(line, markup=False)
    if html:
        from toolkit.profiling.reports.networks import network_page

        write_report(html, network_page(found))
    if strict:
        found.require()


ORDER = 90
COMMAND = compare_command
