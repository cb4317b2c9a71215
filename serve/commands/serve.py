"""`cnnkit serve`: the page and the API of one or several models, in one process on one port."""

from __future__ import annotations

from pathlib import Path

import click

from toolkit import cli
from toolkit.artifacts import Precision


@click.command()
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option("--backend", default="ort", show_default=True, help="ort, pytorch or trt.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=7860, show_default=True, help="0: any free one."
)
@click.option("--page/--no-page", default=True, help="--no-page: the API alone, without Gradio.")
@cli.precision_option
@cli.device_option
@cli.threads_option
@cli.untrained_option
@cli.seed_option
@cli.model_file_option
@cli.root_option
def serve(
    *,
    models: tuple[str, ...],
    backend: str,
    host: str,
    port: int,
    page: bool,
    precision: Precision,
    device: str,
    threads: int | None,
    untrained: bool,
    seed: int,
    model_file: Path | None,
    root: Path,
) -> None:
    """Serve MODELs (default: the newest): a page for people, an API for programs."""
    from serve.classifier import Choice
    from serve.server import Settings, run

    choice = Choice(
        root=root,
        precision=precision,
        untrained=untrained,
        seed=seed,
        device=device,
        threads=threads,
        model_file=model_file,
    )
    run(Settings(models=models, backend=backend, choice=choice, host=host, port=port, page=page), cli.say)


COMMAND = serve
