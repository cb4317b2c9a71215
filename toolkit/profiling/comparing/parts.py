"""A network as parts that can be held against another's: of a graph, of weights, or of the zoo's own code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from toolkit import zoo
from toolkit.artifacts import CHECKPOINT, read_passport, sidecar
from toolkit.errors import CnnkitError, CorruptError, NotFoundError, reading
from toolkit.figures import shape_text
from toolkit.graphs import GRAPH
from toolkit.graphs.counting import SourceNode, count_graph
from toolkit.graphs.reading import load_graph
from toolkit.impostors import refuse_impostor
from toolkit.opening import Selection, is_path, open_model, require_torch
from toolkit.passports import Format
from toolkit.weights import read_weights, unwrap

if TYPE_CHECKING:
    from torch import nn

Kind = Literal["profile", "graph", "weights"]
# what an operator's inputs are called where a layer of torch has a name for them
ROLES = {
    "Conv": ("", "weight", "bias"),
    "ConvTranspose": ("", "weight", "bias"),
    "Gemm": ("", "weight", "bias"),
    "BatchNormalization": ("", "weight", "bias", "running_mean", "running_var"),
}
COUNTERS = ("num_batches_tracked",)


@dataclass(frozen=True, kw_only=True)
class WeightTensor:
    """One tensor of weights; `values` is None where only its shape is known."""

    shape: tuple[int, ...]
    dtype: str
    values: NDArray[Any] | None = None


@dataclass(frozen=True, kw_only=True)
class NetworkPart:
    """What one node, or one call of a layer, is: its modules, what it puts out, how it is set, what it holds.

    `ops` are its operators and `reads` and `writes` its tensors, of a graph only. None is unknown.
    """

    modules: tuple[str, ...]
    type: str | None
    ops: tuple[str, ...] = ()
    output_shape: tuple[int, ...] | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, WeightTensor] = field(default_factory=dict)
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ReadNetwork:
    """A network taken apart; `ends` are its inputs and outputs in words, `conversions` numbers of nodes.

    `dialect` names how settings are spelt: those of two dialects cannot be compared.
    """

    name: str
    dialect: str
    parts: tuple[NetworkPart, ...]
    ends: Mapping[str, str] = field(default_factory=dict)
    conversions: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def kind_of(path: Path) -> Kind:
    """Tell by its first bytes what a file is; what is neither JSON nor weights is taken for a graph.

    Raises NotFoundError, CorruptError for other texts and pages, CnnkitError for a folder.
    """
    if path.is_dir():
        raise CnnkitError(f"{path} is a folder; profiles, ONNX files and weights are compared, each one file")
    try:
        with reading(path), path.open("rb") as stream:
            start = stream.read(64)
    except FileNotFoundError:
        known = f"`cnnkit profile MODEL --output {path}` writes a profile" if path.suffix == ".json" else (
            "profiles, ONNX files, weights and names of networks are compared"
        )  # fmt: skip
        raise NotFoundError(f"no file {path}; {known}") from None
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:1] in (b"{", b"[") or not text:
        return "profile"
    refuse_impostor(path)
    if text.decode("utf-8", "ignore").replace("\n", "").replace("\r", "").replace("\t", "").isprintable():
        raise CorruptError(f"{path} is text: neither a profile (JSON) nor a network (ONNX or weights)")
    safetensors = len(start) > 8 and start[8:9] == b"{" and start[6:8] == b"\0\0"
    return "weights" if safetensors or start[:4] == b"PK\x03\x04" or start[:1] == b"\x80" else "graph"


def read_network(what: str | Path, *, root: Path) -> ReadNetwork:
    """Take a file or a name apart. Raises NotFoundError with the nearest match, CorruptError."""
    text = str(what)
    if is_path(text) or Path(text).is_file():
        path = Path(text)
        return _of_graph(path) if kind_of(path) == "graph" else _of_weights(path)
    for kind in (CHECKPOINT, GRAPH):
        found = _artifact(text, root, kind)
        if found is not None:
            return _of_graph(found) if kind == GRAPH else _of_weights(found)
    require_torch()
    spec = zoo.model(text)
    note = f"{text}: no trained weights are here, so shapes are compared and values are not"
    module = _shadow(spec.build, spec.input_shape[0], spec.classes)
    parts = tuple(_of_module(module, (1, *spec.input_shape), {}))
    return ReadNetwork(name=text, dialect="torch", parts=parts, notes=(note,))


def _artifact(name: str, root: Path, kind: Format) -> Path | None:
    try:
        return open_model(name, Selection(root=root, formats=(kind,))).path
    except NotFoundError:
        return None


def _of_graph(path: Path) -> ReadNetwork:
    """Take an ONNX file apart: a part a module, nodes of one module together."""
    import onnx

    graph = count_graph(path, batch=1)
    model = onnx.load_from_string(graph.renamed) if graph.renamed else load_graph(path)
    protos = {node.name: node for node in model.graph.node}
    constants = _Constants(model)
    parts: dict[tuple[str, ...], NetworkPart] = {}
    conversions: dict[str, int] = {}
    for node in graph.nodes:
        if not node.modules:
            conversions[node.op] = conversions.get(node.op, 0) + 1
            continue
        own = _of_node(node, protos.get(node.name), constants, graph.constants)
        known = parts.get(node.modules)
        parts[node.modules] = _joined(known, own) if known else own
    ends = {f"input {name}": f"{kind} {shape_text(shape)}" for name, (kind, shape) in graph.inputs.items()}
    ends |= {f"output {value.name}": _told(value) for value in model.graph.output}
    return ReadNetwork(
        name=str(path), dialect=GRAPH, parts=tuple(parts.values()), ends=ends, conversions=conversions
    )


def _told(value: Any) -> str:
    import onnx

    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not tensor.elem_type:
        return "no tensor"
    dims = [d.dim_value if d.dim_value > 0 else None for d in tensor.shape.dim]
    return f"{onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)} {shape_text(dims)}"


class _Constants:
    """The constant tensors of a graph by name, also behind what only converts or reorders them."""

    def __init__(self, model: Any) -> None:
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self._makers = {name: node for node in model.graph.node for name in node.output}
        for node in model.graph.node:
            value = next((a.t for a in node.attribute if a.name == "value" and a.HasField("t")), None)
            if node.op_type == "Constant" and value is not None:
                self._tensors[node.output[0]] = value

    def __call__(self, name: str) -> WeightTensor | None:
        from onnx import numpy_helper

        for _ in range(8):  # a weight lies no deeper behind what converts it
            if name in self._tensors:
                values = numpy_helper.to_array(self._tensors[name])
                return WeightTensor(shape=values.shape, dtype=str(values.dtype), values=values)
            maker = self._makers.get(name)
            if maker is None or not maker.input:
                return None
            name = maker.input[0]
        return None


def _of_node(node: SourceNode, proto: Any, constants: _Constants, known: frozenset[str]) -> NetworkPart:
    weights = {}
    for place, name in enumerate(proto.input if proto is not None else ()):
        value = constants(name) if name in known else None
        if value is not None:
            weights[_role(node, place)] = value
    return NetworkPart(
        modules=node.modules,
        type=node.type,
        ops=(f"{node.domain}.{node.op}" if node.domain else node.op,),
        output_shape=node.output_shape,
        settings=_settings(proto) if proto is not None else {},
        weights=weights,
        reads=tuple(name for name in node.inputs if name not in known),
        writes=node.outputs,
    )


def _role(node: SourceNode, place: int) -> str:
    """Return what a weight is to its node: as torch calls it, as its operator does, or by its place."""
    import onnx

    roles = ROLES.get(node.op, ())
    if not roles and not node.domain and onnx.defs.has(node.op):
        roles = tuple(given.name for given in onnx.defs.get_schema(node.op).inputs)
    return (roles[place] if place < len(roles) else "") or f"input {place}"


def _settings(proto: Any) -> dict[str, str]:
    """Return a node's attributes as text, those that are left out with their defaults."""
    import onnx

    found: dict[str, str] = {}
    if not proto.domain and onnx.defs.has(proto.op_type):
        schema = onnx.defs.get_schema(proto.op_type)
        found = {
            name: _text(one.default_value)
            for name, one in schema.attributes.items()
            if one.default_value.name
        }
    return found | {a.name: _text(a) for a in proto.attribute if not (a.HasField("g") or a.HasField("t"))}


