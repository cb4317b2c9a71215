"""What an ONNX graph computes: the multiply-adds of a node, and the number format of most of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from toolkit.graphs.ordering import inner_graphs
from toolkit.passports import Precision

Shape = tuple[int, ...]

# they multiply, too; how much is not worked out here
UNCOUNTED = frozenset({"DFT", "STFT", "Det"})
# a graph with one of these computes on 8 bits; with DequantizeLinear alone it only keeps its weights so
INTEGER = frozenset({"QuantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"})
WHOLE = frozenset({6, 7, 9})  # int32, int64 and bool, by onnx.TensorProto's numbers
PASSED_ON = frozenset({"Identity", "Cast"})
FLOATS: Mapping[int, Precision] = {1: "fp32", 10: "fp16", 16: "bf16"}  # by onnx.TensorProto's numbers


@dataclass(frozen=True, kw_only=True)
class Products:
    """The multiply-adds of a node; None where they are not known, which `uncounted` says why."""

    macs: int | None
    uncounted: str | None = None


NOTHING = Products(macs=0)
OPEN = Products(macs=None, uncounted="its shapes are not known")


@dataclass(frozen=True, kw_only=True)
class KnownSizes:
    """What is known of tensors: shapes, the elements of constants, and those that are one whole number."""

    shapes: Mapping[str, Shape | None]
    counts: Mapping[str, int]
    numbers: Mapping[str, int] = field(default_factory=dict)

    def shape(self, name: str) -> Shape:
        """Return a tensor's shape. Raises KeyError where that is not known."""
        found = self.shapes.get(name)
        if found is None:
            raise KeyError(name)
        return found

    def count(self, name: str) -> int:
        """Return a tensor's elements. Raises KeyError where they are not known."""
        return self.counts[name] if name in self.counts else prod(self.shape(name))


def products(node: Any, known: KnownSizes) -> Products:
    """Return the multiply-adds of a convolution, product, recurrent layer or attention; 0 for what has none.

    A convolution does |weights| / output channels for each output element; a product of (M, K) and (K, N)
    does M·K·N; a body its own as often as it runs. None for shapes that are not known, for bodies with
    products that run as their own answers decide, and for operators that are not ONNX's own.
    """
    if next(inner_graphs(node), None) is not None:
        return _of_bodies(node, known)
    if node.domain not in ("", "ai.onnx") and node.op_type not in BLOCKED:
        plain = "Quantize" in node.op_type
        return NOTHING if plain else _not_known(f"{node.domain}.{node.op_type}")
    if node.op_type in UNCOUNTED:
        return _not_known(node.op_type)
    formula = FORMULAS.get(node.op_type)
    try:
        return Products(macs=formula(node, known)) if formula else NOTHING
    except KeyError:
        return OPEN
    except UncountedError as error:
        return _not_known(str(error))


class UncountedError(Exception):
    """What a node computes is beyond the formula of its operator."""


def _not_known(what: str) -> Products:
    return Products(macs=None, uncounted=f"the products of {what} are not worked out")


def _of_bodies(node: Any, known: KnownSizes) -> Products:
    """Return those of an If whose branches do alike, or of a body for all its turns; 0 without any."""
    found = [_of_graph(graph, known) for graph in inner_graphs(node)]
    if all(entry.macs == 0 for entry in found):
        return NOTHING
    unknown = next((entry for entry in found if entry.macs is None), None)
    if unknown:
        return unknown
    if node.op_type == "If":
        alike = len({entry.macs for entry in found}) == 1
        return found[0] if alike else Products(macs=None, uncounted="its branches differ")
    turns = _turns(node, known)
    if turns is None:
        return Products(macs=None, uncounted="how often its body runs is not in the file")
    return Products(macs=turns * (found[0].macs or 0))


def _turns(node: Any, known: KnownSizes) -> int | None:
    """Return how often the body of a Loop or a Scan runs; None where that is decided on the way."""
    (body,) = inner_graphs(node)
    if node.op_type == "Loop":
        turns = known.numbers.get(node.input[0])
        return max(0, turns) if turns is not None and _runs_on(node, body, known) else None
    counts = [a.i for a in node.attribute if a.name == "num_scan_inputs"]
    axes = next((a.ints for a in node.attribute if a.name == "scan_input_axes"), (0,))
    if not counts or len(node.input) != len(body.input):  # a Scan of opset 8, which counts otherwise
        return None
    shape = known.shapes.get(node.input[-counts[0]])
    return shape[axes[0]] if shape else None


def _runs_on(node: Any, body: Any, known: KnownSizes) -> bool:
    """Tell whether a Loop's condition is true and stays so, so that the number of turns alone ends it."""
    begins = node.input[1] if len(node.input) > 1 else ""
    numbers = whole_numbers(body, known.numbers)
    goes_on, makers = body.output[0].name, {name: one for one in body.node for name in one.output}
    while goes_on in makers and makers[goes_on].op_type in PASSED_ON:
        goes_on = makers[goes_on].input[0]
    return (not begins or bool(numbers.get(begins))) and (
        goes_on == body.input[1].name or bool(numbers.get(goes_on))
    )


