"""TensorRT: an ONNX graph → an engine, by TensorRT for RTX without a GPU or by classic TensorRT on one."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any, ClassVar

from exporters.engines.building import build, receipt, shape_profile
from exporters.engines.targets import TrtOptions, choose_flavour, choose_targets, narrow_targets
from exporters.graphs.emulated import emulate
from exporters.graphs.form import wanted_answers
from exporters.graphs.half import to_bfloat16
from exporters.proving.further import compare_further, further_in
from exporters.proving.parity import compare, judge
from exporters.proving.proof import make_proof
from exporters.run.context import RunContext, context_of
from exporters.run.engine import compare_engine, hold_engine
from exporters.run.publish import LOSSES, inherited
from toolkit.artifacts import Artifact
from toolkit.backends import BACKENDS, EngineOptions
from toolkit.checkpoints import tool_versions
from toolkit.errors import UnavailableError
from toolkit.exporting import Context, Exported, Exporter, ExportOptions, Need, own_options
from toolkit.exporting.placing import export_path
from toolkit.graphs import GRAPH
from toolkit.graphs.reading import read_graph
from toolkit.graphs.running import logits
from toolkit.machine.cuda import gpus
from toolkit.passports import SYMMETRIC, Format, Passport, Precision, Target
from toolkit.publishing import proof_path, publish
from toolkit.tensorrt.flavours import DEFAULT_FLAVOUR, FLAVOURS, load
from toolkit.tensorrt.network import ParsedNetwork, parse

# facts of the graph that are facts of its engine, too
PASSED_ON = ("outputs", "softmax", "emulated_parity", *LOSSES)


class TrtExporter(Exporter):
    """Builds an engine whose types are the graph's, and counts them."""

    name = "trt"
    source_formats: ClassVar[tuple[Format, ...]] = (GRAPH,)
    format: ClassVar[Format] = "trt"
    suffix = ".engine"
    names_precision = True
    default = True
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "fp16", "bf16", "int8")
    options = TrtOptions
    reads: ClassVar[tuple[str, ...]] = (
        *("precision", "batches", "name", "images", "seed", "data_dir", "model_file", "max_accuracy_drop"),
    )
    packages: ClassVar[tuple[str, ...]] = (
        *("onnx", "onnxruntime-gpu", "onnxruntime", "numpy", "pillow"),
        *(package for one in FLAVOURS.values() for package in one.packages),
    )

    def needs(self, options: ExportOptions) -> Need | None:
        # bf16 has no graph that a CPU could run, so its engine is built from the fp32 one
        precision: Precision = "fp32" if options.precision == "bf16" else options.precision
        dialect = SYMMETRIC if precision == "int8" else None
        return Need(exporter=GRAPH, precision=precision, dialect=dialect)

    def prepare(self, options: ExportOptions) -> None:
        asked = options.own_of(TrtOptions)
        flavour = choose_flavour(asked)
        if asked.target or flavour.name == "classic":  # else nothing was typed that could be refused
            choose_targets(load(flavour.name), flavour, asked, options.precision)

    def machine(self, options: ExportOptions) -> dict[str, Any]:
        chosen = choose_flavour(options.own_of(TrtOptions))
        here = [(gpu.name, gpu.capability) for gpu in gpus()[:1]] if chosen.name == "classic" else []
        return {"flavour": chosen.name, "gpu": here}

    def again(self, made: Artifact) -> ExportOptions | None:
        """Return what an engine was asked for when it was built, as far as this machine leaves the choice.

        An engine of TensorRT for RTX is for the GPU that is here, else for those that it was for; classic
        TensorRT knows no other GPU than the one that it runs on, and is never told one.
        """
        target = made.passport.target
        if target is None:
            return None
        profile = target.shape_profile or {}
        batches = tuple(int(profile[name][0]) for name in ("min", "opt", "max") if name in profile)
        here, judged = _this_gpu(), made.passport.engine_accuracy_drop or made.passport.accuracy_drop
        own = own_options(
            self,
            {
                "target": () if target.flavour == "classic" else here or target.compute_capabilities,
                "flavour": target.flavour,
                "compatible": target.hardware_compatibility,
                "version_compatible": bool(target.version_compatible),
            },
        )
        return ExportOptions(
            root=made.path.parent,
            precision=made.passport.precision,
            batches=batches or ExportOptions.batches,
            max_accuracy_drop=judged.allowed if judged else None,
            path=made.path,
            own=(own,),
        )

    def export(self, source: Artifact, options: ExportOptions, context: Context | None = None) -> Exported:
        start = time.perf_counter()
        run, asked = context_of(source, options, context), options.own_of(TrtOptions)
        flavour = choose_flavour(asked)
        trt = load(flavour.name)
        profile = shape_profile(source, options)

        def draft(part: Path) -> Passport:
            with parse(trt, _graph(source, options.precision), what=source.path.name) as network:
                receipt(network, options.precision, source)
                targets = choose_targets(trt, flavour, asked, options.precision)
                targets = narrow_targets(targets, network, asked, options.precision)
                part.write_bytes(
                    build(network, targets=targets, profile=profile, precision=options.precision, asked=asked)
                )
                version = flavour.version()
                target = Target(
                    flavour=flavour.name,
                    compute_capabilities=targets or _this_gpu(),
                    version=version,
                    install=f"pip install {flavour.packages[0]}=={version}" if version else None,
                    shape_profile=profile,
                    hardware_compatibility=asked.compatible,
                    version_compatible=asked.version_compatible or None,
                )
                return _passport(source, options, target, network, run.key)

        path = export_path(source, options, self)
        made = publish(path, draft, lambda drafted: _prove(drafted, source, options, run))
        return Exported(artifact=made, seconds=time.perf_counter() - start)