def _text(attribute: Any) -> str:
    import onnx

    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return str(list(value)) if hasattr(value, "__len__") and not isinstance(value, str) else f"{value:g}"


def _joined(first: NetworkPart, second: NetworkPart) -> NetworkPart:
    """Return two nodes of one module as one part: it puts out what the later of them does."""
    return NetworkPart(
        modules=first.modules,
        type=first.type,
        ops=(*first.ops, *second.ops),
        output_shape=second.output_shape,
        settings={**second.settings, **first.settings},
        weights={**second.weights, **first.weights},
        reads=(*first.reads, *(name for name in second.reads if name not in first.writes)),
        writes=(*first.writes, *second.writes),
    )


def _of_weights(path: Path) -> ReadNetwork:
    """Take a file of weights apart: by its network's code where its passport names one, else by its names."""
    require_torch()
    said: list[str] = []
    state = {
        name: WeightTensor(shape=tuple(t.shape), dtype=str(t.dtype).removeprefix("torch."), values=_array(t))
        for name, t in unwrap(read_weights(path), said).items()
        if name.rpartition(".")[2] not in COUNTERS
    }
    module, shape = _module_of(path)
    if module is not None:
        try:
            parts = tuple(_of_module(module, shape, state))
            return ReadNetwork(name=str(path), dialect="torch", parts=parts, notes=tuple(said))
        except CnnkitError:
            pass  # its code no longer takes its input: the names of its weights remain
    owners: dict[str, dict[str, WeightTensor]] = {}
    for name, tensor in state.items():
        owner, _, role = name.rpartition(".")
        owners.setdefault(owner or name, {})[role] = tensor
    parts = tuple(NetworkPart(modules=(name,), type=None, weights=own) for name, own in owners.items())
    return ReadNetwork(name=str(path), dialect="names", parts=parts, notes=tuple(said))


