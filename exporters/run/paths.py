"""Where an export lies: `<name>.onnx`, `<name>.fp16.onnx`, `<name>.int8-trt.onnx`, `<name>.fp16.engine` …"""

from __future__ import annotations

from pathlib import Path

from toolkit.artifacts import Artifact, Format, Passport, artifact_path, find_artifacts, is_shipped
from toolkit.errors import CnnkitError
from toolkit.exporting import ExportOptions


def export_name(source: Artifact, options: ExportOptions) -> str:
    """Return the artifact's name: the one typed, else the source's (`…-uint8` where it takes raw pixels).

    An artifact's name ends at its file's first dot. A file from elsewhere may have dots anywhere, and
    what tells `net1.0` from `net1.1` comes behind one, so its dots become dashes.
    """
    named = options.extra.get("name")
    if named:
        return str(named)
    name = source.path.stem.replace(".", "-") if _from_elsewhere(source) else source.name
    raw = options.extra.get("input") == "uint8" and not name.endswith("-uint8")
    return f"{name}-uint8" if raw else name


def export_path(source: Artifact, options: ExportOptions, format: Format) -> Path:
    """Return where an export of `source` goes; int8 graphs for TensorRT are files of their own.

    `options.extra["path"]` names the very file, for an engine that is built again in its place.
    """
    given = options.extra.get("path")
    if given is not None:
        return Path(given)
    path = artifact_path(options.root, export_name(source, options), format, options.precision)
    if format == "onnx" and options.precision == "int8" and options.extra.get("purpose") == "trt":
        return path.with_name(path.name.replace(".int8.", ".int8-trt."))
    return path


def refuse_another_network(source: Artifact, options: ExportOptions) -> None:
    """Raise CnnkitError where the artifacts of that name are another network's; a typed name is meant."""
    if options.extra.get("name"):
        return
    name = export_name(source, options)
    for path, placed in find_artifacts(options.root, name):
        if not is_shipped(path) and _origin(placed) != _origin(source.passport):
            raise CnnkitError(
                f"{source.path} would be exported as {name}, and {path} is another network "
                f"({placed.model}, {'from elsewhere' if placed.trained is None else 'of a checkpoint'}): "
                "`--name OTHER` keeps both, `--fresh` replaces what is there"
            )


def _origin(passport: Passport) -> tuple[str, bool]:
    """Return what tells networks of one name apart: the model, and whether its weights came as ONNX."""
    return passport.model, passport.trained is None


def _from_elsewhere(source: Artifact) -> bool:
    """Tell whether a source is a plain ONNX file; every graph that was exported here names its source."""
    return source.passport.format == "onnx" and source.passport.source_sha256 is None
