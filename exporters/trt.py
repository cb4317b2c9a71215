"""TensorRT: an ONNX graph → an engine, by TensorRT for RTX without a GPU or by classic TensorRT on one."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

from exporters import Exported, Exporter, ExportOptions
from exporters.flow.cache import KEY
from exporters.flow.context import evidence_for, reference_for
from exporters.flow.publish import publish
from exporters.proving.evidence import answers, answers_of
from exporters.proving.parity import compare, judge
from exporters.proving.proof import proof_path
from toolkit import catalog
from toolkit.artifacts import Artifact, Format, Passport, Precision, Target, artifact_path
from toolkit.backends import EngineOptions
from toolkit.backends._cuda import device_count
from toolkit.backends._tensorrt import FLAVOURS, BuilderMemory, Flavour, guarded, load
from toolkit.backends._tensorrt_network import ParsedNetwork, parse
from toolkit.checkpoints import tool_versions
from toolkit.errors import CnnkitError, GateError, UnavailableError

# TensorRT's name of the type that each precision computes in
TYPES: dict[Precision, str] = {"fp32": "FLOAT", "fp16": "HALF", "bf16": "BF16", "int8": "INT8"}
WEIGHTY = frozenset({"CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY", "EINSUM"})
# Turing has no fp32 matrix product in TensorRT for RTX's compiler, and no bf16 at all.
WITHOUT: dict[Precision, tuple[str, ...]] = {"fp32": ("SM75",), "bf16": ("SM75",)}
ONLY_CLASSIC = ("SM90", "SM100")


@dataclass(frozen=True, kw_only=True)
class Built:
    """A serialized engine with what its builder said of it."""

    data: bytes
    types: dict[str, int]
    engine_types: dict[str, int]
    memory: BuilderMemory


class TrtExporter(Exporter):
    """Builds an engine whose types are the graph's, and counts them."""

    name = "trt"
    source_formats: ClassVar[tuple[Format, ...]] = ("onnx",)
    format: ClassVar[Format] = "trt"
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "fp16", "int8")
    reads: ClassVar[tuple[str, ...]] = ("precision", "batches", "targets", "flavour")

    def prepare(self, options: ExportOptions) -> None:
        flavour = choose_flavour(options)
        choose_targets(load(flavour.name), flavour, options)

    def export(self, source: Artifact, options: ExportOptions) -> Exported:
        start = time.perf_counter()
        flavour = choose_flavour(options)
        trt = load(flavour.name)
        targets = choose_targets(trt, flavour, options)
        profile = _profile(source, options)
        with parse(trt, source.path.read_bytes(), what=source.path.name) as network:
            receipt(network, options.precision, source.path.name)
            built = build(network, targets=targets, profile=profile, precision=options.precision)
        version = flavour.version()
        target = Target(
            flavour=flavour.name,
            compute_capabilities=targets,
            version=version,
            install=flavour.install_line(version) if version else None,
            shape_profile=profile,
        )
        passport = _passport(source, options, target, built)
        path = artifact_path(options.root, source.name, "trt", options.precision)
        made = publish(path, built.data, passport, lambda drafted: _prove(drafted, source, options))
        return Exported(artifact=made, seconds=time.perf_counter() - start)


def _prove(drafted: Artifact, source: Artifact, options: ExportOptions) -> tuple[Passport, bytes | None]:
    """Compare the engine's answers with the reference's where a GPU that fits is here.

    Elsewhere parser, builder and the count of types stand for it, and the passport says why. The
    proof is the source graph's: the engine must answer the same pictures in the same way.
    """
    path = proof_path(source.path)
    proof = path.read_bytes() if path.exists() else None
    backend = catalog.backend("trt")
    state = backend.availability()
    if not state.available:
        why = f"not run: {state.why_not}; `cnnkit verify FILE` proves it on a machine with one"
        return dataclasses.replace(drafted.passport, parity_why=why), proof
    try:
        engine = backend.open(drafted, EngineOptions(device="cuda"))
    except UnavailableError as error:  # built for other GPUs than the one that is here
        return dataclasses.replace(drafted.passport, parity_why=f"not run: {error}"), proof
    evidence, reference = evidence_for(source, options), reference_for(source, options)
    with engine:
        found = answers(engine, evidence.inputs_for(drafted.passport))
    parity = compare(
        answers_of(reference, evidence, model_file=options.model_file),
        found,
        source=f"{reference.path.name} ({evidence.source})",
        precision=options.precision,
        labels=evidence.labels,
    )
    judge(parity, options.precision, drafted.path.name)
    return dataclasses.replace(drafted.passport, parity=parity, parity_why=None), proof


