"""`cnnkit import`: weights from elsewhere become a checkpoint of cnnkit."""

from __future__ import annotations

from pathlib import Path

import click

from toolkit import cli


def _renames(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    # nothing behind the sign takes a beginning off: model.=
    if not all(old and sign and (new or old.endswith(".")) for old, sign, new in pairs):
        raise click.BadParameter("give it as old=new, such as fc2=output, or as model.= to take it off")
    return {old: new for old, _, new in pairs}


def _figures(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[float, ...] | None:
    if value is None:
        return None
    try:
        return tuple(float(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter("give one number, or one a channel, such as 0.49,0.48,0.45") from None


def _size(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    height, sign, width = value.lower().replace("×", "x").partition("x")
    sides = (height, width if sign else height)
    if not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise click.BadParameter("give it in pixels as HxW, such as 128x96, or one side, such as 128")
    return int(sides[0]), int(sides[1])


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--model", required=True, help="The network of the zoo that these are weights of.")
@click.option("--rename", "renames", multiple=True, metavar="OLD=NEW", callback=_renames, help="Repeatable.")
@cli.name_option("Name of the artifact (default: the model's).")
@click.option("--classes", metavar="A,B,…", help="Class names in order (default: the data set's).")
@click.option("--dataset", cls=cli.DatasetOption, help="What it was trained on (default: the model's own).")
@click.option("--mean", metavar="M[,M,M]", callback=_figures, help="Subtracted from pixels / 255.")
@click.option("--std", metavar="S[,S,S]", callback=_figures, help="Divided by, after the mean.")
@click.option("--key", metavar="NAME", help="Which part of a larger file holds the weights, such as ema.")
@click.option(
    "--size", metavar="HxW", callback=_size, help="What they were trained at (default: the model's)."
)
@click.option("--replace", is_flag=True, help="Write over an artifact of that name.")
@cli.options(cli.root_option, cli.model_file_option, cli.json_option)
def import_(
    *,
    file: Path,
    model: str,
    renames: dict[str, str],
    name: str | None,
    classes: str | None,
    dataset: str | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    key: str | None,
    size: tuple[int, int] | None,
    replace: bool,
    root: Path,
    model_file: Path | None,
    as_json: bool,
) -> None:
    """Make a checkpoint of FILE, weights saved by PyTorch (.pth, .pt), Lightning (.ckpt) or as safetensors.

    Opening it runs no code. Keys that do not fit are listed.
    """
    from toolkit.inspection.importing import import_ as import_weights

    said: list[str] = []
    artifact = import_weights(
        file,
        model=model,
        name=name,
        classes=[part.strip() for part in classes.split(",")] if classes else None,
        dataset=dataset,
        renames=renames,
        mean=mean,
        std=std,
        replace=replace,
        key=key,
        size=size,
        root=root,
        model_file=model_file,
        tell=said.append,
    )
    for line in said:
        cli.say(line)
    if as_json:
        passport = artifact.passport
        cli.emit(
            {
                "checkpoint": artifact.path,
                "model": passport.model,
                "classes": passport.classes,
                "preprocessing": passport.preprocessing,
                "dataset": passport.dataset.name if passport.dataset else None,
                "assumed": said,
            }
        )
        return
    cli.stdout.print(f"imported as {artifact.path}", markup=False, soft_wrap=True)
    cli.say(f"its accuracy is not known here: `cnnkit eval {artifact.name}` measures it")


COMMAND = import_