def _array(tensor: Any) -> NDArray[Any]:
    """Return a tensor's values; numpy has no bf16, whose values are fp32's."""
    import torch

    plain = tensor.detach().cpu()
    found: NDArray[Any] = (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()
    return found


def _module_of(path: Path) -> tuple[nn.Module | None, tuple[int, ...]]:
    """Return the network that a passport beside a file names, without memory, and its input's shape."""
    if not sidecar(path).is_file():
        return None, ()
    passport = read_passport(path)
    spec = zoo.known(passport.model)
    if spec is None:
        return None, ()
    shape = (1, *(extent or 1 for extent in passport.input.shape[1:]))
    return _shadow(spec.build, shape[1], passport.columns or spec.classes), shape


def _shadow(build: Callable[[int, int], nn.Module], channels: int, classes: int) -> nn.Module:
    from toolkit.modules import shadow

    return shadow(build, channels, classes)


def _of_module(
    module: nn.Module, shape: tuple[int, ...], state: Mapping[str, WeightTensor]
) -> Iterator[NetworkPart]:
    """Yield a part for each call of a layer; weights that are not in `state` are known by shape only."""
    from toolkit.modules import walk

    layers = dict(module.named_modules())
    for row in walk(module, shape):
        layer = layers.get(row.name.partition("#")[0])
        weights: dict[str, WeightTensor] = {}
        for role, tensor in layer.state_dict().items() if layer is not None and row.call == 1 else ():
            if role not in COUNTERS:
                kind = str(tensor.dtype).removeprefix("torch.")
                own = WeightTensor(shape=tuple(tensor.shape), dtype=kind)
                weights[role] = state.get(f"{row.name}.{role}", own)
        yield NetworkPart(
            modules=(row.name,),
            type=row.type,
            output_shape=row.output_shape,
            settings={"settings": layer.extra_repr()} if layer is not None else {},
            weights=weights,
        )


def difference_of(first: WeightTensor, second: WeightTensor) -> float | None:
    """Return the largest difference of two tensors' values; None where they are unknown or no floats."""
    if first.values is None or second.values is None or first.shape != second.shape:
        return None
    if first.values.dtype == second.values.dtype and np.array_equal(first.values, second.values):
        return 0.0
    if any(np.dtype(one.values.dtype).kind != "f" for one in (first, second) if one.values is not None):
        return None
    apart = first.values.astype(np.float64) - second.values.astype(np.float64)
    return float(np.abs(apart).max(initial=0.0))
