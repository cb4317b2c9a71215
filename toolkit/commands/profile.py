"""`cnnkit profile`: where every microsecond and byte goes, on the same rows for every backend."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolkit import schema
from toolkit.artifacts import json_text
from toolkit.cli import parameters, printing
from toolkit.cli.options import (
    backend_option,
    device_option,
    json_option,
    model_file_option,
    precisions_option,
    pretrained_option,
    root_option,
    seed_option,
    threads_option,
    untrained_option,
)
from toolkit.cli.overruling import no_choice, takes_choice
from toolkit.cli.reports import refuse_overwriting, report_option, write_report
from toolkit.commands._backend_settings import backend_settings, chosen_settings
from toolkit.errors import CnnkitError
from toolkit.passports import Precision

if TYPE_CHECKING:
    from toolkit.allocation import Allocator
    from toolkit.profiling.result import Profile
    from toolkit.profiling.settings import ProfileSettings


@click.command("profile")
@click.argument("models", nargs=-1, metavar="[MODEL|FILE]...")
@backend_option("or several by commas, or all [default: all that are here].")
@click.option(
    "--batch",
    "batches",
    callback=parameters.checked(parameters.counts),
    metavar="N,…",
    help="Default: 1, the one that a file fixes, or the choice's own.",
)
@precisions_option
@click.option(
    "--duration", type=parameters.FiniteRange(0.05), default=1.0, show_default=True, metavar="SECONDS"
)
@click.option("--choice", is_flag=True, help="MODEL as `cnnkit choose` chose it: file, backend, settings.")
@backend_settings
@click.option(
    "--allocator",
    type=click.Choice(["system", "keep"]),
    default="system",
    show_default=True,
    help="keep: freed memory is kept for the next call (mallopt), for those who serve so.",
)
@click.option("--against", metavar="MODEL|FILE", help="A second one, timed in turn with the first.")
@click.option(
    "--import", "layers", type=click.Path(path_type=Path), help="Layers or a profile from elsewhere."
)
@click.option("--import-times", type=click.Path(path_type=Path), help="The layers' times from there.")
@report_option("--html", "Write one HTML file.")
@report_option("--csv", "Write the rows as CSV.")
@report_option("--trace", "Write a Perfetto trace.")
@report_option("--output", "Write the JSON to a file.")
@click.option(
    "--top",
    type=click.IntRange(0),
    metavar="N",
    help="Rows shown, costliest first [default: 20 of more than 30]; 0: all, in the network's order.",
)
@click.option("--strict", is_flag=True, help="Exit with 4 when a figure is red.")
@parameters.options(
    pretrained_option,
    untrained_option,
    device_option,
    threads_option,
    seed_option,
    root_option,
    model_file_option,
    json_option,
)
def profile_command(
    *,
    models: tuple[str, ...],
    backend: str | None,
    batches: tuple[int, ...] | None,
    precisions: tuple[Precision, ...],
    duration: float,
    choice: bool,
    allocator: Allocator,
    against: str | None,
    layers: Path | None,
    import_times: Path | None,
    html: Path | None,
    csv: Path | None,
    trace: Path | None,
    output: Path | None,
    top: int | None,
    strict: bool,
    pretrained: Path | None,
    untrained: bool,
    device: str | None,
    threads: int | None,
    seed: int,
    root: Path,
    model_file: Path | None,
    as_json: bool,
) -> None:
    """Time and memory of every module of MODEL, a name or files, in each backend, on the same rows."""
    from toolkit.backends import ALL
    from toolkit.profiling.profile import import_profile, profile
    from toolkit.profiling.settings import ProfileSettings

    refuse_overwriting(html, csv, trace, output, read=(layers, import_times, *models, against))
    if layers or import_times:
        model = models[0] if models else None
        if batches is not None and len(batches) > 1:
            raise CnnkitError("a profile from elsewhere was taken at one batch size: `--batch 1`, say")
        batch = batches[0] if batches else None
        words = [ALL]
        found = import_profile(layers, import_times, model, batch=batch, root=root)
    else:
        settings = ProfileSettings(
            batches=batches,
            device=device,
            threads=threads,
            duration_s=duration,
            chosen=chosen_settings(click.get_current_context()),
            seed=seed,
            model_file=model_file,
            turns=bool(against),
            allocator=allocator,
        )
        if choice:
            free = takes_choice(backend=backend, device=device) and not untrained
            models, backend, precisions, settings = _chosen(models, settings, root, free=free)
        words = [ALL] if backend is None else list(parameters.words(backend))
        found = profile(
            *models,
            *([against] if against else []),
            backends=words,
            precisions=precisions or None,
            settings=settings,
            pretrained=pretrained,
            untrained=untrained,
            root=root,
            tell=printing.say,
        )
    _show(found, against=against is not None, as_json=as_json, top=top)
    _write(found, html=html, csv=csv, trace=trace, output=output)
    _gate(found, named=words != [ALL], strict=strict)
    if against and not found.partial:
        from toolkit.profiling.comparing.differences import refuse_unpaired

        refuse_unpaired(found)


def _chosen(
    models: tuple[str, ...], settings: ProfileSettings, root: Path, *, free: bool
) -> tuple[tuple[str, ...], str, tuple[Precision, ...], ProfileSettings]:
    """Return what a choice names in place of what was typed. Raises CnnkitError where none holds here."""
    from toolkit.opening import Selection
    from toolkit.resolving import resolve_choice

    if not free or len(models) > 1:
        raise click.UsageError(
            "--choice names file, weights, backend, precision and device: type one MODEL alone"
        )
    found = resolve_choice(models[0] if models else None, Selection(root=root), printing.say)
    if found is None or found.choice is None:
        raise no_choice(models[0] if models else "MODEL")
    printing.say(f"{found.artifact.path.name}, {found.why}")
    one = found.choice.chosen
    chosen = {**one.settings, **settings.chosen}
    asked = dataclasses.replace(
        settings,
        batches=settings.batches or (one.batch,),
        threads=settings.threads or one.threads,
        chosen=chosen,
        insists=False,  # what --against names may have another precision than what was chosen
    )
    return (str(found.artifact.path),), one.backend, (one.precision,), asked


def _show(found: Profile, *, against: bool, as_json: bool, top: int | None) -> None:
    from toolkit.profiling.comparing.differences import compare_columns

    turns = compare_columns(found) if against else None
    if as_json:
        printing.emit({**found.to_json(), **({"against": turns.differences} if turns else {})})
        return
    from toolkit.profiling.reports.table import print_profile

    print_profile(found, printing.stdout, top=top)
    if turns and turns.differences:
        from toolkit.profiling.reports.comparison import print_comparison

        print_comparison(turns, printing.stdout)


def _write(
    found: Profile, *, html: Path | None, csv: Path | None, trace: Path | None, output: Path | None
) -> None:
    """Write every report that was asked for, and say where it is."""
    if output:
        write_report(output, json_text(found.to_json()))
    if html:
        from toolkit.profiling.reports.html import html_report

        write_report(html, html_report(found))
    if csv:
        from toolkit.profiling.reports.csv import csv_report

        write_report(csv, csv_report(found))
    if trace:
        from toolkit.profiling.reports.perfetto import perfetto_trace

        more = " (open it at ui.perfetto.dev or chrome://tracing)"
        write_report(trace, json_text(schema.plain(perfetto_trace(found))), more)


def _gate(found: Profile, *, named: bool, strict: bool) -> None:
    from toolkit.backends import DEFAULT_BACKEND
    from toolkit.errors import UnavailableError

    static = [column for run in found.runs for column in run.backends.values() if column.static]
    if named and static:
        raise UnavailableError(
            f"backend {static[0].backend!r} was named and cannot run here: {static[0].why_not}; what is "
            f"static was shown, latency was not measured (`--backend {DEFAULT_BACKEND}` runs here)"
        )
    if strict:
        found.require()


ORDER = 80
COMMAND = profile_command
