"""`cnnkit models`: the zoo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape
from rich.table import Table

from toolkit import cli, zoo
from toolkit.errors import MissingExtraError
from toolkit.figures import count_text, shape_text

if TYPE_CHECKING:
    from toolkit.models import ModelSpec


@click.command()
@cli.model_file_option
@cli.json_option
def models(*, model_file: Path | None, as_json: bool) -> None:
    """List the networks of the zoo: input, parameters, multiply-adds, data set; yours with --model-file."""
    listed = {**zoo.models(), **(zoo.models_of_file(model_file) if model_file else {})}
    try:
        rows = [_row(spec) for spec in listed.values()]
    except MissingExtraError as error:
        # a serving box has no torch to count with; the list itself needs none
        cli.say(f"parameters and multiply-adds were not counted: {error}")
        rows = [_row(spec, counted=False) for spec in listed.values()]
    if as_json:
        cli.emit({"models": rows})
        return
    table = Table("model", "input", "parameters", "mult-adds", "data set", "what")
    for row, spec in zip(rows, listed.values(), strict=True):
        table.add_row(
            escape(spec.name),
            shape_text(spec.input_shape),
            count_text(row["parameters"], exact=1_000_000),
            count_text(row["macs"], exact=1_000_000),
            spec.dataset,
            escape(spec.summary),
        )
    cli.print_table(table)


def _row(spec: ModelSpec, *, counted: bool = True) -> dict[str, Any]:
    """Return one network as JSON, with its own channels and classes; figures not counted are None."""
    from toolkit.inspection.layers import dissect, shadow

    found = None
    if counted:
        found = dissect(shadow(spec, spec.input_shape[0], spec.classes), (1, *spec.input_shape))
    return {
        "name": spec.name,
        "family": spec.family,
        "input_shape": spec.input_shape,
        "classes": spec.classes,
        "parameters": found.parameters if found else None,
        "macs": found.macs if found else None,
        "dataset": spec.dataset,
        "source": spec.source,
        "summary": spec.summary,
        "recipes": list(spec.recipes),
    }


COMMAND = models
