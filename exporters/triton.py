"""Triton: a model repository that NVIDIA's server loads as it is, with the ONNX file or a classic plan."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import ClassVar

from exporters.repository.config import labels_text, model_config
from exporters.run.cache import KEY
from exporters.run.paths import export_path
from exporters.run.publish import publish_folder
from toolkit.artifacts import Artifact, Format, Passport, Precision
from toolkit.checkpoints import tool_versions
from toolkit.errors import UnavailableError
from toolkit.exporting import Exported, Exporter, ExportOptions

FILES = {"onnx": "model.onnx", "trt": "model.plan"}


class TritonExporter(Exporter):
    """Writes `<name>.triton/<name>/{config.pbtxt, labels.txt, 1/model.onnx}`."""

    name = "triton"
    source_formats: ClassVar[tuple[Format, ...]] = ("onnx", "trt")
    format: ClassVar[Format] = "triton"
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "fp16", "int8")
    reads: ClassVar[tuple[str, ...]] = ("precision", "batches", "name", "input", "flavour")

    def prepare(self, options: ExportOptions) -> None:
        if options.extra.get("flavour") == "rtx":
            raise refusal("an engine of TensorRT-RTX")

    def export(self, source: Artifact, options: ExportOptions) -> Exported:
        start = time.perf_counter()
        if source.passport.format == "trt":
            target = source.passport.target
            if target is None or target.flavour != "classic":
                raise refusal(source.path.name)
        path = export_path(source, options, "triton")
        model = path.name.split(".")[0]

        def fill(folder: Path) -> None:
            version = folder / model / "1"
            version.mkdir(parents=True)
            (version / FILES[source.passport.format]).write_bytes(source.path.read_bytes())
            config = model_config(model, source, options.batches)
            (folder / model / "config.pbtxt").write_text(config, encoding="utf-8")
            (folder / model / "labels.txt").write_text(labels_text(source.passport.classes), encoding="utf-8")

        made = publish_folder(path, fill, _passport(source, options))
        return Exported(artifact=made, seconds=time.perf_counter() - start)


def refusal(what: str) -> UnavailableError:
    """Return why an engine of TensorRT for RTX is not served, and what to type instead."""
    return UnavailableError(
        f"Triton cannot serve {what}: its TensorRT backend loads plans of classic TensorRT only; leave "
        "--flavour away to serve the ONNX file, or add --flavour classic on a machine with an NVIDIA GPU"
    )


def _passport(source: Artifact, options: ExportOptions) -> Passport:
    """The model file is its source byte for byte, so the source's parity is the repository's."""
    known = source.passport
    extra = {key: known.extra[key] for key in ("seed", "outputs", "softmax") if key in known.extra}
    server = None
    if known.format == "trt" and known.target is not None:
        server = f"a Triton release whose TensorRT is {known.target.version}, on a GPU like the builder's"
    return dataclasses.replace(
        known,
        format="triton",
        source_sha256=known.sha256,
        tools=tool_versions(),
        created="",
        extra={**extra, KEY: options.extra.get(KEY), "server": server},
    )


EXPORTER = TritonExporter()
