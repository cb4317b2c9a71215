"""The options of `train` that are no fields of a recipe, by the names that a job gives them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from toolkit.cli import parameters
from toolkit.cli.options import (
    data_dir_option,
    dataset_option,
    model_file_option,
    name_option,
    root_option,
    seed_option,
    threads_option,
    training_device_option,
)
from toolkit.listings import MOST_PIXELS
from toolkit.training.jobs import options


def _option(name: str, **more: Any) -> Callable[[parameters.Function], parameters.Function]:
    """Make the option of a job's field: its choices or range, and its help."""
    setting = options()[name]
    kind: Any = click.Choice(setting.choices) if setting.choices else None
    if setting.kind is int:
        high = None if setting.high is None else int(setting.high)
        kind = click.IntRange(int(setting.low or 0), high)
    return click.option(f"--{setting.word}", name, help=setting.help, **{"type": kind, **more})


def _choice(name: str) -> Callable[[parameters.Function], parameters.Function]:
    return _option(name, default="auto", show_default=True)


# how people's own pictures are read, of trainings and sweeps alike
reading_options = parameters.options(
    _option("group", metavar="REGEX"),
    _option("exclude", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE"),
    _option("columns", metavar="ROLE=NAME,…"),
    _option("skip_damaged", is_flag=True),
    _option("max_pixels", default=MOST_PIXELS),
    _option("levels", metavar="LOW,HIGH"),
    _option("grey", is_flag=True),
)

# what every cell of a sweep starts from and learns from, as one training does
start_options = parameters.options(
    _option("pretrained", is_flag=False, flag_value="imagenet", metavar="[FILE]"),
    _option("freeze", is_flag=True),
    _option("teacher", metavar="MODEL|FILE"),
)

# which pictures of a data set are learned from, and how large they become
part_options = parameters.options(
    _option("images"),
    _option("fold", metavar="I/K"),
    _option("size"),
)

training_options = parameters.options(
    name_option(options()["name"].help),
    _option("resume", is_flag=True),
    _option("ranks", metavar="N"),
    _option("sync_batch_norm", is_flag=True),
    _option("flip_test", is_flag=True),
    _option(
        "save_every_s", type=parameters.FiniteRange(0), default=10.0, show_default=True, metavar="SECONDS"
    ),
    _option("stall_limit_s", type=parameters.FiniteRange(0, min_open=True), metavar="SECONDS"),
    start_options,
    click.option(
        "--recipe",
        default="default",
        show_default=True,
        metavar="NAME|FILE.toml",
        help="A recipe of the model, or a TOML file of recipe fields.",
    ),
    dataset_option,
    data_dir_option,
    reading_options,
    part_options,
    seed_option,
    training_device_option,
    threads_option,
    _choice("arithmetic"),
    _choice("layout"),
    _option("loader"),
    _option("workers"),
    _option("store", show_default=True, default="on"),
    root_option,
    model_file_option,
)
