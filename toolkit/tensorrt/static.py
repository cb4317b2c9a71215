"""TensorRT without a GPU: the parsed network and the builder's own report stand where times cannot.

Nothing here is measured: layers with their types, dtypes, shapes and weights as the parser made them,
before TensorRT fuses any; activation and scratch memory as the builder printed them.
"""

from __future__ import annotations

from math import prod
from pathlib import Path

from toolkit.artifacts import Artifact
from toolkit.passports import BuilderMemory
from toolkit.tensorrt.flavours import DEFAULT_FLAVOUR, load
from toolkit.tensorrt.network import BYTES, ParsedLayer, parse
from toolkit.traces import ExecutedNode, MemoryFigure, Trace, TraceMemory

HOLDS = frozenset(
    {"CONSTANT", "SHUFFLE", "CAST", "IDENTITY", "SHAPE", "SLICE", "GATHER", "QUANTIZE", "DEQUANTIZE"}
)


def static_trace(artifact: Artifact, graph: Path | None, *, batch: int) -> Trace:
    """Return the parsed layers as nodes without times. Raises CorruptError, UnavailableError."""
    if graph is None:
        return Trace(nodes=(), note="no layers: the ONNX graph of this engine is not beside it")
    passport = artifact.passport
    flavour = (passport.target.flavour if passport.target else None) or DEFAULT_FLAVOUR
    with parse(load(flavour), graph.read_bytes(), what=graph.name) as network:
        nodes = tuple(_node(layer, batch) for layer in network.layers)
    return Trace(nodes=nodes, memory=_memory(artifact), note=_note(artifact))


def _node(layer: ParsedLayer, batch: int) -> ExecutedNode:
    shape = tuple(batch if extent == -1 else extent for extent in layer.output_shapes[0])
    dtype = layer.output_types[0]
    return ExecutedNode(
        name=layer.name,
        type=layer.type,
        origins=layer.onnx_nodes,
        moves_data=layer.type in HOLDS and not layer.onnx_nodes,
        output_shape=shape,
        output_dtype=dtype,
        output_bytes=None if layer.type == "CONSTANT" else prod(shape) * BYTES.get(dtype, 0),
        weights_bytes=layer.weights_bytes,
    )


def _memory(artifact: Artifact) -> TraceMemory:
    report, reason = artifact.passport.builder_memory, "no engine was built, so there is no builder's report"
    if report is None:
        report = BuilderMemory()
    figures: dict[MemoryFigure, int | None] = {
        "weights_bytes": report.weights_bytes,
        "peak_activation_bytes": report.activation_bytes,
        "workspace_bytes": report.scratch_bytes,
    }
    return TraceMemory(**figures, why={name: reason for name, value in figures.items() if value is None})


def _note(artifact: Artifact) -> str | None:
    profile = artifact.passport.target.shape_profile if artifact.passport.target else None
    if not profile:
        return None
    return (
        f"memory is the builder's report, not measured (the builder's figure for batch {profile['max'][0]})"
    )
