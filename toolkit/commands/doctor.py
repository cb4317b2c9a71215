"""`cnnkit doctor`: what this machine can run, looked at rather than assumed."""

from __future__ import annotations

from pathlib import Path

import click

from toolkit.cli import printing
from toolkit.cli.options import data_dir_option, json_option


@click.command()
@data_dir_option
@json_option
def doctor(*, data_dir: Path | None, as_json: bool) -> None:
    """Say what this machine can run, what is missing, and what to type to get it."""
    from toolkit.inspection.doctor import doctor as look

    found = look(data_dir=data_dir)
    if as_json:
        printing.emit(found.to_json())
        return
    for table in found.tables():
        printing.stdout.print(printing.as_rich(table))
    for problem in found.problems:
        printing.stdout.print(f"problem: {problem}", markup=False, style="bold red")


COMMAND = doctor
