"""ONNX: checkpoints and plain ONNX files → one checked file with a dynamic batch (fp32, fp16, int8)."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from exporters.graphs.capture import capture, finish
from exporters.graphs.emulated import emulate
from exporters.graphs.half import to_half
from exporters.graphs.ranges import measure, overflowing
from exporters.proving.drift import explain
from exporters.proving.parity import compare, judge
from exporters.proving.proof import make_proof
from exporters.proving.speed import compare_speed
from exporters.run.cache import KEY
from exporters.run.context import calibrated_for, evidence_for, reference_for, teller
from exporters.run.form import PROBABILITIES, in_form, unmet, wanted_answers
from exporters.run.garbage import collected
from exporters.run.int8 import ALLOWED_POINTS, quantize_within
from exporters.run.paths import export_path
from exporters.run.publish import publish
from toolkit.artifacts import Artifact, Format, Parity, Passport, Precision, Target
from toolkit.checkpoints import MODEL_FILE, load_module, tool_versions
from toolkit.errors import CnnkitError, GateError
from toolkit.exporting import Exported, Exporter, ExportOptions
from toolkit.exporting.evidence import Evidence, answers_of
from toolkit.graphs.facts import input_spec, output_spec, write_facts
from toolkit.graphs.naming import name_missing
from toolkit.graphs.opsets import modern, opset_of
from toolkit.graphs.reading import read_graph
from toolkit.graphs.running import affordable, logits
from toolkit.graphs.weights import LARGEST_HALF
from toolkit.machine.cpu import cpu

TOOLS = ("torch", "onnx", "onnxscript", "onnxruntime-gpu", "onnxruntime", "numpy")
# pictures on which values are looked at for the range of fp16
RANGE_IMAGES = 256


class OnnxExporter(Exporter):
    """Captures a checkpoint, or casts an ONNX graph; ONNX Runtime opens it before it is announced."""

    name = "onnx"
    source_formats: ClassVar[tuple[Format, ...]] = ("safetensors", "onnx")
    format: ClassVar[Format] = "onnx"
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "fp16", "int8")
    reads: ClassVar[tuple[str, ...]] = (
        *("precision", "opset", "images", "seed", "data_dir", "model_file", "input", "softmax", "name"),
        *("purpose", "method", "max_accuracy_drop", "calibration_images"),
    )

    def machine(self, options: ExportOptions) -> dict[str, Any]:
        narrowed = options.precision == "int8" and options.extra.get("purpose") != "trt"
        return {"wide_int8": cpu().wide_int8} if narrowed else {}

    def export(self, source: Artifact, options: ExportOptions) -> Exported:
        start = time.perf_counter()
        _refuse_another_form(source, options)
        evidence = evidence_for(source, options)
        path = export_path(source, options, "onnx")

        def draft(part: Path) -> Passport:
            with collected():
                model, facts = self.graph(source, options, evidence)
                passport = _passport(source, model, options, facts)
                write_facts(model, passport)
                part.write_bytes(model.SerializeToString(deterministic=True))
                del model
            return passport

        def prove(drafted: Artifact) -> tuple[Passport, bytes]:
            reference = reference_for(source, options)
            wanted = wanted_answers(reference, evidence, drafted.passport, model_file=options.model_file)
            found = answers_of(drafted, evidence)
            parity = compare(
                wanted,
                found,
                source=f"{reference.path.name} ({evidence.source})",
                precision=options.precision,
                labels=evidence.labels,
            )
            emulated, rounded = self._emulated(source, drafted, evidence, options, wanted)
            try:
                judge(parity, options.precision, path.name)
                if emulated:
                    judge(
                        emulated,
                        options.precision,
                        f"{path.name} on a GPU, which rounds every value,",
                        ties=True,
                    )
            except GateError as error:
                raise GateError(f"{error}{self._explained(source, drafted, evidence, options)}") from None
            proven = dataclasses.replace(drafted.passport, parity=parity)
            if emulated:
                facts = {**proven.extra, "emulated_parity": dataclasses.asdict(emulated)}
                proven = dataclasses.replace(proven, extra=facts)
            if proven.extra.get("purpose") == "cpu":
                speed = compare_speed(source, drafted, evidence.inputs_for(drafted.passport))
                teller(options)(speed.words(source.path.name, path.name))
                proven = dataclasses.replace(proven, extra={**proven.extra, "speed": speed.facts()})
            return proven, make_proof(proven, evidence, wanted, found, *rounded)

        made = publish(path, draft, prove)
        return Exported(artifact=made, seconds=time.perf_counter() - start)

    def graph(
        self, source: Artifact, options: ExportOptions, evidence: Evidence
    ) -> tuple[Any, dict[str, Any]]:
        """Return the onnx.ModelProto of a source at the wanted precision, and what was decided in it."""
        if options.precision == "int8":
            return self._int8(source, options)
        model = self._plain(source, options)
        if options.precision != "fp16":
            return model, {}
        inputs = evidence.inputs_for(source.passport)[: affordable(model, RANGE_IMAGES)]
        kept = overflowing(model, measure(model, inputs, histograms=False), LARGEST_HALF)
        if kept:
            teller(options)(f"kept in fp32, as they exceed the range of fp16: {', '.join(kept)}")
        return to_half(model, keep=kept, in_place=True), {"kept_fp32": kept}

    def _plain(self, source: Artifact, options: ExportOptions) -> Any:
        import onnx

        known = source.passport
        if known.format == "onnx":
            model = modern(read_graph(source.path))
            name_missing(model)
            # what was captured here is checked strictly, what came from elsewhere as far as it goes
            strict = known.source_sha256 is not None
            return in_form(finish(onnx, model, strict=strict), known, options, strict=strict)
        module = load_module(source, model_file=options.model_file, lean=True)
        model = capture(
            module,
            tuple(extent or 1 for extent in known.input.shape[1:]),
            opset=options.opset,
            input_name=known.input.name,
            output_name=PROBABILITIES if options.extra.get("softmax") else known.output.name,
        )
        for weights in (*module.parameters(), *module.buffers()):
            weights.data = weights.data.new_empty(0)  # torch's exporter keeps the module in cycles
        return in_form(model, known, options)

    def _int8(self, source: Artifact, options: ExportOptions) -> tuple[Any, dict[str, Any]]:
        allowed = options.extra.get("max_accuracy_drop")
        purpose = "trt" if options.extra.get("purpose") == "trt" else "cpu"
        made = quantize_within(
            calibrated_for(source, options),
            purpose="trt" if purpose == "trt" else "cpu",
            allowed=ALLOWED_POINTS if allowed is None else float(allowed),
            tell=teller(options),
        )
        return made.model, {**made.facts, "purpose": purpose}

    def _emulated(
        self,
        source: Artifact,
        drafted: Artifact,
        evidence: Evidence,
        options: ExportOptions,
        wanted: NDArray[np.float32],
    ) -> tuple[Parity | None, tuple[NDArray[np.float32], ...]]:
        """Compare fp16 as a GPU computes it, and return its answers, too; other precisions have none.

        This CPU's runtime computes the file in fp32.
        """
        if options.precision != "fp16":
            return None, ()
        kept = drafted.passport.extra["kept_fp32"]
        model = emulate(read_graph(source.path), "fp16", keep=kept, in_place=True)
        inputs = evidence.inputs_for(source.passport)
        found = logits(model, inputs, lean=True)
        parity = compare(
            wanted,
            found,
            source=f"{reference_for(source, options).path.name} (fp16 emulated on the CPU)",
            precision="fp16",
            labels=evidence.labels,
        )
        return parity, (found,)

    def _explained(
        self, source: Artifact, drafted: Artifact, evidence: Evidence, options: ExportOptions
    ) -> str:
        if not options.extra.get("explain"):
            return ""
        inputs = evidence.inputs_for(source.passport)
        if options.precision == "fp16":
            model = emulate(read_graph(source.path), "fp16", keep=drafted.passport.extra["kept_fp32"])
        else:
            model = read_graph(drafted.path)
        return "; " + explain(source, model, inputs, options.precision, options.model_file)


def _refuse_another_form(source: Artifact, options: ExportOptions) -> None:
    """Raise CnnkitError where a graph of the wrong form is to be cast: only fp32 graphs change theirs."""
    asked = unmet(source.passport, options)
    if asked and source.passport.format == "onnx" and options.precision != "fp32":
        raise CnnkitError(
            f"{source.path.name} was exported without {asked}; {options.precision} is made from an fp32 "
            "graph that has it: export that one first"
        )


def _passport(source: Artifact, model: Any, options: ExportOptions, facts: dict[str, Any]) -> Passport:
    known = source.passport
    wide = "reduced_range" in facts and facts.get("purpose") == "cpu" and not facts["reduced_range"]
    target = Target(instruction_set=cpu().int8_instructions) if wide else None
    kept = {key: known.extra[key] for key in ("seed", MODEL_FILE) if key in known.extra}
    if options.extra.get("softmax") or known.extra.get("softmax"):
        kept["softmax"] = True
    return dataclasses.replace(
        known,
        format="onnx",
        precision=options.precision,
        input=input_spec(model),
        output=output_spec(model),
        source_sha256=known.sha256,
        tools=tool_versions(*TOOLS),
        target=target,
        parity=None,
        created="",
        extra={
            **kept,
            "opset": opset_of(model),
            "outputs": [value.name for value in model.graph.output],
            KEY: options.extra.get(KEY),
            **facts,
        },
    )


EXPORTER = OnnxExporter()
