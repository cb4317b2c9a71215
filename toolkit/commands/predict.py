"""`cnnkit predict`: what a network says of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli import parameters, printing
from toolkit.cli.options import (
    backend_option,
    data_dir_option,
    dataset_option,
    device_option,
    json_option,
    model_file_option,
    precision_option,
    pretrained_option,
    root_option,
    seed_option,
    threads_option,
    untrained_option,
)
from toolkit.cli.overruling import takes_choice
from toolkit.cli.reports import refuse_overwriting, report_option, write_report
from toolkit.errors import CnnkitError

_AT_ONCE = 256
_FIRST = 10
_TABLED = 200  # rows on a terminal; of more pictures the answers are counted

if TYPE_CHECKING:
    from toolkit.answering import Invert
    from toolkit.inspection.network import Network
    from toolkit.inspection.prediction import Prediction, Predictions, Refusal
    from toolkit.passports import Precision


@click.command()
@click.argument("model", required=False)
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@backend_option("[default: the usual one if it has a file here].")
@click.option(
    "--first",
    type=click.IntRange(1),
    metavar="N",
    help=f"With --dataset: the first N test pictures [default: {_FIRST}].",
)
@click.option("--top", type=click.IntRange(1), default=3, show_default=True, help="Answers a picture.")
@click.option(
    "--invert",
    type=click.Choice(["auto", "yes", "no"]),
    default="auto",
    show_default=True,
    help="Swap dark and light; auto: where a picture's border is unlike those that a grey network learned.",
)
@report_option("--sheet", "Draw them into this PNG.", ending=".png")
@report_option("--csv", "Write the answers as CSV.")
@parameters.options(
    dataset_option,
    data_dir_option,
    precision_option,
    pretrained_option,
    untrained_option,
    seed_option,
    device_option,
    threads_option,
    root_option,
    model_file_option,
    json_option,
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
    csv: Path | None,
    dataset: str | None,
    data_dir: Path | None,
    precision: Precision | None,
    pretrained: Path | None,
    untrained: bool,
    seed: int,
    device: str | None,
    threads: int | None,
    root: Path,
    model_file: Path | None,
    as_json: bool,
) -> None:
    """Classify FILES with MODEL, a name or a file; or with --dataset the first test pictures of a data set.

    A folder among FILES stands for all pictures in it. Without MODEL: the network that was trained or
    exported last.
    """
    from toolkit.inspection.network import load

    model, files = _sort_out(model, files, dataset)
    _check_usage(files, dataset, first=first, data_dir=data_dir, invert=invert)
    pictures = _pictures(files, sheet)
    refuse_overwriting(sheet, csv, read=(model, dataset, *pictures))
    refused: list[Refusal] = []
    opened = load(
        model,
        backend=backend,
        precision=precision,
        device=device,
        threads=threads,
        root=root,
        pretrained=pretrained,
        untrained=untrained,
        seed=seed,
        model_file=model_file,
        choice=takes_choice(backend=backend, device=device),
        tell=printing.say,
    )
    with opened as network:
        if dataset is None:
            made = _answered(network, pictures, top, invert, refused)
            _say_inverted(made, invert)
            _say_frames(made)
        else:
            with printing.progress() as progress:
                made = network.predict_dataset(
                    dataset,
                    first=first or _FIRST,
                    top=top,
                    data_dir=data_dir,
                    on_step=printing.steps_on(progress),
                )
    path, by = network.artifact.path, network.backend
    if as_json:
        printing.emit(
            {
                "predictions": [_row(entry) for entry in made],
                "backend": by,
                "artifact": path,
                "errors": [{"file": entry.source, "error": entry.error} for entry in refused],
                "sheet": sheet if made else None,
                "csv": csv,
            }
        )
    else:
        _show(made)
    if sheet is not None and made:  # why none could be read is told below
        _draw(sheet, made, f"{path.name}, {by}")
    if csv is not None:
        from toolkit.inspection.prediction import as_csv

        write_report(csv, as_csv(made, refused))
    _fail(refused)


def _answered(
    network: Network, pictures: tuple[Path, ...], top: int, invert: Invert, refused: list[Refusal]
) -> Predictions:
    """Classify pictures some at a time, so that memory stays bounded: pixels are kept for a sheet alone."""
    from toolkit.inspection.prediction import Predictions, without_pixels
    from toolkit.inspection.sheet import MOST_TILES

    made: list[Prediction] = []
    with printing.progress() as progress:
        task = progress.add_task("predicting", total=len(pictures))
        for start in range(0, len(pictures), _AT_ONCE):
            some = pictures[start : start + _AT_ONCE]
            found = network.predict(some, top, invert=invert, on_refusal=refused.append)
            room = max(0, MOST_TILES - len(made))
            made += [*found[:room], *map(without_pixels, found[room:])]
            progress.advance(task, len(some))
    return Predictions(made)


def _draw(sheet: Path, made: Predictions, title: str) -> None:
    from toolkit.inspection.sheet import MOST_TILES, write_sheet

    shown = made[:MOST_TILES]
    warning = write_sheet(sheet, shown, title)
    rest = f": the first {MOST_TILES:,} of {len(made):,} pictures" if len(shown) < len(made) else ""
    printing.say(f"drew {sheet}{rest}")
    if warning:
        printing.say(warning)


def _sort_out(
    model: str | None, files: tuple[Path, ...], dataset: str | None
) -> tuple[str | None, tuple[Path, ...]]:
    """Take a picture or a folder in the place of MODEL for what it is: no artifact."""
    from toolkit.artifacts import sidecar
    from toolkit.opening import is_model_file
    from toolkit.presence import is_file, is_folder, is_there

    path = Path(model) if model else None
    if path is None:
        return model, files
    picture = is_file(path) and not is_model_file(path)
    # a name of a network may be that of a folder, too: it is one of pictures where nothing else is named
    folder = not files and dataset is None and is_folder(path) and not is_there(sidecar(path))
    return (None, (path, *files)) if picture or folder else (model, files)


def _pictures(files: tuple[Path, ...], sheet: Path | None) -> tuple[Path, ...]:
    """Put the pictures of a folder in its place, and say what of the folder is none.

    The sheet that an earlier run drew into a folder is none of its pictures.
    """
    from toolkit.inspection.folders import pictures_in
    from toolkit.inspection.sheet import drawn_here
    from toolkit.presence import is_folder

    drawn = sheet.resolve() if sheet is not None and drawn_here(sheet) else None

    found: list[Path] = []
    for path in files:
        if not is_folder(path):
            found.append(path)
            continue
        pictures, others = pictures_in(path)
        pictures = [picture for picture in pictures if picture.resolve() != drawn]
        rest = f"; {len(others):,} other files are left out" if others else ""
        if not pictures:
            raise CnnkitError(f"{path} holds no pictures{rest}; name files, or a folder that holds some")
        printing.say(f"{len(pictures):,} pictures in {path}{rest}")
        found += pictures
    return tuple(found)


def _check_usage(
    files: tuple[Path, ...],
    dataset: str | None,
    *,
    first: int | None,
    data_dir: Path | None,
    invert: Invert,
) -> None:
    if bool(files) == bool(dataset):
        raise click.UsageError("name picture files, or --dataset NAME with --first N, and not both")
    for word, given in (("--first N", first), ("--data-dir DIR", data_dir)):
        if given is not None and dataset is None:
            raise click.UsageError(f"{word} goes with --dataset NAME")
    if invert == "yes" and dataset is not None:
        raise click.UsageError("--invert yes goes with FILES, not with --dataset NAME")


def _say_inverted(made: Predictions, invert: Invert) -> None:
    turned = [str(entry.source) for entry in made if entry.inverted]
    if turned and invert == "auto":
        names = ", ".join(turned[:3]) + (" …" if len(turned) > 3 else "")
        printing.say(f"inverted, for a ground unlike the training set's (`--invert no` keeps them): {names}")


def _say_frames(made: Predictions) -> None:
    for entry in made:
        if entry.frames > 1:
            printing.say(f"{entry.source} holds {entry.frames} frames; only the first is used")


def _row(entry: Prediction) -> dict[str, Any]:
    return {
        "file": entry.source,
        "top": [{"label": label, "probability": share} for label, share in entry.top],
        "inverted": entry.inverted,
        "frames": entry.frames,
        "truth": entry.truth,
        "right": entry.right,
    }


def _show(made: Predictions) -> None:
    if len(made) > _TABLED:
        printing.print_table(printing.as_rich(made.counts()))
        printing.stdout.print("`--csv FILE` lists the answer to each picture")
    elif made:
        printing.print_table(printing.as_rich(made.table()))
    if made.right is not None:
        printing.stdout.print(f"{made.right} of {len(made)} right")


def _fail(refused: list[Refusal]) -> None:
    """Name each refused picture on a line of its own; exit with 1 when there is one."""
    if not refused:
        return
    for entry in refused[:-1]:
        printing.report_error(CnnkitError(entry.error))
    raise CnnkitError(refused[-1].error)


ORDER = 30
COMMAND = predict
