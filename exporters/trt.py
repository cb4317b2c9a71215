"""TensorRT: an ONNX graph → an engine, by TensorRT for RTX without a GPU or by classic TensorRT on one."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any, ClassVar

from exporters.engines.building import Built, build, receipt, shape_profile
from exporters.engines.targets import choose_flavour, choose_targets, narrow_targets
from exporters.proving.parity import compare, judge
from exporters.proving.proof import make_proof, proof_path
from exporters.run.cache import KEY
from exporters.run.context import evidence_for, reference_for
from exporters.run.form import wanted_answers
from exporters.run.int8 import ALLOWED_POINTS, drop_facts, judge_engine, refusal
from exporters.run.paths import export_path
from exporters.run.publish import publish
from toolkit import catalog
from toolkit.artifacts import Artifact, Format, Passport, Precision, Target
from toolkit.backends import Engine, EngineOptions
from toolkit.checkpoints import MODEL_FILE, tool_versions
from toolkit.errors import UnavailableError
from toolkit.exporting import Exported, Exporter, ExportOptions
from toolkit.exporting.evidence import answers
from toolkit.exporting.heldout import hold_out
from toolkit.machine.cuda import gpus
from toolkit.tensorrt.flavours import FLAVOURS, load
from toolkit.tensorrt.network import parse

# facts of the graph that are facts of its engine, too
PASSED_ON = (
    *("seed", MODEL_FILE, "outputs", "softmax"),
    *("emulated_parity", "kept_fp32", "kept_float", "accuracy_drop"),
)


class TrtExporter(Exporter):
    """Builds an engine whose types are the graph's, and counts them."""

    name = "trt"
    source_formats: ClassVar[tuple[Format, ...]] = ("onnx",)
    format: ClassVar[Format] = "trt"
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "fp16", "bf16", "int8")
    reads: ClassVar[tuple[str, ...]] = (
        *("precision", "batches", "targets", "flavour", "compatible", "version_compatible", "name"),
        *("images", "seed", "data_dir", "model_file", "max_accuracy_drop"),
    )

    def prepare(self, options: ExportOptions) -> None:
        flavour = choose_flavour(options)
        if options.targets or flavour.name == "classic":  # else nothing was typed that could be refused
            choose_targets(load(flavour.name), flavour, options)

    def machine(self, options: ExportOptions) -> dict[str, Any]:
        chosen = choose_flavour(options)
        here = [(gpu.name, gpu.capability) for gpu in gpus()[:1]] if chosen.name == "classic" else []
        return {"flavour": chosen.name, "gpu": here}

    def export(self, source: Artifact, options: ExportOptions) -> Exported:
        start = time.perf_counter()
        flavour = choose_flavour(options)
        trt = load(flavour.name)
        profile = shape_profile(source, options)
        path = export_path(source, options, "trt")

        def draft(part: Path) -> Passport:
            with parse(trt, _graph(source, options.precision), what=source.path.name) as network:
                receipt(network, options.precision, source)
                targets = narrow_targets(choose_targets(trt, flavour, options), network, options)
                built = build(network, targets=targets, profile=profile, options=options)
                part.write_bytes(built.data)
            version = flavour.version()
            target = Target(
                flavour=flavour.name,
                compute_capabilities=targets or _this_gpu(),
                version=version,
                install=flavour.install_line(version) if version else None,
                shape_profile=profile,
                hardware_compatibility=options.extra.get("compatible"),
                version_compatible=options.extra.get("version_compatible") or None,
            )
            return _passport(source, options, target, built)

        made = publish(path, draft, lambda drafted: _prove(drafted, source, options))
        return Exported(artifact=made, seconds=time.perf_counter() - start)


def _graph(source: Artifact, precision: Precision) -> bytes:
    """Return the graph whose types the engine will have; bf16 alone has no ONNX file of its own.

    ONNX Runtime's CPU provider refuses bf16 convolutions, so such a file could not be proven.
    """
    if precision != "bf16":
        return source.path.read_bytes()
    from exporters.graphs.half import to_bfloat16
    from toolkit.graphs.reading import read_graph

    data: bytes = to_bfloat16(read_graph(source.path)).SerializeToString()
    return data


def _this_gpu() -> tuple[str, ...]:
    """Return the compute capability that a build for `the GPU that is here` was made for."""
    return tuple(gpu.capability for gpu in gpus()[:1])


