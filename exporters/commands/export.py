"""`cnnkit export`: a network becomes ONNX files and TensorRT engines that passed their checks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from click.core import ParameterSource

from exporters.commands._own_options import exporter_options, typed
from toolkit import cli
from toolkit.exporting import RangeMethod
from toolkit.passports import Precision, as_precision

if TYPE_CHECKING:
    from exporters.run.report import Report
    from toolkit.exporting import Exported


class FormatOption(click.Option):
    """Lists the formats that there are in its help, and only when that is asked for."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        from toolkit.exporting import EXPORTERS, default_formats

        record = super().get_help_record(ctx)
        words = f"{', '.join(EXPORTERS.names())} [default: {','.join(default_formats())}]"
        return record and (record[0], words)


def _words(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word.strip() for word in (value or "").split(",") if word.strip()))


def _sizes(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(word) for word in value.split(","))
    except ValueError:
        raise click.BadParameter("sizes separated by commas, as in 1,32,256") from None
    if not sizes or min(sizes) < 1 or list(sizes) != sorted(sizes):
        raise click.BadParameter("sizes of 1 or more, smallest first, as in 1,32,256")
    return sizes


def _precisions(context: click.Context, parameter: click.Parameter, value: str) -> tuple[Precision, ...]:
    try:
        return tuple(as_precision(word) for word in _words(context, parameter, value))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _images(context: click.Context, parameter: click.Parameter, value: str) -> int | None:
    if value == "all":
        return None
    if not value.isdigit() or int(value) < 1:
        raise click.BadParameter("a number of images, or all")
    return int(value)


@click.command()
@click.argument("model", required=False)
@click.option("--format", "formats", callback=_words, cls=FormatOption, metavar="NAME,…")
@click.option(
    "--precision",
    "precisions",
    default="fp32",
    show_default=True,
    callback=_precisions,
    metavar=",".join(get_args(Precision)),
)
@click.option("--fp16", is_flag=True, help="= --precision fp16")
@click.option("--int8", is_flag=True, help="= --precision int8")
@click.option(
    "--batch",
    "batches",
    default="1,32,256",
    show_default=True,
    callback=_sizes,
    help="Smallest, usual, largest.",
)
@click.option(
    "--images", default="1000", show_default=True, callback=_images, metavar="N|all", help="For parity."
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
    default="minmax",
    show_default=True,
)
@click.option("--calibration-images", type=click.IntRange(1), default=512, show_default=True)
@click.option(
    "--max-accuracy-drop", type=click.FloatRange(0), help="int8: points that it may lose [default: 0.5]."
)
@click.option("--explain", is_flag=True, help="When parity fails, name the first module that drifts.")
@exporter_options
@cli.name_option("Name of the artifacts (default: the source's).")
@click.option("--fresh", is_flag=True, help="Export again even where the stored result is the same.")
@cli.untrained_option
@cli.seed_option
@cli.data_dir_option
@cli.model_file_option
@cli.root_option
@cli.json_option
def export(
    *,
    model: str | None,
    formats: tuple[str, ...],
    precisions: tuple[Precision, ...],
    fp16: bool,
    int8: bool,
    batches: tuple[int, ...],
    images: int | None,
    pixels: str | None,
    softmax: bool,
    calibration: RangeMethod,
    calibration_images: int,
    max_accuracy_drop: float | None,
    explain: bool,
    name: str | None,
    fresh: bool,
    untrained: bool,
    seed: int,
    data_dir: Path | None,
    model_file: Path | None,
    root: Path,
    as_json: bool,
) -> None:
    """Export MODEL (a name, a checkpoint or an .onnx file) to ONNX and TensorRT, and prove the result.

    A lower precision also makes the fp32 ONNX file that it starts from.
    """
    from exporters.run.export import export as export_network
    from toolkit.allocation import reuse_freed_memory
    from toolkit.exporting import ExportOptions, own_of_all

    # larger blocks are weights, worth giving back at once
    reuse_freed_memory(largest=64 << 20, kept=512 << 20)
    short = tuple(as_precision(p) for p, on in (("fp16", fp16), ("int8", int8)) if on)
    wanted = tuple(dict.fromkeys((*(precisions if _typed("precisions") or not short else ()), *short)))
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
        own=own_of_all(typed(click.get_current_context())),
    )
    report = export_network(
        model,
        formats=formats or None,
        precisions=wanted,
        options=options,
        untrained=untrained,
        fresh=fresh,
        tell=cli.say,
    )
    if as_json:
        cli.emit(_payload(report))
    else:
        _print(report)
    report.require()


def _typed(option: str) -> bool:
    """Tell whether an option of this command was typed, rather than left at its default."""
    return click.get_current_context().get_parameter_source(option) is ParameterSource.COMMANDLINE


def _payload(report: Report) -> dict[str, Any]:
    return {
        "artifacts": [_entry(made) for made in report.artifacts],
        "skipped": report.skipped,
        "failed": report.failed,
    }


def _entry(made: Exported) -> dict[str, Any]:
    from toolkit.artifacts import size_bytes

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
        table = cli.as_rich(report.table())
        for column in table.columns:
            column.no_wrap = column.header in ("size", "made in")
        cli.stdout.print(table)
    for missed in () if report.named else report.skipped:
        cli.say(f"skipped {missed}")


COMMAND = export
