"""`cnnkit export`: a network becomes ONNX files and TensorRT engines that passed their checks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from click.core import ParameterSource
from rich.markup import escape
from rich.table import Table

from toolkit import cli
from toolkit.artifacts import Precision, as_precision

if TYPE_CHECKING:
    from exporters.run.plan import Report
    from toolkit.exporting import Exported

DEFAULT_FORMATS = ("onnx", "trt")


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
@click.option("--format", "formats", callback=_words, metavar="onnx,trt,triton", help="Default: onnx,trt.")
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
    "--target", "targets", callback=_words, metavar="sm89,…", help="TensorRT-RTX: GPUs to build for."
)
@click.option(
    "--batch",
    "batches",
    default="1,32,256",
    show_default=True,
    callback=_sizes,
    help="Smallest, usual, largest.",
)
@click.option("--opset", type=click.IntRange(18, 25), default=20, show_default=True)
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
    "method",
    type=click.Choice(["minmax", "entropy", "percentile"]),
    default="minmax",
    show_default=True,
)
@click.option("--calibration-images", type=click.IntRange(1), default=512, show_default=True)
@click.option(
    "--max-accuracy-drop", type=click.FloatRange(0), default=0.5, show_default=True, help="int8: points."
)
@click.option("--explain", is_flag=True, help="When parity fails, name the first module that drifts.")
@click.option("--flavour", type=click.Choice(["rtx", "classic"]), help="TensorRT to build with.")
@click.option(
    "--compatible",
    type=click.Choice(["NONE", "AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY"]),
    help="Classic TensorRT: GPUs that the engine runs on (default: the one here).",
)
@click.option("--version-compatible", is_flag=True, help="Classic TensorRT: for later releases, too.")
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
    targets: tuple[str, ...],
    batches: tuple[int, ...],
    opset: int,
    images: int | None,
    pixels: str | None,
    softmax: bool,
    method: str,
    calibration_images: int,
    max_accuracy_drop: float,
    explain: bool,
    flavour: str | None,
    compatible: str | None,
    version_compatible: bool,
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
    from exporters.run.plan import Request, Walk, check_formats, raise_first
    from exporters.run.source import open_source
    from toolkit.allocation import reuse_freed_memory
    from toolkit.errors import CnnkitError
    from toolkit.exporting import ExportOptions
    from toolkit.opening import Selection

    check_formats(formats)
    # larger blocks are weights, worth giving back at once
    reuse_freed_memory(largest=64 << 20, kept=512 << 20)
    short = tuple(as_precision(p) for p, on in (("fp16", fp16), ("int8", int8)) if on)
    wanted = tuple(dict.fromkeys((*(precisions if _typed("precisions") or not short else ()), *short)))
    selection = Selection(
        root=root, formats=("safetensors",), untrained=untrained, seed=seed, model_file=model_file
    )
    source = open_source(model, selection)
    cli.opened(source)
    if source.passport.format == "onnx" and _typed("opset"):
        raise CnnkitError(
            f"{source.path.name} keeps the opset that it was written with; leave --opset away, or name "
            "the checkpoint that it came from"
        )
    options = ExportOptions(
        root=root,
        batches=batches,
        opset=opset,
        images=images,
        targets=targets,
        seed=seed,
        data_dir=data_dir,
        model_file=model_file,
        extra={
            "input": pixels,
            "softmax": softmax,
            "method": method,
            "calibration_images": calibration_images,
            # what was typed must be judged, the default where it can be
            "max_accuracy_drop": max_accuracy_drop if _typed("max_accuracy_drop") else None,
            "explain": explain,
            "flavour": flavour,
            "compatible": compatible,
            "version_compatible": version_compatible,
            "name": name,
        },
    )
    request = Request(
        formats=formats or DEFAULT_FORMATS,
        precisions=wanted,
        options=options,
        named=bool(formats or targets),
        fresh=fresh,
    )
    report = Walk(source, request, cli.say).run()
    if as_json:
        cli.emit(_payload(report))
    else:
        _print(report, named=request.named)
    raise_first(report, named=request.named)


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


def _print(report: Report, *, named: bool) -> None:
    from exporters.proving.parity import words
    from toolkit.artifacts import size_bytes
    from toolkit.figures import bytes_text

    folders = sorted({str(made.artifact.path.absolute().parent) for made in report.artifacts})
    table = Table(title="\n".join(folders) or None, title_justify="left")
    for heading in ("file", "size", "proof", "made in"):
        table.add_column(heading, overflow="fold", no_wrap=heading in ("size", "made in"))
    for made in report.artifacts:
        path, passport = made.artifact.path, made.artifact.passport
        proof = words(passport.parity) if passport.parity else passport.parity_why or "none"
        took = "stored result" if made.cached else f"{made.seconds:.1f} s"
        table.add_row(escape(path.name), bytes_text(size_bytes(path)), escape(proof), took)
    if report.artifacts:
        cli.stdout.print(table)
    for missed in () if named else report.skipped:
        cli.say(f"skipped {missed.format} {missed.precision}: {missed.reason}")


COMMAND = export