def _prove(drafted: Artifact, source: Artifact, options: ExportOptions) -> tuple[Passport, bytes | None]:
    """Compare the engine's answers with the reference's where a GPU that fits is here.

    Elsewhere parser, builder and the count of types stand for it, and the passport says why. The
    proof is the source graph's: the engine must answer the same pictures in the same way.
    """
    path = proof_path(source.path)
    proof = path.read_bytes() if path.exists() else None
    passport = drafted.passport
    if options.precision == "bf16":
        passport, proof = _emulated(passport, source, options)
    backend = catalog.backend("trt")
    state = backend.availability()
    if not state.available:
        why = f"not run here: {state.why_not}; `cnnkit verify FILE` proves it on one"
        return dataclasses.replace(passport, parity_why=why), proof
    try:
        engine = backend.open(drafted, EngineOptions(device="cuda"))
    except UnavailableError as error:  # built for other GPUs than the one that is here
        return dataclasses.replace(passport, parity_why=f"not run: {error}"), proof
    evidence, reference = evidence_for(source, options), reference_for(source, options)
    with engine:
        found = answers(engine, evidence.inputs_for(passport))
        passport = _gated(engine, passport, reference, options)
    parity = compare(
        wanted_answers(reference, evidence, passport, model_file=options.model_file),
        found,
        source=f"{reference.path.name} ({evidence.source})",
        precision=options.precision,
        labels=evidence.labels,
    )
    judge(parity, options.precision, drafted.path.name)
    return dataclasses.replace(passport, parity=parity, parity_why=None), proof


def _gated(engine: Engine, passport: Passport, reference: Artifact, options: ExportOptions) -> Passport:
    """Hold an int8 engine that runs here to the accuracy drop that is allowed, as its graph was.

    Raises GateError. Without pictures that training held out nothing is judged, as of the graph.
    """
    if options.precision != "int8":
        return passport
    held = hold_out(passport, images=1, seed=options.seed, data_dir=options.data_dir)
    if held.validation is None:
        return passport
    asked = options.extra.get("max_accuracy_drop")
    allowed = ALLOWED_POINTS if asked is None else float(asked)
    drop = judge_engine(engine, reference, held, allowed, model_file=options.model_file)
    if drop.judge(allowed) != "pass":
        raise refusal(drop, allowed, [], on=" as an engine on this GPU")
    judged = {**passport.extra, "engine_accuracy_drop": drop_facts(drop, allowed, held)}
    return dataclasses.replace(passport, extra=judged)


def _emulated(passport: Passport, source: Artifact, options: ExportOptions) -> tuple[Passport, bytes]:
    """Judge bf16 by an fp32 graph that rounds every value to bf16, as no CPU provider computes in it."""
    from exporters.graphs.emulated import emulate
    from toolkit.graphs.reading import read_graph
    from toolkit.graphs.running import logits

    evidence, reference = evidence_for(source, options), reference_for(source, options)
    wanted = wanted_answers(reference, evidence, passport, model_file=options.model_file)
    found = logits(
        emulate(read_graph(source.path), "bf16", in_place=True), evidence.inputs_for(source.passport)
    )
    parity = compare(
        wanted,
        found,
        source=f"{reference.path.name} ({evidence.source}; bf16 emulated on the CPU)",
        precision="bf16",
        labels=evidence.labels,
    )
    judge(parity, "bf16", f"{source.name} in bf16", ties=True)
    judged = dataclasses.replace(passport, source_parity=parity)
    return judged, make_proof(judged, evidence, wanted, found)


def _passport(source: Artifact, options: ExportOptions, target: Target, built: Built) -> Passport:
    known = source.passport
    return dataclasses.replace(
        known,
        format="trt",
        precision=options.precision,
        source_sha256=known.sha256,
        tools=tool_versions("onnx", *FLAVOURS[target.flavour or "rtx"].packages),
        target=target,
        parity=None,
        parity_why=None,
        source_parity=known.parity,
        created="",
        extra={
            **{key: value for key, value in known.extra.items() if key in PASSED_ON},
            KEY: options.extra.get(KEY),
            "layer_types": built.types,
            "engine_types": built.engine_types,
            "builder_memory": dataclasses.asdict(built.memory),
        },
    )


EXPORTER = TrtExporter()
