"""An ONNX graph as TensorRT's parser sees it: layers with their types, shapes, weights and ONNX nodes.

Needs a TensorRT module but no GPU. The walk is what can be known of an engine on any machine: the
export counts precisions in it, and the profile shows it where latency cannot be measured.

    with parse(load("rtx"), Path("lenet.fp16.onnx").read_bytes()) as network:
        for layer in network.layers: print(layer.onnx_nodes, layer.type, layer.output_types)
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import prod
from types import ModuleType
from typing import Any, Self

from toolkit.errors import CorruptError
from toolkit.tensorrt.flavours import BuilderLog, guarded, new_logger, onnx_nodes

# Layers that compute on activations; the types of these are what an engine's precision means.
# Constants, casts, shuffles and shape arithmetic move data and say nothing about precision.
COMPUTE = frozenset(
    {
        *("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY", "EINSUM", "POOLING", "ACTIVATION"),
        *("ELEMENTWISE", "UNARY", "REDUCE", "SCALE", "NORMALIZATION", "SOFTMAX", "LRN", "TOPK"),
        *("PARAMETRIC_RELU", "RESIZE", "SELECT", "CONCATENATION"),
    }
)

# Convolutions and products of matrices: these run in int8 only where both of their operands are
PRODUCTS = frozenset({"CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY", "EINSUM"})

BYTES = {"FLOAT": 4, "HALF": 2, "BF16": 2, "INT8": 1, "UINT8": 1, "BOOL": 1, "INT32": 4, "INT64": 8, "FP8": 1}


@dataclass(frozen=True, kw_only=True)
class ParsedLayer:
    """One layer of the parsed network. Dynamic extents are −1; types are TensorRT's names.

    `onnx_nodes` names the ONNX node that the layer came from; a layer without one of its own (a
    constant, a broadcast) bears that of the first layer that reads it, so that its weights have an
    owner. `weights_bytes` is what the layer itself holds. `quantized` marks a layer that the builder
    can fold the dequantization before it into: a product of two dequantized operands, or a layer
    between a dequantized input and a quantized output.
    """

    name: str
    type: str
    onnx_nodes: tuple[str, ...]
    input_types: tuple[str, ...]
    output_types: tuple[str, ...]
    output_shapes: tuple[tuple[int, ...], ...]
    weights_bytes: int
    quantized: bool = False

    @property
    def computes(self) -> bool:
        """Whether the layer computes on activations, rather than moving or holding data."""
        return self.type in COMPUTE

    @property
    def precision(self) -> str:
        """The type that the layer computes in: its first input's (`FLOAT`, `HALF` …).

        A quantized one computes in INT8, though the graph around it is written in float.
        """
        if self.quantized:
            return "INT8"
        types = self.input_types or self.output_types
        return types[0] if types else "NONE"


@dataclass
class ParsedNetwork:
    """A parsed network with everything of TensorRT's that must outlive it. Use as a context manager."""

    trt: ModuleType
    builder: Any
    network: Any
    parser: Any
    logger: Any
    log: BuilderLog
    layers: tuple[ParsedLayer, ...]

    def inputs(self) -> dict[str, tuple[int, ...]]:
        """Return the network's inputs: name → shape, −1 where it is dynamic."""
        found = (self.network.get_input(i) for i in range(self.network.num_inputs))
        return {tensor.name: tuple(tensor.shape) for tensor in found}

    def types(self) -> dict[str, int]:
        """Count the computing layers by the type that they run in: `{"HALF": 19, "FLOAT": 1}`."""
        return dict(Counter(layer.precision for layer in self.layers if layer.computes))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # TensorRT wants its objects freed children first
        self.parser = self.network = self.builder = None


def parse(trt: ModuleType, model: bytes, *, what: str = "the ONNX graph") -> ParsedNetwork:
    """Parse a serialized ONNX model into a strongly typed network.

    Raises CorruptError with the parser's reason and the node that it stopped at.
    """
    log = BuilderLog()
    logger = new_logger(trt, log)
    builder = guarded("making a TensorRT builder", log, lambda: trt.Builder(logger))
    # its types are the graph's; TensorRT 11 knows no other networks
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        raise CorruptError(f"TensorRT cannot parse {what}: {_parser_errors(parser)}")
    return ParsedNetwork(
        trt=trt,
        builder=builder,
        network=network,
        parser=parser,
        logger=logger,
        log=log,
        layers=tuple(_walk(trt, network)),
    )


