"""A parsed network → an engine, with its types counted and the builder's memory figures."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from exporters.engines.targets import TrtOptions
from toolkit.artifacts import Artifact
from toolkit.errors import CnnkitError, GateError
from toolkit.exporting import ExportOptions
from toolkit.exporting.evidence import one_input
from toolkit.passports import Precision
from toolkit.tensorrt.flavours import guarded
from toolkit.tensorrt.network import PRODUCTS, ParsedNetwork

# TensorRT's name of the type that each precision computes in
TYPES: dict[Precision, str] = {"fp32": "FLOAT", "fp16": "HALF", "bf16": "BF16", "int8": "INT8"}


def receipt(network: ParsedNetwork, precision: Precision, source: Artifact) -> dict[str, int]:
    """Count the computing layers by the type they run in.

    Raises GateError when a convolution or matrix product runs in another type than the name says,
    unless the export kept that very node in float and said so.
    """
    kept = {*(source.passport.kept_fp32 or ()), *(source.passport.kept_float or ())}
    heavy = [layer for layer in network.layers if layer.type in PRODUCTS]
    wrong = [
        layer for layer in heavy if layer.precision != TYPES[precision] and not kept & set(layer.onnx_nodes)
    ]
    if wrong:
        names = ", ".join(
            f"{'/'.join(layer.onnx_nodes) or layer.name} in {layer.precision}" for layer in wrong[:3]
        )
        raise GateError(
            f"{source.path.name} is called {precision}, but TensorRT would run {len(wrong)} of "
            f"{len(heavy)} convolutions and matrix products otherwise ({names})"
        )
    return network.types()


def build(
    network: ParsedNetwork,
    *,
    targets: tuple[str, ...],
    profile: dict[str, tuple[int, ...]],
    precision: Precision,
    asked: TrtOptions,
) -> memoryview:
    """Return an engine for the targets and the profile's smallest, usual and largest shapes, as bytes.

    What its builder said of it stands in the network's log.
    """
    trt, config = network.trt, network.builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if precision in ("fp32", "int8"):
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default, and too coarse for fp32 parity
    _compatibility(trt, config, asked)
    if targets:
        config.num_compute_capabilities = len(targets)
        for index, name in enumerate(targets):
            config.set_compute_capability(getattr(trt.ComputeCapability, name), index)
    shapes = network.builder.create_optimization_profile()
    for name, shape in network.inputs().items():
        if -1 in shape:
            shapes.set_shape(name, profile["min"], profile["opt"], profile["max"])
    config.add_optimization_profile(shapes)
    return memoryview(
        guarded(
            "building the TensorRT engine",
            network.log,
            lambda: network.builder.build_serialized_network(network.network, config),
        )
    )


def _compatibility(trt: ModuleType, config: Any, asked: TrtOptions) -> None:
    """Ask classic TensorRT for an engine of several GPUs or releases, where that was typed."""
    level = asked.compatible
    if level is not None and level != "NONE":
        config.hardware_compatibility_level = getattr(trt.HardwareCompatibilityLevel, level)
    if asked.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)


def shape_profile(source: Artifact, options: ExportOptions) -> dict[str, tuple[int, ...]]:
    """Return the smallest, the usual and the largest input shape; a graph's fixed batch is all three."""
    rest, fixed = one_input(source.passport), source.passport.input.shape[0]
    batches = sorted(options.batches)
    if not batches or batches[0] < 1:
        raise CnnkitError(f"--batch takes sizes of 1 or more, got {options.batches}")
    if fixed:
        return dict.fromkeys(("min", "opt", "max"), (fixed, *rest))
    usual = options.batches[1] if len(options.batches) == 3 else batches[len(batches) // 2]
    sizes = {"min": batches[0], "opt": usual, "max": batches[-1]}
    return {name: (size, *rest) for name, size in sizes.items()}
