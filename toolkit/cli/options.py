"""The options that commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import click

from toolkit.artifacts import artifacts_root, check_name
from toolkit.cli.parameters import (
    DatasetOption,
    Function,
    Listed,
    check_device,
    checked,
    options,
    size,
    words,
)
from toolkit.cli.printing import json_alone
from toolkit.machine.cpu import MOST_THREADS
from toolkit.passports import Precision, as_precision

# the precisions that have switches of their own
SHORT: tuple[Precision, ...] = ("fp16", "int8")


def short(word: str) -> Callable[[Function], Function]:
    """Make the switch that stands for a precision."""

    def note(context: click.Context, parameter: click.Parameter, on: bool) -> None:
        context.meta[f"cnnkit.{word}"] = on

    return click.option(
        f"--{word}",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=note,
        help=f"= --precision {word}",
    )


def _short_of(context: click.Context) -> list[Precision]:
    return [word for word in SHORT if context.meta.get(f"cnnkit.{word}")]


def _precision(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Fold --fp16 and --int8, which are parsed first, into --precision; None where none is typed."""
    asked = {*_short_of(context), value} - {None}
    if len(asked) > 1:
        raise click.UsageError(
            f"these precisions contradict each other: {', '.join(sorted(map(str, asked)))}"
        )
    return next(iter(asked), None)


precision_option = options(
    click.option(
        "--precision",
        type=click.Choice(get_args(Precision)),
        callback=_precision,
        help="Number format (default: fp32; a file has its own).",
    ),
    *map(short, SHORT),
)


def _precisions(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[Precision, ...]:
    """Fold --fp16 and --int8, which are parsed first, into several precisions; none where none is typed."""
    try:
        return tuple(dict.fromkeys([*map(as_precision, words(value)), *_short_of(context)]))
    except ValueError as error:
        raise click.BadParameter(str(error), ctx=context, param=parameter) from None


# for commands of several precisions: `precisions` holds what was typed, nothing where nothing was
precisions_option = options(
    click.option(
        "--precision",
        "precisions",
        callback=_precisions,
        metavar=",".join(get_args(Precision)),
        help="Number formats (default: fp32; a file has its own).",
    ),
    *map(short, SHORT),
)


def name_option(text: str) -> Callable[[Function], Function]:
    """Make the option that names what is written."""
    return click.option("--name", callback=checked(check_name), help=text)


def size_option(text: str) -> Callable[[Function], Function]:
    """Make the option of a network's height and width in pixels."""
    return click.option("--size", metavar="N|HxW", callback=checked(size), help=text)


def _backends() -> list[str]:
    from toolkit.backends import backend_names

    return backend_names()


def backend_option(text: str) -> Callable[[Function], Function]:
    """Make the option that names a backend; `text` says what is taken without it."""
    return click.option("--backend", metavar="NAME", cls=Listed, listing=_backends, help=text)


def _devices() -> list[str]:
    from toolkit.backends import device_words

    return device_words()


def _json(context: click.Context, parameter: click.Parameter, on: bool) -> bool:
    """Leave stdout to the object from here on, before any other option is looked at."""
    if on and not context.resilient_parsing:
        # the root ends whatever comes; a command's own context is never closed where its options are refused
        context.find_root().with_resource(json_alone(context))
    return on


json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    is_eager=True,
    callback=_json,
    help="Print one JSON object on stdout.",
)
root_option = click.option(
    "--artifacts",
    "root",
    type=click.Path(path_type=Path, file_okay=False),
    callback=lambda _context, _parameter, value: artifacts_root(value),
    help="Where artifacts lie (default: $CNNKIT_ARTIFACTS, else ./artifacts).",
)
dataset_option = click.option("--dataset", cls=DatasetOption, help="Data set (default: the model's own).")
data_dir_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder searched first for data, directly and as DIR/<dataset>.",
)
device_option = click.option(
    "--device",
    cls=Listed,
    listing=_devices,
    callback=checked(check_device),
    help="(default: the backend's own).",
)
training_device_option = click.option(
    "--device",
    default="cpu",
    show_default=True,
    callback=checked(check_device),
    help="cpu, cuda, cuda:N or mps.",
)
threads_option = click.option(
    "--threads", type=click.IntRange(1, MOST_THREADS), help="Threads to compute with."
)
seed_option = click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
model_file_option = click.option(
    "--model-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A Python file of your own with MODELS; it is run.",
)
pretrained_option = click.option(
    "--pretrained",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Published weights of a package's network, timm:NAME or torchvision:NAME.",
)
untrained_option = click.option(
    "--untrained", is_flag=True, help="Seeded, untrained weights: latency and memory only."
)
columns_option = click.option(
    "--columns",
    metavar="ROLE=NAME,…",
    help="Columns of a table, as image=FILE,label=KIND; levels of a folder, as label=2.",
)


def _clusters() -> list[str]:
    from toolkit.clusters import cluster_words

    return cluster_words()


def _check_cluster(text: str) -> str:
    from toolkit.clusters import cluster_of

    cluster_of(text)
    return text


on_options = options(
    click.option(
        "--on",
        metavar="CLUSTER",
        cls=Listed,
        listing=_clusters,
        callback=checked(_check_cluster),
        help="Where to run (default: local, this machine).",
    ),
    click.option("--verbose", is_flag=True, help="Show what the cluster says itself, too."),
)
