"""`cnnkit show`: what a network is made of, and what its layers see."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.box import SIMPLE_HEAD

from toolkit import cli
from toolkit.artifacts import artifact_name

if TYPE_CHECKING:
    from toolkit.inspection.layers import Layers


@click.command()
@click.argument("model")
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Pictures at once.")
@click.option(
    "--augmented", is_flag=True, help="Draw pictures of the data set as the recipe shows them in training."
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="FIELD=VALUE",
    help="With --augmented: a recipe field, e.g. --set mixup=0.2.",
)
@cli.dataset_option
@cli.data_dir_option
@click.option("--training", is_flag=True, help="Also what a training step holds in memory.")
@click.option(
    "--recipe", "recipe_name", default="default", show_default=True, help="With --training, --augmented."
)
@click.option("--classes", type=click.IntRange(1), help="Classes (default: the model's).")
@click.option("--channels", type=click.Choice(["1", "3"]), help="Channels (default: the model's).")
@click.option(
    "--features",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="PICTURE",
    help="Draw what a layer of the trained network makes of this picture.",
)
@click.option(
    "--layer", "layers", multiple=True, help="With --features (default: the first two activations)."
)
@click.option("--against", metavar="OTHER", help="With --features: a second model beside it.")
@cli.report_option("--out", "The PNG to write.", ending=".png")
@cli.options(cli.pretrained_option, cli.untrained_option, cli.seed_option)
@cli.options(cli.root_option, cli.model_file_option, cli.json_option)
def show(
    *,
    model: str,
    batch: int,
    augmented: bool,
    changes: tuple[str, ...],
    dataset: str | None,
    data_dir: Path | None,
    training: bool,
    recipe_name: str,
    classes: int | None,
    channels: str | None,
    features: Path | None,
    layers: tuple[str, ...],
    against: str | None,
    out: Path | None,
    pretrained: Path | None,
    untrained: bool,
    seed: int,
    root: Path,
    model_file: Path | None,
    as_json: bool,
) -> None:
    """Show the layers of MODEL: output shape, parameters, multiply-adds and bytes.

    With --features PICTURE: draw what its layers make of a picture. With --augmented: draw what
    training shows it.
    """
    if features is None and (layers or against or (out and not augmented)):
        raise click.UsageError("--layer, --against and --out go with --features PICTURE")
    if not augmented and (changes or dataset or data_dir):
        raise click.UsageError("--set, --dataset and --data-dir go with --augmented")
    cli.refuse_overwriting(out, read=(features, model, against))
    if augmented:
        options = {"dataset": dataset, "data_dir": data_dir, "model_file": model_file}
        _draw_augmented(model, recipe_name, changes, out, as_json=as_json, seed=seed, root=root, **options)
        return
    if features is not None:
        names = [model] + ([against] if against else [])
        _draw(
            names,
            features,
            out or Path(f"{'-against-'.join(artifact_name(Path(name).stem) for name in names)}-features.png"),
            as_json=as_json,
            layers=layers,
            pretrained=pretrained,
            untrained=untrained,
            seed=seed,
            root=root,
            model_file=model_file,
        )
        return
    from toolkit.inspection.layers import show as show_layers

    found = show_layers(
        model,
        batch=batch,
        training=recipe_name if training else None,
        classes=classes,
        channels=int(channels) if channels else None,
        pretrained=pretrained,
        untrained=untrained,
        root=root,
        model_file=model_file,
    )
    if as_json:
        cli.emit(found.to_json())
    else:
        _print(found)


def _print(found: Layers) -> None:
    cli.print_table(cli.as_rich(found.table(), box=SIMPLE_HEAD, padding=(0, 1, 0, 0)))
    cli.stdout.print("\n".join(found.sentences()), markup=False, soft_wrap=True)


def _draw_augmented(
    model: str, recipe: str, changes: tuple[str, ...], out: Path | None, *, as_json: bool, **options: Any
) -> None:
    """Write the sheet of what a network is shown in training; say where it lies."""
    from toolkit.inspection.augmented import augmented, sheet_path
    from toolkit.inspection.sheet import write_png

    fields = {}
    for change in changes:
        word, equals, value = change.partition("=")
        if not equals:
            raise click.UsageError(f"--set takes FIELD=VALUE, not {change!r}")
        fields[word] = value
    found = augmented(model, recipe=recipe, changes=fields, tell=cli.say, **options)
    path = out or sheet_path(model)
    write_png(path, found.image())
    if as_json:
        cli.emit({**found.to_json(), "sheet": path})
    else:
        cli.stdout.print(f"drew {path}", markup=False, soft_wrap=True)


def _draw(models: list[str], picture: Path, path: Path, *, as_json: bool, **options: Any) -> None:
    """Write what layers of the models' checkpoints make of a picture as a PNG; say what was drawn."""
    from toolkit.inspection.features import features
    from toolkit.inspection.sheet import write_png

    found = features(models, picture, tell=cli.say, **options)
    write_png(path, found.image())
    if not as_json:
        cli.stdout.print(f"drew {path}", markup=False, soft_wrap=True)
        return
    drawn = [
        {
            "model": entry.title,
            "layers": [{"name": one.name, "type": one.type, "shape": one.maps.shape} for one in entry.layers],
        }
        for entry in found.seen
    ]
    cli.emit({"picture": picture, "features": path, "models": drawn})


ORDER = 40
COMMAND = show
