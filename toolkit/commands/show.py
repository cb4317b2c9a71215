"""`cnnkit show`: what a network is made of, and what its layers see."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from toolkit import cli, schema
from toolkit.figures import UNKNOWN, bytes_text, count_text

if TYPE_CHECKING:
    from toolkit.inspection.layers import Anatomy


@click.command()
@click.argument("model")
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Pictures at once.")
@click.option("--training", is_flag=True, help="Also what a training step holds in memory.")
@click.option("--recipe", "recipe_name", default="default", show_default=True, help="With --training.")
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
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="With --features: the PNG to write."
)
@cli.options(cli.untrained_option, cli.seed_option, cli.root_option, cli.model_file_option, cli.json_option)
def show(
    *,
    model: str,
    batch: int,
    training: bool,
    recipe_name: str,
    classes: int | None,
    channels: str | None,
    features: Path | None,
    layers: tuple[str, ...],
    against: str | None,
    out: Path | None,
    untrained: bool,
    seed: int,
    root: Path,
    model_file: Path | None,
    as_json: bool,
) -> None:
    """Show the layers of MODEL: output shape, parameters, multiply-adds and bytes.

    With --features PICTURE: draw what its layers make of a picture.
    """
    if features is None and (layers or against or out):
        raise click.UsageError("--layer, --against and --out go with --features PICTURE")
    if features is not None:
        from toolkit.commands._features_screen import draw

        names = [model] + ([against] if against else [])
        draw(
            names,
            features,
            layers=layers,
            out=out,
            root=root,
            untrained=untrained,
            seed=seed,
            model_file=model_file,
            as_json=as_json,
        )
        return
    from toolkit.inspection.layers import dissect, resolve, shadow

    spec, shape, count = resolve(model, root=root, model_file=model_file)
    shape = (int(channels), *shape[1:]) if channels else shape
    count = classes or count
    recipe = spec.recipe(recipe_name) if training else None
    found = dissect(shadow(spec, shape[0], count), (batch, *shape), training=recipe)
    if as_json:
        cli.emit({"model": spec.name, "batch": batch, "classes": count, **_payload(found)})
    else:
        _print(spec.name, found)


def _payload(found: Anatomy) -> dict[str, Any]:
    held = found.training
    rows = []
    for index, row in enumerate(found.rows):
        entry = schema.plain(row)
        if held:
            entry["saved_bytes"] = held.saved_by_row[index]
            entry["held_bytes"] = found.held_bytes()[index]
        rows.append(entry)
    return {
        "input_shape": found.input_shape,
        "parameters": found.parameters,
        "macs": found.macs,
        "weights_bytes": found.weights_bytes,
        "activation_bytes": found.activation_bytes,
        "most_weights": found.weightiest().name,
        "most_memory": found.heaviest().name,
        "most_compute": found.hungriest().name,
        "rows": rows,
        "training": held
        and {
            "recipe": held.recipe,
            "optimizer": held.optimizer,
            "gradient_bytes": held.gradient_bytes,
            "optimizer_bytes": held.optimizer_bytes,
            "saved_bytes": held.saved_bytes,
            "total_bytes": found.weights_bytes
            + held.gradient_bytes
            + held.optimizer_bytes
            + held.saved_bytes,
        },
    }


def _print(name: str, found: Anatomy) -> None:
    held = found.training
    shape = escape(str(list(found.input_shape)))
    table = Table(title=f"{name}, input {shape}", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("layer", "type", "output shape"):
        table.add_column(heading, overflow="fold")
    for heading in ("parameters", "mult-adds", "weights", "output", *(["kept"] if held else [])):
        table.add_column(heading, justify="right", no_wrap=True)
    for index, row in enumerate(found.rows):
        figures = [_count(row.parameters), count_text(row.macs or None), _size(row.weights_bytes)]
        figures.append(_size(row.activation_bytes))
        if held:
            figures.append(_size(held.saved_by_row[index]))
        # a shape is a list in square brackets, which would be markup
        table.add_row(escape(row.name), row.type, escape(str(list(row.output_shape))), *figures)
    totals = [_count(found.parameters), count_text(found.macs or None), _size(found.weights_bytes)]
    totals.append(_size(found.activation_bytes))
    table.add_section()
    table.add_row("all", "", "", *totals, *([_size(held.saved_bytes)] if held else []))
    cli.print_table(table)
    heavy, hungry = found.heaviest(), found.hungriest()
    holds = f"{_size(heavy.weights_bytes)} weights, {_size(heavy.activation_bytes)} output"
    if held:
        total, kept = max(zip(found.held_bytes(), held.saved_by_row, strict=True))
        holds = (
            f"{_size(total)}: {_size(heavy.weights_bytes)} weights, "
            f"{_size(total - heavy.weights_bytes - kept)} gradients and optimizer, {_size(kept)} kept"
        )
    weighty = found.weightiest()
    lines = [
        f"most weights: {weighty.name} ({_size(weighty.weights_bytes)})",
        f"most memory: {heavy.name} ({holds})",
        f"most compute: {hungry.name} ({_count(hungry.macs)} multiply-adds, "
        f"{hungry.macs / max(1, found.macs):.0%} of all)",
    ]
    if held:
        total = found.weights_bytes + held.gradient_bytes + held.optimizer_bytes + held.saved_bytes
        lines.append(
            f"a training step ({held.recipe}, {held.optimizer}, fp32): weights {_size(found.weights_bytes)} "
            f"+ gradients {_size(held.gradient_bytes)} + optimizer {_size(held.optimizer_bytes)} + kept for "
            f"the backward pass {_size(held.saved_bytes)} = {_size(total)}"
        )
    cli.stdout.print("\n".join(lines), markup=False, soft_wrap=True)


def _count(number: int) -> str:
    return f"{number:,}" if number else UNKNOWN


def _size(number: int) -> str:
    return bytes_text(number or None)


COMMAND = show