def _graph(source: Artifact, precision: Precision) -> bytes:
    """Return the graph whose types the engine will have; bf16 alone has no ONNX file of its own.

    ONNX Runtime's CPU provider refuses bf16 convolutions, so such a file could not be proven.
    """
    if precision != "bf16":
        return source.path.read_bytes()
    return bytes(to_bfloat16(read_graph(source.path)).SerializeToString())


def _this_gpu() -> tuple[str, ...]:
    """Return the compute capability that a build for `the GPU that is here` was made for."""
    return tuple(gpu.capability for gpu in gpus()[:1])


def _prove(
    drafted: Artifact, source: Artifact, options: ExportOptions, run: RunContext
) -> tuple[Passport, bytes | None]:
    """Compare the engine's answers with the reference's where a GPU that fits is here.

    Elsewhere parser, builder and the count of types stand for it, and the passport says why. The
    proof is the source graph's: the engine must answer the same pictures in the same way.
    """
    path = proof_path(source.path)
    proof = path.read_bytes() if path.exists() else None
    passport = drafted.passport
    if options.precision == "bf16":
        passport, proof = _emulated(passport, source, options, run)
    backend = BACKENDS.load(TrtExporter.name)
    state = backend.availability()
    if not state.available:
        why = f"not run here: {state.why_not}; `cnnkit verify FILE` proves it on one"
        return dataclasses.replace(passport, parity_why=why), proof
    try:
        engine = backend.open(drafted, EngineOptions())
    except UnavailableError as error:  # built for other GPUs than the one that is here
        return dataclasses.replace(passport, parity_why=f"not run: {error}"), proof
    with engine:
        compared = compare_engine(engine, passport, source, options, run)
        if options.precision == "int8":
            passport = hold_engine(engine, passport, options, run, on=" as an engine on this GPU")
    judge(compared.parity, options.precision, drafted.path.name)
    return dataclasses.replace(passport, parity=compared.parity, parity_why=None), proof


def _emulated(
    passport: Passport, source: Artifact, options: ExportOptions, run: RunContext
) -> tuple[Passport, bytes]:
    """Judge bf16 by an fp32 graph that rounds every value to bf16, as no CPU provider computes in it."""
    evidence, reference = run.evidence_for("bf16", source), run.reference
    wanted = wanted_answers(reference, evidence, passport, model_file=options.model_file)
    model = emulate(read_graph(source.path), "bf16", in_place=True)
    inputs = evidence.inputs_for(source.passport)
    found = logits(model, inputs)
    beside = evidence.further[reference.passport.sha256], further_in(model, source, inputs)
    parity = compare(
        wanted,
        found,
        source=f"{reference.path.name} ({evidence.source}; bf16 emulated on the CPU)",
        precision="bf16",
        labels=evidence.labels,
        probable=passport.softmax,
        random_inputs=evidence.why_random is not None,
        further=compare_further(*beside),
    )
    judge(parity, "bf16", f"{source.name} in bf16", ties=True)
    judged = dataclasses.replace(passport, source_parity=parity)
    return judged, make_proof(judged, evidence, wanted, found, beside=beside)


def _passport(
    source: Artifact, options: ExportOptions, target: Target, network: ParsedNetwork, key: str | None
) -> Passport:
    known = source.passport
    return dataclasses.replace(
        inherited(known, *PASSED_ON),
        format=TrtExporter.format,
        precision=options.precision,
        source_sha256=known.sha256,
        tools=tool_versions("onnx", *FLAVOURS[target.flavour or DEFAULT_FLAVOUR].packages),
        target=target,
        source_parity=known.parity,
        export_key=key,
        layer_types=network.types(),
        engine_types=network.log.engine_types(),
        builder_memory=network.log.memory(),
    )


EXPORTER = TrtExporter()
