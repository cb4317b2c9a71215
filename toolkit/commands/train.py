"""`cnnkit train`: train a network and write its checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from toolkit import catalog, cli


@click.command()
@click.argument("model")
@click.option("--recipe", "recipe_name", default="default", show_default=True, help="default or textbook.")
@click.option("--epochs", type=click.IntRange(1))
@click.option("--batch", "--batch-size", type=click.IntRange(1))
@click.option("--lr", type=click.FloatRange(0, min_open=True))
@click.option("--name", help="Name of the artifact (default: the model's).")
@cli.options(
    cli.dataset_option,
    cli.data_dir_option,
    cli.seed_option,
    cli.device_option,
    cli.threads_option,
    cli.root_option,
    cli.model_file_option,
    cli.json_option,
)
def train(
    *,
    model: str,
    recipe_name: str,
    epochs: int | None,
    batch: int | None,
    lr: float | None,
    name: str | None,
    dataset: str | None,
    data_dir: Path | None,
    seed: int,
    device: str,
    threads: int | None,
    root: Path,
    model_file: Path | None,
    as_json: bool,
) -> None:
    """Train MODEL, a network of the zoo, and write artifacts/MODEL/MODEL.safetensors."""
    import dataclasses

    from toolkit.commands._training_screen import Screen, show_outcome
    from toolkit.training import Job
    from toolkit.training.run import train as run

    spec = catalog.model(model, model_file=model_file)
    given: dict[str, Any] = {"epochs": epochs, "batch": batch, "lr": lr}
    changes = {key: value for key, value in given.items() if value is not None}
    job = Job(
        model=spec,
        recipe=dataclasses.replace(spec.recipe(recipe_name), **changes),
        root=root,
        name=name,
        dataset=dataset,
        data_dir=data_dir,
        seed=seed,
        device=device,
        threads=threads,
        model_file=model_file,
    )
    with Screen() as screen:
        outcome = run(job, screen)
    if as_json:
        cli.emit(
            {
                "model": spec.name,
                "recipe": job.recipe,
                "dataset": job.dataset_name,
                "epochs": len(outcome.records),
                "seed": seed,
                "checkpoint": outcome.checkpoint.path,
                **{
                    field.name: getattr(outcome, field.name)
                    for field in dataclasses.fields(outcome)
                    if field.name != "checkpoint"
                },
            }
        )
    else:
        show_outcome(outcome)


COMMAND = train