def _parser_errors(parser: Any) -> str:
    errors = (parser.get_error(index) for index in range(parser.num_errors))
    texts = (
        " ".join(error.desc().split()) + (f" at node {error.node_name()!r}" if error.node_name() else "")
        for error in errors
    )
    return "; ".join(texts) or "no reason given"


def _walk(trt: ModuleType, network: Any) -> list[ParsedLayer]:
    raw = [network.get_layer(index) for index in range(network.num_layers)]
    # the first layer that reads each tensor
    readers = {tensor.name: layer for layer in reversed(raw) for tensor in _tensors(layer, "input")}
    from_int8 = _names(raw, trt.LayerType.DEQUANTIZE, "output")
    to_int8 = _names(raw, trt.LayerType.QUANTIZE, "input")
    return [_read(trt, layer, readers, _is_quantized(layer, from_int8, to_int8)) for layer in raw]


def _names(layers: list[Any], kind: Any, side: str) -> set[str]:
    """Return the names of what the layers of one kind read (`input`) or write (`output`)."""
    return {tensor.name for layer in layers if layer.type == kind for tensor in _tensors(layer, side)}


def _is_quantized(layer: Any, from_int8: set[str], to_int8: set[str]) -> bool:
    inputs, outputs = _tensors(layer, "input"), _tensors(layer, "output")
    if _word(layer.type) in PRODUCTS:  # with weights in float there is no product in int8
        operands = [tensor.name for tensor in inputs[:2]]
        return len(operands) == 2 and from_int8.issuperset(operands)
    back = any(tensor.name in to_int8 for tensor in outputs)
    return back and bool(inputs) and inputs[0].name in from_int8


def _word(member: Any) -> str:
    """Return `HALF` of `DataType.HALF`."""
    return str(member).rpartition(".")[2]


def _tensors(layer: Any, kind: str) -> list[Any]:
    get = getattr(layer, f"get_{kind}")
    found = [get(index) for index in range(getattr(layer, f"num_{kind}s"))]
    return [tensor for tensor in found if tensor is not None]


def _owner(trt: ModuleType, layer: Any, readers: dict[str, Any]) -> tuple[str, ...]:
    seen: set[str] = set()
    constant = layer.type == trt.LayerType.CONSTANT
    # quantized weights belong to the layer behind their dequantize node, not to that node
    while not onnx_nodes(layer.metadata) or (constant and layer.type == trt.LayerType.DEQUANTIZE):
        outputs = _tensors(layer, "output")
        reader = readers.get(outputs[0].name) if outputs else None
        if reader is None or layer.name in seen:
            return ()
        seen.add(layer.name)
        layer = reader
    return onnx_nodes(layer.metadata)


def _read(trt: ModuleType, layer: Any, readers: dict[str, Any], quantized: bool) -> ParsedLayer:
    inputs, outputs = _tensors(layer, "input"), _tensors(layer, "output")
    return ParsedLayer(
        name=layer.name,
        type=_word(layer.type),
        onnx_nodes=_owner(trt, layer, readers),
        input_types=tuple(_word(tensor.dtype) for tensor in inputs),
        output_types=tuple(_word(tensor.dtype) for tensor in outputs),
        output_shapes=tuple(tuple(tensor.shape) for tensor in outputs),
        weights_bytes=_weights_bytes(trt, layer, outputs),
        quantized=quantized,
    )


def _weights_bytes(trt: ModuleType, layer: Any, outputs: list[Any]) -> int:
    """Return the bytes of the weights inside a layer; a convolution keeps its own, a constant is one."""
    if layer.type == trt.LayerType.CONSTANT:
        return int(prod(outputs[0].shape)) * BYTES.get(_word(outputs[0].dtype), 0)
    for kind, cls in (("CONVOLUTION", "IConvolutionLayer"), ("DECONVOLUTION", "IDeconvolutionLayer")):
        if layer.type == getattr(trt.LayerType, kind):
            # the bindings hand out the base class; the class of its kind has the weights
            layer.__class__ = getattr(trt, cls)
            # an empty Weights object stands for "no bias"; filled ones come as numpy arrays
            return sum(int(getattr(weights, "nbytes", 0) or 0) for weights in (layer.kernel, layer.bias))
    return 0
