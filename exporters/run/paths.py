"""Where an export lies: `<name>.onnx`, `<name>.fp16.onnx`, `<name>.int8-trt.onnx`, `<name>.fp16.engine` …"""

from __future__ import annotations

from pathlib import Path

from toolkit.artifacts import Artifact, artifact_path, find_artifacts, is_shipped
from toolkit.errors import CnnkitError
from toolkit.exporting import Exporter, ExportOptions
from toolkit.graphs import GRAPH
from toolkit.passports import Passport


def export_name(source: Artifact, options: ExportOptions) -> str:
    """Return the artifact's name: the one typed, else the source's (`…-uint8` where it takes raw pixels).

    An artifact's name ends at its file's first dot. A file from elsewhere may have dots anywhere, and
    what tells `net1.0` from `net1.1` comes behind one, so its dots become dashes.
    """
    if options.name:
        return options.name
    # every graph that was exported here names its source
    elsewhere = source.passport.format == GRAPH and source.passport.source_sha256 is None
    name = source.path.stem.replace(".", "-") if elsewhere else source.name
    raw = options.pixels and not name.endswith("-uint8")
    return f"{name}-uint8" if raw else name


def export_path(source: Artifact, options: ExportOptions, exporter: Exporter) -> Path:
    """Return where an exporter's result goes: `options.path`, else under the name by its own ending."""
    return options.path or artifact_path(options.root, export_name(source, options), exporter.ending(options))


def refuse_another_network(source: Artifact, options: ExportOptions) -> None:
    """Raise CnnkitError where the artifacts of that name are another network's; a typed name is meant."""
    if options.name:
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
