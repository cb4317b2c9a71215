"""Triton: a model repository that NVIDIA's server loads as it is, with the ONNX file or a classic plan."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from exporters.repository.config import FILES, ModelRunner, labels_text, model_config
from exporters.run.context import context_of
from exporters.run.publish import LOSSES, inherited
from toolkit.artifacts import Artifact, hash_file
from toolkit.backends import BACKENDS
from toolkit.checkpoints import tool_versions
from toolkit.choices import SUFFIX
from toolkit.errors import UnavailableError
from toolkit.exporting import Context, Exported, Exporter, ExportOptions, Need, Option
from toolkit.exporting.placing import export_path
from toolkit.graphs import GRAPH
from toolkit.opening import Selection
from toolkit.passports import Format, Passport, Precision
from toolkit.publishing import publish_folder
from toolkit.resolving import resolve_choice
from toolkit.telling import Tell
from toolkit.tensorrt import PLAN
from toolkit.tensorrt.flavours import FlavourName

PASSED_ON = (
    *("outputs", "softmax", "target", "parity", "parity_why", "source_parity", "engine_accuracy_drop"),
    *LOSSES,
)


@dataclass(frozen=True, kw_only=True)
class TritonOptions:
    """What only this exporter is asked: `classic` serves a plan of classic TensorRT, else the graph."""

    flavour: Annotated[
        FlavourName | None, Option(help="TensorRT to build with.", choices=("rtx", "classic"))
    ] = None


class TritonExporter(Exporter):
    """Writes `<name>.triton/<name>/{config.pbtxt, labels.txt, 1/model.onnx}`, labels where a score has it."""

    name = "triton"
    source_formats: ClassVar[tuple[Format, ...]] = (GRAPH, PLAN)
    format: ClassVar[Format] = "triton"
    suffix = ".triton"
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "fp16", "int8")
    options = TritonOptions
    reads: ClassVar[tuple[str, ...]] = ("precision", "batches", "name", "pixels")

    def needs(self, options: ExportOptions) -> Need | None:
        if options.own_of(TritonOptions).flavour == "classic":
            return Need(exporter=PLAN, precision=options.precision)
        # an int8 graph of no named dialect is ONNX Runtime's, which Triton runs it by
        return Need(exporter=GRAPH, precision=options.precision)

    def prepare(self, options: ExportOptions) -> None:
        if options.own_of(TritonOptions).flavour == "rtx":
            raise refusal("an engine of TensorRT-RTX")

    def machine(self, options: ExportOptions) -> Mapping[str, Any]:
        choices = sorted(options.root.glob(f"*/*{SUFFIX}"))
        return {"choices": {path.name: hash_file(path) for path in choices}}

    def export(self, source: Artifact, options: ExportOptions, context: Context | None = None) -> Exported:
        start = time.perf_counter()
        target = source.passport.target
        if source.passport.format == PLAN and (target is None or target.flavour != "classic"):
            raise refusal(source.path.name)
        path = export_path(source, options, self)
        model, run = path.name.split(".")[0], context_of(source, options, context)
        runner = _chosen(model, source, options, run.tell)

        def fill(folder: Path) -> None:
            version = folder / model / "1"
            version.mkdir(parents=True)
            (version / FILES[source.passport.format]).write_bytes(source.path.read_bytes())
            config = model_config(model, source, options.batches, runner)
            (folder / model / "config.pbtxt").write_text(config, encoding="utf-8")
            if labels := labels_text(source.passport):
                (folder / model / "labels.txt").write_text(labels, encoding="utf-8")

        made = publish_folder(path, fill, _passport(source, run.key))
        return Exported(artifact=made, seconds=time.perf_counter() - start)


def _chosen(model: str, source: Artifact, options: ExportOptions, tell: Tell) -> ModelRunner | None:
    """Return what was measured to run this very file fastest here; None where that was not chosen (told)."""
    found = resolve_choice(model, Selection(root=options.root), tell)
    if found is None or found.choice is None:
        return None
    if found.choice.sha256 != source.passport.sha256:
        tell(
            f"chosen for {model} is {found.choice.file} ({found.choice.chosen.label}), which is not what is "
            "served: --precision exports that one"
        )
        return None
    return ModelRunner(platform=BACKENDS.load(found.backend).platform, why=found.why)


def refusal(what: str) -> UnavailableError:
    """Return why an engine of TensorRT for RTX is not served, and what to type instead."""
    return UnavailableError(
        f"Triton cannot serve {what}: its TensorRT backend loads plans of classic TensorRT only; leave "
        "--flavour away to serve the ONNX file, or add --flavour classic on a machine with an NVIDIA GPU"
    )


def _passport(source: Artifact, key: str | None) -> Passport:
    """The model file is its source byte for byte, so the source's parity is the repository's."""
    known = source.passport
    server = None
    if known.format == PLAN and known.target is not None:
        server = f"a Triton release whose TensorRT is {known.target.version}, on a GPU like the builder's"
    return dataclasses.replace(
        inherited(known, *PASSED_ON),
        format=TritonExporter.format,
        source_sha256=known.sha256,
        tools=tool_versions(),
        export_key=key,
        server=server,
    )


EXPORTER = TritonExporter()