def whole_numbers(graph: Any, around: Mapping[str, int]) -> dict[str, int]:
    """Return a graph's constants that are one whole number or switch, beside those of the graph around it."""
    from onnx import numpy_helper

    found = dict(around)
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        given = {a.name: a for a in node.attribute} if node.op_type == "Constant" else {}
        if "value" in given:
            tensors[node.output[0]] = given["value"].t
        elif "value_int" in given:
            found[node.output[0]] = given["value_int"].i
    for name, tensor in tensors.items():
        if tensor.data_type in WHOLE and prod(tensor.dims) == 1:
            found[name] = int(numpy_helper.to_array(tensor).item())
    for node in graph.node:
        if node.op_type in PASSED_ON and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def shape_of(value: Any) -> Shape | None:
    """Return the shape that a graph tells of a value; None where an extent is open."""
    tensor = value.type.tensor_type
    dims = [d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else None for d in tensor.shape.dim]
    known = tuple(extent for extent in dims if extent is not None)
    return known if tensor.HasField("shape") and len(known) == len(dims) else None


def _of_graph(graph: Any, known: KnownSizes) -> Products:
    """Return what a body does once; shape inference has written its shapes into it."""
    told = {value.name: shape_of(value) for value in (*graph.input, *graph.value_info, *graph.output)}
    held = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    counts = {**known.counts, **{name: prod(shape) for name, shape in held.items()}}
    numbers = whole_numbers(graph, known.numbers)
    inner = KnownSizes(shapes={**known.shapes, **told, **held}, counts=counts, numbers=numbers)
    found = [products(one, inner) for one in graph.node]
    unknown = next((entry for entry in found if entry.macs is None), None)
    return unknown or Products(macs=sum(entry.macs or 0 for entry in found))


def _convolution(node: Any, known: KnownSizes) -> int:
    weight = node.input[{"QLinearConv": 3, "DeformConv": 1}.get(node.op_type, 1)]
    out = known.shape(node.output[0])
    return prod(out) * known.count(weight) // max(1, out[1])


def _transposed(node: Any, known: KnownSizes) -> int:
    first = known.shape(node.input[0])
    return prod(first) * known.count(node.input[1]) // max(1, first[1])


def _product(node: Any, known: KnownSizes) -> int:
    first, out = known.shape(node.input[0]), known.shape(node.output[0])
    flipped = any(a.name == "transA" and a.i for a in node.attribute)
    return prod(out) * (first[0 if flipped else -1] if first else 1)


def _recurrent(node: Any, known: KnownSizes) -> int:
    """X (steps, batch, I): each step of each sequence meets W and R of every direction once."""
    steps, batch, _ = known.shape(node.input[0])
    return steps * batch * (known.count(node.input[1]) + known.count(node.input[2]))


def _attention(node: Any, known: KnownSizes) -> int:
    """Q, K, V of (N, heads, length, depth), or of (N, length, heads x depth): Q·K, then its share of V."""
    query, key, value = (known.shape(name) for name in node.input[:3])
    heads = next((a.i for a in node.attribute if a.name == "q_num_heads"), 0)
    groups = next((a.i for a in node.attribute if a.name == "kv_num_heads"), 0) or heads
    if len(node.input) > 4 and node.input[4]:
        raise UncountedError("attention with kept keys")
    if len(query) == 3:
        shared = max(1, heads // max(1, groups))  # heads that read one value
        return query[0] * query[1] * key[1] * (query[2] + value[2] * shared)
    return prod(query[:3]) * key[2] * (query[3] + value[3])


def _einsum(node: Any, known: KnownSizes) -> int:
    """Two tensors with a common index that the result lacks are a product; else nothing is summed up."""
    text = next(a.s.decode() for a in node.attribute if a.name == "equation").replace(" ", "")
    left, _, right = text.partition("->")
    terms = left.split(",")
    if "..." in text or len(terms) > 2:
        raise UncountedError(f"Einsum {text}")
    extents: dict[str, int] = {}
    for term, name in zip(terms, node.input, strict=True):
        extents.update(zip(term, known.shape(name), strict=True))
    kept = right if "->" in text else "".join(c for c in extents if left.count(c) == 1)
    contracted = set(terms[0]) & set(terms[-1]) - set(kept)
    return prod(extents.values()) if len(terms) == 2 and contracted else 0


FORMULAS: Mapping[str, Callable[[Any, KnownSizes], int]] = {
    **dict.fromkeys(("Conv", "ConvInteger", "QLinearConv", "DeformConv"), _convolution),
    "ConvTranspose": _transposed,
    **dict.fromkeys(("Gemm", "MatMul", "MatMulInteger", "QLinearMatMul"), _product),
    **dict.fromkeys(("RNN", "GRU", "LSTM"), _recurrent),
    "Attention": _attention,
    "Einsum": _einsum,
}
# these are in other domains, too, and count alike there
BLOCKED = frozenset({"Conv", "MatMulInteger", "QLinearConv", "Gemm", "MatMul"})


def precision_of(model: Any) -> Precision:
    """Return int8 for a graph that quantizes what flows through it, else the type of most of its weights."""
    if any(n.op_type in INTEGER or n.op_type.startswith("QLinear") for n in model.graph.node):
        return "int8"
    counts: Counter[Precision] = Counter()
    constants = [
        a.t for n in model.graph.node if n.op_type == "Constant" for a in n.attribute if a.HasField("t")
    ]
    for tensor in (*model.graph.initializer, *constants):
        if tensor.data_type in FLOATS:
            counts[FLOATS[tensor.data_type]] += prod(tensor.dims)
    if counts:
        return counts.most_common(1)[0][0]
    given = (value.type.tensor_type.elem_type for value in model.graph.input)
    return next((FLOATS[kind] for kind in given if kind in FLOATS), "fp32")
