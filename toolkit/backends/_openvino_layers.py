"""OpenVINO's runtime model → the layers that it executes: times, primitives, what each computes in.

Every node of the runtime model tells texts: `originalLayersNames` (what it was fused of, comma by comma),
`execTimeMcs` (a mean since the model was compiled), `layerType`, `primitiveType`, `outputPrecisions`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from toolkit.passports import Precision

CONSTANT, INPUT, OUTPUT = "Const", "Input", "Output"
# they only change a layout or a type
MOVES = frozenset({"Reorder", "Convert"})
# they run graphs of their own, of which the runtime model tells nothing
BODIES = frozenset({"If", "Loop", "TensorIterator"})
# they multiply: what they compute in is what a network computes in
PRODUCTS = frozenset({"Convolution", "Deconvolution", "FullyConnected", "MatMul"})
ITEM_BYTES = {
    **dict.fromkeys(("f64", "i64", "u64"), 8),
    **dict.fromkeys(("f32", "i32", "u32"), 4),
    **dict.fromkeys(("f16", "bf16", "i16", "u16"), 2),
    **dict.fromkeys(("i8", "u8", "boolean"), 1),
}
# the word in a primitive's name (`brgconv_avx512_bf16`) → what people call it
TYPES = {"f32": "fp32", "bf16": "bf16", "f16": "fp16", "I8": "int8"}
# what may be found in a file that bears the name; fp16 files are computed in fp32 on every CPU
ALLOWED: Mapping[Precision, frozenset[str]] = {
    "fp32": frozenset({"fp32"}),
    "fp16": frozenset({"fp32"}),
    # layers that OpenVINO has no faster kernel for stay in fp32
    "bf16": frozenset({"bf16", "fp32"}),
    "int8": frozenset({"int8", "fp32"}),
}
NEEDED: Mapping[Precision, str] = {"fp32": "fp32", "fp16": "fp32", "bf16": "bf16", "int8": "int8"}


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One node of the runtime model; `inputs` are the layers that it reads, each with the port there.

    `constant` ones depend on no input: OpenVINO computes them once. `sizes` are the bytes of each output.
    """

    name: str
    kind: str
    origins: tuple[str, ...]
    primitive: str
    dtype: str
    shape: tuple[int, ...] | None
    sizes: tuple[int | None, ...]
    inputs: tuple[tuple[str, int], ...]
    constant: bool
    mean_us: int

    @property
    def computes(self) -> bool:
        """Whether it works on what comes from an input, rather than hold it."""
        return not self.constant and self.kind not in (CONSTANT, INPUT, OUTPUT)

    @property
    def arithmetic(self) -> str | None:
        """What it computes in, as its primitive tells; None where it does not."""
        return TYPES.get(self.primitive.rpartition("_")[2])


def read_layers(compiled: Any) -> tuple[Layer, ...]:
    """Return the layers of a compiled model in the order of execution."""
    found: dict[str, Layer] = {}
    for node in compiled.get_runtime_model().get_ordered_ops():
        layer = _layer(node, found)
        found[layer.name] = layer
    return tuple(found.values())


def _layer(node: Any, before: Mapping[str, Layer]) -> Layer:
    told = {key: value.astype(str) for key, value in node.get_rt_info().items()}
    sources = [port.get_source_output() for port in node.inputs()]
    inputs = tuple((str(one.get_node().get_friendly_name()), int(one.get_index())) for one in sources)
    dtypes = told["outputPrecisions"].split(",")
    shapes = [_shape(port.get_partial_shape()) for port in node.outputs()]
    kind = told["layerType"]
    time = told["execTimeMcs"]
    return Layer(
        name=str(node.get_friendly_name()),
        kind=kind,
        origins=tuple(name for name in told["originalLayersNames"].split(",") if name),
        primitive=told["primitiveType"],
        dtype=dtypes[0],
        shape=shapes[0] if shapes else None,
        sizes=tuple(_bytes(shape, dtypes[min(i, len(dtypes) - 1)]) for i, shape in enumerate(shapes)),
        inputs=inputs,
        constant=kind == CONSTANT or (bool(inputs) and all(before[name].constant for name, _ in inputs)),
        mean_us=int(time) if time.isdigit() else 0,  # `not_executed`: it took less than one
    )


def _shape(partial: Any) -> tuple[int, ...] | None:
    return tuple(int(extent) for extent in partial.to_shape()) if partial.is_static else None


def _bytes(shape: tuple[int, ...] | None, dtype: str) -> int | None:
    item = ITEM_BYTES.get(dtype)
    return None if shape is None or item is None else prod(shape) * item


def layer_times(layers: Sequence[Layer], *, cold: Sequence[Layer], warm_up: int, runs: int) -> list[float]:
    """Return each computing layer's milliseconds a run, without its first calls; 0 for less than 1 µs.

    `cold` are the layers after `warm_up` calls, `layers` after `runs` more.
    """
    before = {layer.name: layer.mean_us for layer in cold}
    found = []
    for layer in layers:
        if layer.computes:
            whole_us = layer.mean_us * (warm_up + runs) - before.get(layer.name, 0) * warm_up
            mean_us = whole_us / runs
            found.append(mean_us / 1e3 if mean_us >= 1 else 0.0)
    return found


def computed_in(layers: Sequence[Layer]) -> Counter[str]:
    """Count what the layers that multiply compute in; all layers' where a network has none of those."""
    for kinds in (PRODUCTS, None):
        found = Counter(
            layer.arithmetic
            for layer in layers
            if layer.computes and layer.arithmetic and (kinds is None or layer.kind in kinds)
        )
        if found:
            return found
    return Counter()


def said(found: Mapping[str, int]) -> str:
    """Say what layers computed in: `bf16 (7 layers), fp32 (1)`."""
    ordered = sorted(found.items(), key=lambda entry: -entry[1])
    counted = [f"{name} ({count}{' layers' if i == 0 else ''})" for i, (name, count) in enumerate(ordered)]
    return ", ".join(counted) or "nothing that it tells"


def mismatch(found: Mapping[str, int], precision: Precision) -> str | None:
    """Say why layers that computed in these are not what a precision means; None where they are."""
    if not found:
        return None
    strange = set(found) - ALLOWED[precision]
    if strange or NEEDED[precision] not in found:
        return f"it computed in {said(found)}"
    return None
