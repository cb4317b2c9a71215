"""`cnnkit verify FILE`: check an export against the proof that lies beside it, on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from exporters.run.verify import verify as verify_file
from toolkit.cli import printing
from toolkit.cli.options import device_option, json_option, root_option, threads_option


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--rebuild", is_flag=True, help="Build the engine again for this machine first.")
@device_option
@threads_option
@root_option
@json_option
def verify(
    *, file: Path, rebuild: bool, device: str | None, threads: int | None, root: Path, as_json: bool
) -> None:
    """Check FILE, an export that is made to be run (a file or a folder), against its proof, on this machine.

    Needs numpy and the file's own runtime; neither torch nor the data set.
    """
    verdict = verify_file(file, rebuild=rebuild, device=device, threads=threads, root=root, tell=printing.say)
    if as_json:
        printing.emit(
            {
                "path": verdict.path,
                "ok": verdict.ok,
                "images": verdict.images,
                "agree": verdict.agree,
                "max_abs_diff": verdict.max_abs_diff,
                "latency_ms": verdict.latency_ms,
                "batch": verdict.batch,
                "wrong": verdict.wrong,
            }
        )
    elif verdict.ok:
        printing.stdout.print(verdict.summary, markup=False)
    verdict.require()


ORDER = 60
COMMAND = verify
