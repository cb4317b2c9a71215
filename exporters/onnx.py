"""ONNX: checkpoints and plain ONNX files → one checked file with a dynamic batch (fp32, fp16, int8)."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from exporters import Exported, Exporter, ExportOptions
from exporters.flow.cache import KEY
from exporters.flow.context import evidence_for, reference_for
from exporters.flow.publish import publish
from exporters.graphs.capture import capture
from exporters.graphs.facts import input_spec, output_spec, write_facts
from exporters.graphs.half import to_half
from exporters.proving.evidence import answers_of
from exporters.proving.parity import compare, judge
from exporters.proving.proof import make_proof
from toolkit.artifacts import Artifact, Format, Passport, Precision, artifact_path
from toolkit.checkpoints import load_module, tool_versions
from toolkit.errors import CorruptError, MissingExtraError

TOOLS = ("torch", "onnx", "onnxscript", "onnxruntime-gpu", "onnxruntime", "numpy")


class OnnxExporter(Exporter):
    """Captures a checkpoint, or casts an ONNX graph; ONNX Runtime opens it before it is announced."""

    name = "onnx"
    source_formats: ClassVar[tuple[Format, ...]] = ("safetensors", "onnx")
    format: ClassVar[Format] = "onnx"
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "fp16", "int8")
    reads: ClassVar[tuple[str, ...]] = ("precision", "opset", "images", "seed", "data_dir", "model_file")

    def export(self, source: Artifact, options: ExportOptions) -> Exported:
        start = time.perf_counter()
        evidence = evidence_for(source, options)
        model = self.graph(source, options)
        passport = _passport(source, model, options)
        write_facts(model, passport)
        path = artifact_path(options.root, source.name, "onnx", options.precision)

        def prove(drafted: Artifact) -> tuple[Passport, bytes]:
            reference = reference_for(source, options)
            wanted = answers_of(reference, evidence, model_file=options.model_file)
            parity = compare(
                wanted,
                answers_of(drafted, evidence),
                source=f"{reference.path.name} ({evidence.source})",
                precision=options.precision,
                labels=evidence.labels,
            )
            judge(parity, options.precision, path.name)
            proven = dataclasses.replace(drafted.passport, parity=parity)
            return proven, make_proof(proven, evidence, wanted, parity)

        made = publish(path, model.SerializeToString(deterministic=True), passport, prove)
        return Exported(artifact=made, seconds=time.perf_counter() - start)

    def graph(self, source: Artifact, options: ExportOptions) -> Any:
        """Return the onnx.ModelProto of a source at the wanted precision."""
        if source.passport.format == "safetensors":
            module = load_module(source, model_file=options.model_file)
            shape = tuple(extent or 1 for extent in source.passport.input.shape[1:])
            model = capture(
                module,
                shape,
                opset=options.opset,
                input_name=source.passport.input.name,
                output_name=source.passport.output.name,
            )
        else:
            model = read_graph(source.path)
        return to_half(model) if options.precision == "fp16" else model


def read_graph(path: Path) -> Any:
    """Read an ONNX file. Raises CorruptError in words."""
    try:
        import onnx
    except ImportError:
        raise MissingExtraError("onnx", "export") from None
    try:
        return onnx.load(path)
    except Exception as error:  # protobuf, OS and onnx errors share no base class
        raise CorruptError(f"{path} is no readable ONNX file: {str(error).splitlines()[0]}") from None


def _passport(source: Artifact, model: Any, options: ExportOptions) -> Passport:
    known = source.passport
    extra: dict[str, Any] = {"outputs": _outputs(model.graph.output), KEY: options.extra.get(KEY)}
    return dataclasses.replace(
        known,
        format="onnx",
        precision=options.precision,
        input=input_spec(model),
        output=output_spec(model),
        source_sha256=known.sha256,
        tools=tool_versions(*TOOLS),
        target=None,
        parity=None,
        created="",
        extra={**{key: known.extra[key] for key in ("seed",) if key in known.extra}, **extra},
    )


def _outputs(outputs: Sequence[Any]) -> list[str]:
    return [value.name for value in outputs]


EXPORTER = OnnxExporter()
