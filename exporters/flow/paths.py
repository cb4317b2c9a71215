"""Where an export lies: `<name>.onnx`, `<name>.fp16.onnx`, `<name>.int8-trt.onnx`, `<name>.fp16.engine` …"""

from __future__ import annotations

from pathlib import Path

from exporters import ExportOptions
from toolkit.artifacts import Artifact, Format, artifact_path


def export_name(source: Artifact, options: ExportOptions) -> str:
    """Return the artifact's name: the one typed, else the source's (`…-uint8` where it takes raw pixels)."""
    named = options.extra.get("name")
    if named:
        return str(named)
    raw = options.extra.get("input") == "uint8" and not source.name.endswith("-uint8")
    return f"{source.name}-uint8" if raw else source.name


def export_path(source: Artifact, options: ExportOptions, format: Format) -> Path:
    """Return where an export of `source` goes; int8 graphs for TensorRT are files of their own."""
    path = artifact_path(options.root, export_name(source, options), format, options.precision)
    if format == "onnx" and options.precision == "int8" and options.extra.get("purpose") == "trt":
        return path.with_name(path.name.replace(".int8.", ".int8-trt."))
    return path
