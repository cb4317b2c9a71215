"""`cnnkit show`: what a network is made of, and what its layers see."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.box import SIMPLE_HEAD

from toolkit.artifacts import artifact_name
from toolkit.cli import parameters, printing
from toolkit.cli.options import (
    data_dir_option,
    dataset_option,
    json_option,
    model_file_option,
    root_option,
    seed_option,
    untrained_option,
)
from toolkit.cli.overruling import typed
from toolkit.cli.reports import refuse_overwriting, report_option
from toolkit.commands._training_options import part_options, reading_options, start_options
from toolkit.training import jobs
from toolkit.training.recipes import settings
from toolkit.transfer import IMAGENET

if TYPE_CHECKING:
    from toolkit.inspection.layers import Layers

# the ways of showing a network, each with the options that it heeds and another one does not
_LAYERS, _FEATURES, _AUGMENTED = "the table of layers", "--features", "--augmented"
_WAYS = (
    (_LAYERS, {"batch", "training", "recipe", "classes", "channels", "pretrained", "untrained"}),
    (_FEATURES, {"layers", "against", "out", "pretrained", "untrained"}),
    (_AUGMENTED, {"changes", "dataset", "data_dir", "recipe", "out", *(jobs.options().keys() - {"seed"})}),
)


def _insist_that_all_is_heeded(way: str) -> None:
    """Raise UsageError for what was typed and does nothing in this way of showing a network."""
    for parameter in click.get_current_context().command.params:
        name = str(parameter.name)
        takers = [other for other, heeded in _WAYS if name in heeded]
        if takers and way not in takers and typed(name):
            word = parameter.opts[0]
            field = f"; --set {word.removeprefix('--')}=… is the recipe's" if name in settings() else ""
            raise click.UsageError(f"{word} goes with {' and '.join(takers)}, not with {way}{field}")


@click.command()
@click.argument("model")
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Pictures at once.")
@click.option("--training", is_flag=True, help="Also what a training step holds in memory.")
@click.option("--recipe", default="default", show_default=True, help="With --training, --augmented.")
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
@click.option(
    "--augmented",
    is_flag=True,
    help="Draw pictures of the data set as training with these options shows them.",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="FIELD=VALUE",
    help="With --augmented: a recipe field, e.g. --set mixup=0.2.",
)
@parameters.options(dataset_option, data_dir_option, reading_options, part_options, start_options)
@report_option("--out", "The PNG to write.", ending=".png")
@parameters.options(untrained_option, seed_option)
@parameters.options(root_option, model_file_option, json_option)
def show(
    *,
    model: str,
    batch: int,
    training: bool,
    recipe: str,
    classes: int | None,
    channels: str | None,
    features: Path | None,
    layers: tuple[str, ...],
    against: str | None,
    augmented: bool,
    changes: tuple[str, ...],
    dataset: str | None,
    exclude: Path | None,
    out: Path | None,
    pretrained: str | None,
    untrained: bool,
    seed: int,
    root: Path,
    model_file: Path | None,
    as_json: bool,
    **learning: Any,
) -> None:
    """Show the layers of MODEL: output shape, parameters, multiply-adds and bytes.

    With --features PICTURE: draw what its layers make of a picture. With --augmented: draw what
    training shows it; options of `cnnkit train` that say which pictures, how large and from which weights go
    with it alone, but for --pretrained FILE: published weights of a package's network are also looked at.
    """
    if features is not None and augmented:
        raise click.UsageError("--features and --augmented draw two sheets: one at a time")
    way = _AUGMENTED if augmented else _FEATURES if features is not None else _LAYERS
    _insist_that_all_is_heeded(way)
    if way == _LAYERS and typed("recipe") and not training:
        raise click.UsageError("--recipe goes with --training and --augmented")
    if way != _AUGMENTED and pretrained == IMAGENET:
        raise click.UsageError("--pretrained takes a FILE; without one it goes with --augmented")
    refuse_overwriting(out, read=(features, model, against, pretrained, dataset, exclude))
    if augmented:
        _draw_augmented(
            model,
            recipe,
            changes,
            out,
            as_json=as_json,
            dataset=dataset,
            exclude=exclude,
            pretrained=pretrained,
            seed=seed,
            root=root,
            model_file=model_file,
            **learning,
        )
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
        training=recipe if training else None,
        classes=classes,
        channels=int(channels) if channels else None,
        pretrained=pretrained,
        untrained=untrained,
        root=root,
        model_file=model_file,
    )
    if as_json:
        printing.emit(found.to_json())
    else:
        _print(found)


def _print(found: Layers) -> None:
    printing.print_table(printing.as_rich(found.table(), box=SIMPLE_HEAD, padding=(0, 1, 0, 0)))
    printing.stdout.print("\n".join(found.sentences()), markup=False, soft_wrap=True)


def _draw_augmented(
    model: str, recipe: str, changes: tuple[str, ...], out: Path | None, *, as_json: bool, **options: Any
) -> None:
    """Write the sheet of what a network is shown in training; say where it lies."""
    from toolkit.commands._training_screen import Screen
    from toolkit.inspection.augmented import augmented, sheet_path
    from toolkit.inspection.sheet import write_png

    fields = {}
    for change in changes:
        word, equals, value = change.partition("=")
        if not equals:
            raise click.UsageError(f"--set takes FIELD=VALUE, not {change!r}")
        fields[word] = value
    with Screen() as screen:
        found = augmented(model, recipe=recipe, changes=fields, watcher=screen, **options)
    path = out or sheet_path(model)
    write_png(path, found.image())
    if as_json:
        printing.emit({**found.to_json(), "sheet": path})
    else:
        printing.stdout.print(f"drew {path}", markup=False, soft_wrap=True)


def _draw(models: list[str], picture: Path, path: Path, *, as_json: bool, **options: Any) -> None:
    """Write what layers of the models' checkpoints make of a picture as a PNG; say what was drawn."""
    from toolkit.inspection.features import features
    from toolkit.inspection.sheet import write_png

    found = features(models, picture, tell=printing.say, **options)
    write_png(path, found.image())
    if not as_json:
        printing.stdout.print(f"drew {path}", markup=False, soft_wrap=True)
        return
    drawn = [
        {
            "model": entry.title,
            "layers": [{"name": one.name, "type": one.type, "shape": one.maps.shape} for one in entry.layers],
        }
        for entry in found.seen
    ]
    printing.emit({"picture": picture, "features": path, "models": drawn})


ORDER = 40
COMMAND = show
