"""`cnnkit import`: a network from elsewhere becomes an artifact of cnnkit."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from toolkit.cli import parameters, printing
from toolkit.cli.options import (
    data_dir_option,
    json_option,
    model_file_option,
    name_option,
    pretrained_option,
    root_option,
    seed_option,
    size_option,
)

if TYPE_CHECKING:
    from toolkit.importing import Imported, Tried

# of what was tried, so many stand on the screen
SHOWN = 12


def _pairs(example: str) -> Any:
    def read(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
        pairs = [value.partition("=") for value in values]
        # nothing behind the sign takes a beginning off: model.=
        if not all(old and sign and (new or old.endswith(".")) for old, sign, new in pairs):
            raise click.BadParameter(f"give it as {example}")
        return {old: new for old, _, new in pairs}

    return read


def _number(text: str) -> float:
    """Read 0.5 or 1/255."""
    above, sign, below = text.partition("/")
    return float(above) / float(below) if sign else float(text)


def _figures(text: str) -> tuple[float, ...]:
    try:
        return tuple(map(_number, text.split(",")))
    except (ValueError, ZeroDivisionError):
        raise ValueError("one number, or one a channel, such as 0.485,0.456,0.406") from None


def _scale(text: str) -> float:
    try:
        found = _number(text)
    except (ValueError, ZeroDivisionError):
        found = math.nan
    if not 0 < found < math.inf:
        raise ValueError("what a pixel of 0 to 255 is multiplied with, above 0, such as 1/255 or 1")
    return found


def _classes(text: str) -> tuple[str, ...]:
    from toolkit.importing.classes import classes_wanted

    return classes_wanted(text) or ()


_pixel_options = parameters.options(
    size_option("Where the source leaves it open."),
    click.option("--input-layout", "layout", type=click.Choice(["nchw", "nhwc"]), help="Of its input."),
    click.option("--order", type=click.Choice(["rgb", "bgr"]), help="Of the channels."),
    click.option(
        "--resize",
        type=click.Choice(["pad", "crop", "squash"]),
        help="pad: all of it, with a border · crop: its centre · squash: all of it, out of proportion.",
    ),
    click.option(
        "--crop-share",
        type=parameters.FiniteRange(0, 1, min_open=True),
        help="The size's share of the picture that its centre is cut out of, such as 0.875.",
    ),
    click.option("--interpolation", type=click.Choice(["box-bilinear", "bilinear", "bicubic", "nearest"])),
    click.option(
        "--scale", metavar="S", callback=parameters.checked(_scale), help="(pixel × S − M) / D: 1/255 or 1."
    ),
    click.option(
        "--mean", metavar="M[,M,M]", callback=parameters.checked(_figures), help="In units of pixel × S."
    ),
    click.option(
        "--std", metavar="D[,D,D]", callback=parameters.checked(_figures), help="In units of pixel × S."
    ),
    click.option(
        "--find-preprocessing",
        "find",
        is_flag=True,
        help="Look for it on half of the labelled pictures of --dataset; at most a minute.",
    ),
)


@click.command("import")
@click.argument("source")
@name_option("Name of the artifact (default: the file's or the model's).")
@click.option("--dataset", cls=parameters.DatasetOption, help="Labelled pictures that it is for.")
@click.option("--classes", metavar="A,B,…|FILE", help="Class names in order, or a file of one a line.")
@_pixel_options
@click.option("--logits", metavar="NAME", help="The output that holds the class scores.")
@click.option(
    "--fix",
    "fixed",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_pairs("NAME=VALUE, such as t=1.0"),
    help="The value of an input beside the pictures'. Repeatable.",
)
@click.option("--model", help="Of weights: the network of the zoo that they belong to.")
@model_file_option
@click.option(
    "--rename",
    "renames",
    multiple=True,
    metavar="OLD=NEW",
    callback=_pairs("old=new, such as fc2=output, or as model.= to take it off"),
    help="Of weights' names. Repeatable.",
)
@pretrained_option
@click.option("--key", metavar="NAME", help="Of weights: which part of a larger file, such as ema.")
@click.option(
    "--images",
    default="1000",
    show_default=True,
    callback=parameters.checked(parameters.images_or_all),
    metavar="N|all",
    help="Test pictures of --dataset that accuracy is measured on.",
)
@click.option("--fresh", "--replace", "fresh", is_flag=True, help="Replace what has the name.")
@parameters.options(seed_option, data_dir_option, root_option, json_option)
def import_(*, classes: str | None, layout: str | None, as_json: bool, **given: Any) -> None:
    """Make an artifact of SOURCE: an .onnx file, weights (.pth, .pt, .ckpt, .safetensors) of --model, or the
    published weights of a package's network, timm:NAME or torchvision:NAME.

    Opening it runs no code. What it says of itself is taken from it; what is assumed is said.
    """
    from toolkit.importing.classes import classes_wanted
    from toolkit.importing.importer import import_ as import_source

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=printing.stderr,
        transient=True,
        disable=not printing.stderr.is_terminal,
    ) as bar:
        task = bar.add_task("reading", total=1.0)
        made = import_source(
            classes=classes_wanted(classes),
            layout=layout.upper() if layout else None,  # type: ignore[arg-type]  # one of two words
            tell=printing.say,
            progress=lambda doing, share: bar.update(task, description=doing, completed=share),
            **given,
        )
    if as_json:
        printing.emit(_payload(made))
        return
    _show(made)


def _payload(made: Imported) -> dict[str, Any]:
    passport = made.passport
    return {
        "artifact": made.path,
        "checkpoint": made.path,
        "format": passport.format,
        "model": passport.model,
        "input": passport.input,
        "preprocessing": passport.preprocessing,
        "preprocessing_from": passport.preprocessing_from,
        "classes": passport.classes,
        "dataset": passport.dataset.name if passport.dataset else None,
        "accuracy": made.accuracy,
        "accuracy_ci95": made.accuracy_ci95,
        "images": made.images,
        "assumed": made.said,
        **({"tried": [_tried(one) for one in made.tried]} if made.tried else {}),
    }


def _tried(one: Tried) -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__dataclass_fields__}


def _show(made: Imported) -> None:
    if made.tried:
        printing.print_table(printing.as_rich(made.table(SHOWN)))
    printing.stdout.print(f"imported as {made.path}", markup=False, soft_wrap=True)
    if made.accuracy is not None and made.accuracy_ci95 is not None:
        low, high = made.accuracy_ci95
        printing.stdout.print(
            f"accuracy {made.accuracy:.4f} on {made.images:,} pictures "
            f"(95 % interval {low:.4f} to {high:.4f})"
        )
    else:
        pictures = "" if made.passport.dataset else " --dataset …"
        printing.say(f"its accuracy is not known here: `cnnkit eval {made.name}{pictures}` measures it")


ORDER = 45
COMMAND = import_
