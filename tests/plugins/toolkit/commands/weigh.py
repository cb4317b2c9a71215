"""`cnnkit weigh FILE`: what an artifact weighs."""

from __future__ import annotations

from pathlib import Path

import click

from toolkit.cli import printing
from toolkit.cli.options import json_option


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def weigh(*, file: Path, as_json: bool) -> None:
    """Say how many bytes FILE has."""
    from toolkit.artifacts import open_artifact, size_bytes

    weight = size_bytes(open_artifact(file).path)
    if as_json:
        printing.emit({"bytes": weight})
    else:
        printing.stdout.print(f"{weight} bytes")


COMMAND = weigh
