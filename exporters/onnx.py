"""ONNX: checkpoints and plain ONNX files → one checked file with a dynamic batch (fp32, fp16, int8)."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from exporters.graphs.capture import collected
from exporters.graphs.emulated import emulate
from exporters.graphs.form import unmet, wanted_answers
from exporters.graphs.half import float_only, to_half
from exporters.graphs.ranges import measure, overflowing
from exporters.proving.drift import explain
from exporters.proving.further import compare_further, further_in
from exporters.proving.parity import compare, judge
from exporters.proving.proof import make_proof
from exporters.proving.speed import compare_speed, speed_words
from exporters.run.context import RunContext, context_of
from exporters.run.drafting import fp32_graph, refuse_other_dialect
from exporters.run.int8 import quantize_within
from exporters.run.publish import inherited
from toolkit.artifacts import CHECKPOINT, Artifact
from toolkit.checkpoints import tool_versions
from toolkit.errors import CnnkitError, GateError
from toolkit.exporting import Context, Exported, Exporter, ExportOptions, Need, Option
from toolkit.exporting.evidence import Evidence, answers_of
from toolkit.exporting.further import Further
from toolkit.exporting.placing import export_path
from toolkit.graphs import GRAPH
from toolkit.graphs.facts import input_spec, opset_of, output_spec, write_facts
from toolkit.graphs.reading import read_graph
from toolkit.graphs.running import affordable, logits
from toolkit.graphs.weights import LARGEST_HALF
from toolkit.machine.cpu import cpu
from toolkit.passports import SYMMETRIC, UNSIGNED, Format, Parity, Passport, Precision, Target
from toolkit.publishing import publish

# pictures on which values are looked at for the range of fp16
RANGE_IMAGES = 256
OPSET = 20


@dataclass(frozen=True, kw_only=True)
class OnnxOptions:
    """What only this exporter is asked: the opset that a checkpoint is captured in, None for OPSET."""

    opset: Annotated[
        int | None, Option(help=f"ONNX opset of a captured checkpoint [default: {OPSET}].", low=18, high=25)
    ] = None


class OnnxExporter(Exporter):
    """Captures a checkpoint, or casts an ONNX graph; ONNX Runtime opens it before it is announced."""

    name = "onnx"
    source_formats: ClassVar[tuple[Format, ...]] = (CHECKPOINT, GRAPH)
    format: ClassVar[Format] = GRAPH
    suffix = ".onnx"
    default = True
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "fp16", "int8")
    options = OnnxOptions
    reads: ClassVar[tuple[str, ...]] = (
        *("precision", "dialect", "images", "seed", "data_dir", "model_file", "pixels", "softmax", "name"),
        *("calibration", "max_accuracy_drop", "calibration_images", "size", "output"),
    )
    packages: ClassVar[tuple[str, ...]] = (
        *("torch", "torchvision", "onnx", "onnxscript", "onnxruntime-gpu", "onnxruntime", "numpy", "pillow"),
    )

    def needs(self, options: ExportOptions) -> Need | None:
        return None if options.precision == "fp32" else Need(exporter=self.name, precision="fp32")

    def machine(self, options: ExportOptions) -> dict[str, Any]:
        narrowed = options.precision == "int8" and options.dialect != SYMMETRIC
        return {"wide_int8": cpu().wide_int8} if narrowed else {}

    def ending(self, options: ExportOptions) -> str:
        # int8 graphs in TensorRT's dialect lie beside those for CPUs
        if options.precision == "int8" and options.dialect == SYMMETRIC:
            return f".int8-trt{self.suffix}"
        return super().ending(options)

    def export(self, source: Artifact, options: ExportOptions, context: Context | None = None) -> Exported:
        start = time.perf_counter()
        self._refuse(source, options)
        run = context_of(source, options, context)
        as_it_is = source.passport.quantised_by is not None
        path = export_path(source, options, self)

        def draft(part: Path) -> Passport:
            with collected():
                model, passport = self._drafted(source, options, run)
                write_facts(model, passport)
                part.write_bytes(model.SerializeToString(deterministic=True))
                del model
            return passport

        def prove(drafted: Artifact) -> tuple[Passport, bytes]:
            reference, evidence = run.reference, run.evidence_for(options.precision, source)
            wanted = wanted_answers(
                reference, evidence, drafted.passport, model_file=options.model_file, tell=run.tell
            )
            found = answers_of(drafted, evidence, tell=run.tell)
            beside = evidence.further[reference.passport.sha256], evidence.further[drafted.passport.sha256]
            # a file that is taken as it is answers as its source does, whatever its precision
            strictly: Precision = "fp32" if as_it_is else options.precision
            parity = compare(
                wanted,
                found,
                source=f"{reference.path.name} ({evidence.told(reference.passport)})",
                precision=strictly,
                labels=evidence.labels,
                probable=drafted.passport.softmax,
                random_inputs=evidence.why_random is not None,
                further=compare_further(*beside),
            )
            emulated, rounded, theirs = self._emulated(source, drafted, run, options, wanted)
            try:
                judge(parity, strictly, path.name)
                if emulated:
                    judge(
                        emulated,
                        options.precision,
                        f"{path.name} on a GPU, which rounds every value,",
                        ties=True,
                    )
            except GateError as error:
                raise GateError(f"{error}{self._explained(source, drafted, evidence, options)}") from None
            proven = dataclasses.replace(drafted.passport, parity=parity, emulated_parity=emulated)
            if proven.int8_dialect == UNSIGNED and not as_it_is:
                speed = compare_speed(source, drafted, evidence.inputs_for(drafted.passport))
                run.tell(speed_words(speed, source.path.name, path.name))
                proven = dataclasses.replace(proven, speed=speed)
            return proven, make_proof(proven, evidence, wanted, found, *rounded, beside=(*beside, *theirs))

        made = publish(path, draft, prove)
        return Exported(artifact=made, seconds=time.perf_counter() - start)

    def _drafted(self, source: Artifact, options: ExportOptions, run: RunContext) -> tuple[Any, Passport]:
        """Return the onnx.ModelProto of a source at the wanted precision, and its passport so far."""
        if source.passport.quantised_by is not None:
            refuse_other_dialect(source, options)
            taken = fp32_graph(source, options, run, opset=OPSET)
            passport = _passport(source, taken.model, options, run)
            return taken.model, dataclasses.replace(passport, int8_dialect=source.passport.int8_dialect)
        if options.precision == "int8":
            dialect, allowed = options.dialect or UNSIGNED, options.allowed_points
            made = quantize_within(
                run.calibrated(source),
                dialect=dialect,
                allowed=allowed,
                tell=run.tell,
                search_s=options.search_s,
            )
            passport = _passport(source, made.model, options, run)
            wide = made.dialect == UNSIGNED and not made.reduced_range
            target = Target(instruction_set=cpu().int8_instructions) if wide else None
            return made.model, dataclasses.replace(
                passport,
                target=target,
                calibration=made.calibration,
                int8_dialect=made.dialect,
                reduced_range=made.reduced_range,
                kept_float=made.kept_float,
                accuracy_drop=made.drop,
                accuracy_drop_why=made.why_unjudged,
            )
        drawn = fp32_graph(source, options, run, opset=options.own_of(OnnxOptions).opset or OPSET)
        model, probable = drawn.model, drawn.probable
        del drawn  # the graph is cast in place, and is worth holding once
        if options.precision != "fp16":
            passport = _passport(source, model, options, run)
            return model, dataclasses.replace(passport, softmax=probable)
        evidence = run.evidence_for(options.precision, source)
        inputs = evidence.inputs_for(source.passport)[: affordable(model, RANGE_IMAGES)]
        kept = overflowing(model, measure(model, inputs, histograms=False).ranges, LARGEST_HALF)
        if kept:
            run.tell(f"kept in fp32, as they exceed the range of fp16: {', '.join(kept)}")
        without = [name for name in float_only(model) if name not in kept]
        if without:
            run.tell(f"kept in fp32, as their operators have no fp16: {', '.join(without)}")
        kept += without
        model = to_half(model, keep=kept, in_place=True)
        return model, dataclasses.replace(_passport(source, model, options, run), kept_fp32=tuple(kept))

    def _emulated(
        self,
        source: Artifact,
        drafted: Artifact,
        run: RunContext,
        options: ExportOptions,
        wanted: NDArray[np.float32],
    ) -> tuple[Parity | None, tuple[NDArray[np.float32], ...], tuple[Further, ...]]:
        """Compare fp16 as a GPU computes it; return its scores and further outputs, too. Others have none.

        This CPU's runtime computes the file in fp32.
        """
        if options.precision != "fp16" or source.passport.quantised_by is not None:
            return None, (), ()
        kept, evidence = drafted.passport.kept_fp32 or (), run.evidence_for(options.precision, source)
        model = emulate(read_graph(source.path), "fp16", keep=kept, in_place=True)
        inputs = evidence.inputs_for(source.passport)
        found = logits(model, inputs, lean=True)
        theirs = further_in(model, source, inputs)
        parity = compare(
            wanted,
            found,
            source=f"{run.reference.path.name} (fp16 emulated on the CPU)",
            precision="fp16",
            labels=evidence.labels,
            probable=drafted.passport.softmax,
            random_inputs=evidence.why_random is not None,
            further=compare_further(evidence.further[run.reference.passport.sha256], theirs),
        )
        return parity, (found,), (theirs,)

    def _explained(
        self, source: Artifact, drafted: Artifact, evidence: Evidence, options: ExportOptions
    ) -> str:
        if not options.explain:
            return ""
        inputs = evidence.inputs_for(source.passport)
        half = options.precision == "fp16"
        model = read_graph(source.path if half else drafted.path)
        if half:
            model = emulate(model, "fp16", keep=drafted.passport.kept_fp32 or ())
        return "; " + explain(source, model, inputs, options.precision, options.model_file)

    def _refuse(self, source: Artifact, options: ExportOptions) -> None:
        """Raise CnnkitError where a graph of the wrong form is to be cast, or its opset to be changed."""
        if source.passport.format != GRAPH:
            return
        if options.precision == "fp32" and options.own_of(OnnxOptions).opset is not None:
            raise CnnkitError(
                f"{source.path.name} keeps the opset that it was written with; leave --opset away, or name "
                "the checkpoint that it came from"
            )
        asked = unmet(source.passport, options) if source.passport.quantised_by is None else ""
        if asked and options.precision != "fp32":
            raise CnnkitError(
                f"{source.path.name} was exported without {asked}; {options.precision} is made from an fp32 "
                "graph that has it: export that one first"
            )


def _passport(source: Artifact, model: Any, options: ExportOptions, run: RunContext) -> Passport:
    known = source.passport
    return dataclasses.replace(
        inherited(known),
        format=GRAPH,
        precision=options.precision,
        input=dataclasses.replace(input_spec(model), layout=known.input.layout),
        output=output_spec(model),
        source_sha256=known.sha256,
        tools=tool_versions(*OnnxExporter.packages),
        softmax=options.softmax or known.softmax,
        opset=opset_of(model),
        outputs=tuple(value.name for value in model.graph.output),
        export_key=run.key,
    )


EXPORTER = OnnxExporter()
