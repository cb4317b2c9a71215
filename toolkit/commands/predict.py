"""`cnnkit predict`: what a network says of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit import cli
from toolkit.errors import CnnkitError

if TYPE_CHECKING:
    from toolkit.answering import Invert
    from toolkit.inspection.prediction import Prediction, Predictions, Refusal


@click.command()
@click.argument("model", required=False)
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@cli.backend_option("[default: the usual one if it has a file here].")
@click.option(
    "--first", type=click.IntRange(1), metavar="N", help="With --dataset: the first N test pictures."
)
@click.option("--top", type=click.IntRange(1), default=3, show_default=True, help="Answers a picture.")
@click.option(
    "--invert",
    type=click.Choice(["auto", "yes", "no"]),
    default="auto",
    show_default=True,
    help="Swap dark and light; auto: where a picture's border is unlike those that a grey network learned.",
)
@click.option("--sheet", type=click.Path(path_type=Path, dir_okay=False), help="Draw them all into this PNG.")
@cli.options(
    cli.dataset_option,
    cli.data_dir_option,
    cli.precision_option,
    cli.untrained_option,
    cli.seed_option,
    cli.device_option,
    cli.threads_option,
    cli.root_option,
    cli.model_file_option,
    cli.json_option,
)
def predict(
    *,
    model: str | None,
    files: tuple[Path, ...],
    backend: str | None,
    first: int | None,
    top: int,
    invert: Invert,
    sheet: Path | None,
    dataset: str | None,
    data_dir: Path | None,
    precision: str,
    untrained: bool,
    seed: int,
    device: str | None,
    threads: int | None,
    root: Path,
    model_file: Path | None,
    as_json: bool,
) -> None:
    """Classify FILES with MODEL, a name or a file; or with --dataset the first test pictures of a data set.

    Without MODEL: the network that was trained or exported last.
    """
    from toolkit.inspection.network import load
    from toolkit.passports import as_precision

    model, files = _sort_out(model, files)
    _check_usage(files, dataset, first)
    refused: list[Refusal] = []
    opened = load(
        model,
        backend=backend,
        precision=as_precision(precision),
        device=device,
        threads=threads,
        root=root,
        untrained=untrained,
        seed=seed,
        model_file=model_file,
        tell=cli.say,
    )
    with opened as network:
        if dataset is None:
            made = network.predict(files, top, invert=invert, on_refusal=refused.append)
            _say_inverted(made, invert)
            _say_frames(made)
        else:
            made = network.predict_dataset(dataset, first=first or 10, top=top, data_dir=data_dir)
    path, by = network.artifact.path, network.backend
    if sheet is not None:
        _draw(sheet, made, f"{path.name}, {by}")
    if as_json:
        cli.emit(
            {
                "predictions": [_row(entry) for entry in made],
                "backend": by,
                "artifact": path,
                "errors": [{"file": entry.source, "error": entry.error} for entry in refused],
                "sheet": sheet,
            }
        )
    else:
        _show(made)
    _fail(refused)


def _draw(sheet: Path, made: Predictions, title: str) -> None:
    from toolkit.inspection.sheet import write_sheet

    warning = write_sheet(sheet, made, title)
    cli.say(f"drew {sheet}")
    if warning:
        cli.say(warning)


def _sort_out(model: str | None, files: tuple[Path, ...]) -> tuple[str | None, tuple[Path, ...]]:
    """Take a picture in the place of MODEL for what it is: a file that is no artifact."""
    from toolkit.opening import is_model_file

    if model and Path(model).is_file() and not is_model_file(Path(model)):
        return None, (Path(model), *files)
    return model, files


def _check_usage(files: tuple[Path, ...], dataset: str | None, first: int | None) -> None:
    if bool(files) == bool(dataset):
        raise click.UsageError("name picture files, or --dataset NAME with --first N, and not both")
    if first is not None and dataset is None:
        raise click.UsageError("--first N goes with --dataset NAME")


def _say_inverted(made: Predictions, invert: Invert) -> None:
    turned = [str(entry.source) for entry in made if entry.inverted]
    if turned and invert == "auto":
        names = ", ".join(turned[:3]) + (" …" if len(turned) > 3 else "")
        cli.say(f"inverted, for a ground unlike the training set's (`--invert no` keeps them): {names}")


def _say_frames(made: Predictions) -> None:
    for entry in made:
        if entry.frames > 1:
            cli.say(f"{entry.source} holds {entry.frames} frames; only the first is used")


def _row(entry: Prediction) -> dict[str, Any]:
    return {
        "file": entry.source,
        "top": [{"label": label, "probability": share} for label, share in entry.top],
        "inverted": entry.inverted,
        "frames": entry.frames,
        "truth": entry.truth,
    }


def _show(made: Predictions) -> None:
    if made:
        cli.print_table(cli.as_rich(made.table()))
    if made.right is not None:
        cli.stdout.print(f"{made.right} of {len(made)} right")


def _fail(refused: list[Refusal]) -> None:
    """Name each refused picture on a line of its own; exit with 1 when there is one."""
    if not refused:
        return
    for entry in refused[:-1]:
        cli.report_error(CnnkitError(entry.error))
    raise CnnkitError(refused[-1].error)


COMMAND = predict
