"""The options of `train` that are no fields of a recipe, and the job that they make."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from toolkit import cli, zoo
from toolkit.training import Arithmetic, Job, Layout, Loader, recipes

training_options = cli.options(
    click.option(
        "--recipe",
        "recipe_name",
        default="default",
        show_default=True,
        metavar="NAME|FILE.toml",
        help="A recipe of the model, or a TOML file of recipe fields.",
    ),
    cli.dataset_option,
    cli.data_dir_option,
    click.option(
        "--images", type=click.IntRange(1), help="Train on so many images, evenly over the classes."
    ),
    click.option("--size", type=click.IntRange(1), help="Side of the network's square input, in pixels."),
    cli.seed_option,
    cli.training_device_option,
    cli.threads_option,
    click.option(
        "--precision",
        "arithmetic",
        type=click.Choice(get_args(Arithmetic)),
        default="auto",
        show_default=True,
        help="What to compute in while training; auto tries and chooses.",
    ),
    click.option(
        "--layout",
        type=click.Choice(get_args(Layout)),
        default="auto",
        show_default=True,
        help="How pixels lie in memory; auto tries and chooses.",
    ),
    click.option(
        "--loader",
        type=click.Choice(get_args(Loader)),
        help="memory: whole batches at once (default); torch: DataLoader, picture by picture.",
    ),
    click.option(
        "--workers",
        type=click.IntRange(0, cli.MOST_WORKERS),
        help="Processes that load; means --loader torch.",
    ),
    cli.root_option,
    cli.model_file_option,
)


def make_job(model: str, changes: dict[str, Any], options: dict[str, Any]) -> Job:
    """Return the job that a command line means. Raises CnnkitError in words."""
    options = dict(options)
    model_file: Path | None = options["model_file"]
    spec = zoo.model(model, model_file=model_file)
    size = options.pop("size")
    if options["workers"] is not None and options["loader"] == "memory":
        raise click.UsageError("--workers belong to --loader torch; the memory loader has none")
    options["loader"] = options["loader"] or ("memory" if options["workers"] is None else "torch")
    options["workers"] = options["workers"] or 0
    recipe = recipes.override(recipes.find(spec, options.pop("recipe_name")), changes)
    return Job(model=spec, recipe=recipe, size=(size, size) if size else None, **options)
