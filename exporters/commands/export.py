"""`cnnkit export`: a network becomes ONNX files and TensorRT engines that passed their checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from exporters.commands._own_options import exporter_options, typed
from exporters.run.export import export as export_network
from exporters.run.report import Report
from toolkit.allocation import reuse_freed_memory
from toolkit.artifacts import size_bytes
from toolkit.choices import ALLOWED_POINTS
from toolkit.cli import parameters, printing
from toolkit.cli.options import (
    data_dir_option,
    json_option,
    model_file_option,
    name_option,
    precisions_option,
    pretrained_option,
    root_option,
    seed_option,
    size_option,
    untrained_option,
)
from toolkit.exporting import EXPORTERS, Exported, ExportOptions, RangeMethod, default_formats, own_of_all
from toolkit.importing.classes import classes_wanted
from toolkit.passports import Precision


def _sizes(value: str) -> tuple[int, ...]:
    try:
        sizes = tuple(map(int, value.split(",")))
    except ValueError:
        raise ValueError("sizes separated by commas, as in 1,32,256") from None
    if min(sizes) < 1 or list(sizes) != sorted(sizes):
        raise ValueError("sizes of 1 or more, smallest first, as in 1,32,256")
    return sizes


@click.command()
@click.argument("model", required=False)
@click.option(
    "--format",
    "formats",
    cls=parameters.Listed,
    listing=EXPORTERS.names,
    callback=parameters.checked(parameters.words),
    metavar="NAME,…",
    help=f"[default: {','.join(default_formats())}]",
)
@precisions_option
@click.option(
    "--batch",
    "batches",
    default=",".join(map(str, ExportOptions.batches)),
    show_default=True,
    callback=parameters.checked(_sizes),
    help="Smallest, usual, largest.",
)
@click.option(
    "--images",
    default=str(ExportOptions.images),
    show_default=True,
    callback=parameters.checked(parameters.images_or_all),
    metavar="N|all",
    help="For parity.",
)
@click.option(
    "--input",
    "pixels",
    type=click.Choice(["uint8"]),
    help="uint8: raw pixels go in, scaling and normalisation are in the graph (named MODEL-uint8).",
)
@click.option("--softmax", is_flag=True, help="Probabilities come out instead of logits.")
@click.option(
    "--calibration",
    type=click.Choice(get_args(RangeMethod)),
    default=ExportOptions.calibration,
    show_default=True,
)
@click.option(
    "--calibration-images",
    type=click.IntRange(1),
    default=ExportOptions.calibration_images,
    show_default=True,
)
@click.option(
    "--max-accuracy-drop",
    type=parameters.FiniteRange(0),
    help=f"Points that int8, bf16 that runs here, and packs may lose [default: {ALLOWED_POINTS}].",
)
@size_option("Closes an open height and width of an .onnx file from elsewhere.")
@click.option("--output", metavar="NAME", help="The output of such a file that holds the scores.")
@click.option("--explain", is_flag=True, help="When parity fails, name the first module that drifts.")
@exporter_options
@name_option("Name of the artifacts (default: the source's).")
@click.option(
    "--dataset", cls=parameters.DatasetOption, help="Of an .onnx file from elsewhere: labelled pictures."
)
@click.option("--classes", metavar="A,B,…|FILE", help="Of an .onnx file from elsewhere: names in order.")
@click.option("--fresh", is_flag=True, help="Export again even where the stored result is the same.")
@pretrained_option
@untrained_option
@seed_option
@data_dir_option
@model_file_option
@root_option
@json_option
def export(
    *,
    model: str | None,
    formats: tuple[str, ...] | None,
    precisions: tuple[Precision, ...],
    batches: tuple[int, ...],
    images: int | None,
    pixels: str | None,
    softmax: bool,
    calibration: RangeMethod,
    calibration_images: int,
    max_accuracy_drop: float | None,
    size: tuple[int, int] | None,
    output: str | None,
    explain: bool,
    name: str | None,
    dataset: str | None,
    classes: str | None,
    fresh: bool,
    pretrained: Path | None,
    untrained: bool,
    seed: int,
    data_dir: Path | None,
    model_file: Path | None,
    root: Path,
    as_json: bool,
) -> None:
    """Export MODEL (a name, a checkpoint or an .onnx file) to the formats of --format, and prove the result.

    One from elsewhere is imported first where --dataset or --classes says more of it (`cnnkit import` takes
    all that can be said). A lower precision also makes the fp32 ONNX file that it starts from.
    """
    # larger blocks are weights, worth giving back at once
    reuse_freed_memory(largest=64 << 20, kept=512 << 20)
    context = click.get_current_context()
    options = ExportOptions(
        root=root,
        batches=batches,
        images=images,
        seed=seed,
        data_dir=data_dir,
        model_file=model_file,
        name=name,
        pixels=pixels is not None,
        softmax=softmax,
        calibration=calibration,
        calibration_images=calibration_images,
        max_accuracy_drop=max_accuracy_drop,
        explain=explain,
        size=size,
        output=output,
        own=own_of_all(typed(context)),
    )
    report = export_network(
        model,
        formats=formats or None,
        precisions=precisions or None,
        options=options,
        pretrained=pretrained,
        untrained=untrained,
        fresh=fresh,
        dataset=dataset,
        classes=classes_wanted(classes),
        tell=printing.say,
    )
    if as_json:
        made = [_entry(one) for one in report.artifacts]
        printing.emit({"artifacts": made, "skipped": report.skipped, "failed": report.failed})
    else:
        _print(report)
    report.require()


def _entry(made: Exported) -> dict[str, Any]:
    passport = made.artifact.passport
    return {
        "path": made.artifact.path,
        "format": passport.format,
        "precision": passport.precision,
        "size_bytes": size_bytes(made.artifact.path),
        "seconds": made.seconds,
        "cached": made.cached,
        "parity": passport.parity,
        "parity_why": passport.parity_why,
        "source_parity": passport.source_parity,
        "target": passport.target,
    }


def _print(report: Report) -> None:
    if report.artifacts:
        table = printing.as_rich(report.table())
        for column in table.columns:
            column.no_wrap = column.header in ("size", "made in")
        printing.stdout.print(table)
    for missed in report.skipped:
        if missed.format not in report.named:  # one that was named is the command's error
            printing.say(f"skipped {missed}")


ORDER = 50
COMMAND = export