def choose_flavour(options: ExportOptions) -> Flavour:
    """Return the TensorRT to build with: the one named, else RTX, else classic where it can build."""
    named = options.extra.get("flavour")
    if named:
        return FLAVOURS[str(named)]
    if FLAVOURS["classic"].version() and device_count():
        return FLAVOURS["classic"]
    if FLAVOURS["rtx"].version():
        return FLAVOURS["rtx"]
    raise UnavailableError("no TensorRT is installed here: pip install 'cnnkit[export]' (x86-64 Linux)")


def capabilities(trt: ModuleType) -> list[str]:
    """Return the compute capabilities that TensorRT for RTX builds for, oldest first: SM75, SM80 …"""
    names = [name for name in dir(trt.ComputeCapability) if name.startswith("SM")]
    return sorted(names, key=lambda name: int(name.removeprefix("SM")))


def choose_targets(trt: ModuleType, flavour: Flavour, options: ExportOptions) -> tuple[str, ...]:
    """Return the compute capabilities to build for: those named, else all that the precision allows.

    Raises UnavailableError for one that the flavour or the precision cannot have.
    """
    if flavour.name == "classic":
        return ()
    known = capabilities(trt)
    without = WITHOUT.get(options.precision, ())
    if not options.targets:
        return tuple(name for name in known if name not in without)
    wanted = tuple(dict.fromkeys(name.upper().replace(".", "").replace("_", "") for name in options.targets))
    for name in wanted:
        if name in without:
            able = ", ".join(n.lower() for n in known if n not in without)
            raise UnavailableError(
                f"TensorRT-RTX has no {options.precision} matrix products for {name}; "
                f"`--target {able}` or another --precision is possible"
            )
        if name not in known:
            hint = "classic TensorRT on that GPU builds for it" if name in ONLY_CLASSIC else "no such target"
            raise UnavailableError(
                f"TensorRT-RTX cannot build for {name} ({hint}); possible: {', '.join(known).lower()}"
            )
    return wanted


def receipt(network: ParsedNetwork, precision: Precision, what: str) -> dict[str, int]:
    """Count the computing layers by type. Raises GateError when none of the heavy ones fits the name."""
    wanted = TYPES[precision]
    heavy = [layer for layer in network.layers if layer.type in WEIGHTY]
    fitting = [layer for layer in heavy if layer.precision == wanted]
    if precision != "int8" and heavy and not fitting:
        raise GateError(
            f"{what} is called {precision}, but TensorRT would run it as {network.types()}; "
            f"`cnnkit export … --precision {precision}` makes a graph of that type"
        )
    return network.types()


def build(
    network: ParsedNetwork,
    *,
    targets: tuple[str, ...],
    profile: dict[str, tuple[int, ...]],
    precision: Precision,
) -> Built:
    """Build an engine for the targets and the profile's smallest, usual and largest shapes."""
    trt, config = network.trt, network.builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default, and too coarse for fp32 parity
    if targets:
        config.num_compute_capabilities = len(targets)
        for index, name in enumerate(targets):
            config.set_compute_capability(getattr(trt.ComputeCapability, name), index)
    shapes = network.builder.create_optimization_profile()
    for name, shape in network.inputs().items():
        if -1 in shape:
            shapes.set_shape(name, profile["min"], profile["opt"], profile["max"])
    config.add_optimization_profile(shapes)
    serialized = guarded(
        "building the TensorRT engine",
        network.log,
        lambda: network.builder.build_serialized_network(network.network, config),
    )
    engine_types: dict[str, int] = {}
    for layer in network.log.engine_layers():
        for kind in layer.output_types[:1]:
            engine_types[kind] = engine_types.get(kind, 0) + 1
    return Built(
        data=bytes(serialized),
        types=network.types(),
        engine_types=engine_types,
        memory=network.log.memory(),
    )


def _profile(source: Artifact, options: ExportOptions) -> dict[str, tuple[int, ...]]:
    """Return the smallest, the usual and the largest input shape."""
    rest = tuple(extent or 1 for extent in source.passport.input.shape[1:])
    batches = sorted(options.batches)
    if not batches or batches[0] < 1:
        raise CnnkitError(f"--batch takes sizes of 1 or more, got {options.batches}")
    usual = options.batches[1] if len(options.batches) == 3 else batches[len(batches) // 2]
    sizes = {"min": batches[0], "opt": usual, "max": batches[-1]}
    return {name: (size, *rest) for name, size in sizes.items()}


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
            **{key: value for key, value in known.extra.items() if key in ("seed", "outputs")},
            KEY: options.extra.get(KEY),
            "layer_types": built.types,
            "engine_types": built.engine_types,
            "builder_memory": dataclasses.asdict(built.memory),
        },
    )


EXPORTER = TrtExporter()
