"""TensorRT's own texts → executed nodes: the engine inspector's layers and the profiler's times.

Reads what `trtexec` (10.x, 11.x) and `tensorrt_rtx` write (`--exportLayerInfo`, `--exportProfile`) and
the inspector's one-line form. Names are taken apart as the builder joins them: `a + b` (fused),
`a || b` (siblings merged), `{ForeignNode[a...b]}` (a region given to Myelin), `PWN(a, b)` (pointwise),
`x_myl5_2` (Myelin's), ` [profile 1]`, and `Reformatting CopyNode for Input Tensor 0 to x`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence

import msgspec

from toolkit import schema
from toolkit.errors import CorruptError
from toolkit.schema import Amount
from toolkit.tensorrt.flavours import onnx_nodes
from toolkit.traces import ExecutedNode, ForeignFile, NodeSpelling

LAYERS = "Layers"  # the inspector's key
_PROFILE = re.compile(r" \[profile \d+\]")
# as TensorRT 8 and later, and as TensorRT 7 call one
_REFORMAT = re.compile(
    r"^Reformatting CopyNode for (?:Input|Output) Tensor \d+ (?:to|from) (.+)$"
    r"|^(.+) (?:input|output) reformatter \d+$"
)
_MYELIN = re.compile(r"_myl\d+_\d+$")
_FOREIGN = re.compile(r"\{?ForeignNode\[(.+?)\.\.\.(.+?)\]\}?")
_TIMING = re.compile(r"^Timing:\s*(\S+)us -> (.+)$", re.M)
_TEXT = re.compile(
    r"^Name: (.+?), LayerType: (\w*), Inputs: \[(.*?)\], Outputs: \[(.*?)\](?:, (?=[A-Z]\w*:)|$)(.*)$", re.M
)
# what a logger writes before a line: `[I]`, `[11/28/2026-10:00:00] [V] [TRT]`; loggers of people's own are
# known by what stands behind, for a layer's name may begin with a bracket, too
_LOGGED = re.compile(
    r"^[ \t]*(?:\[(?:[VIWEF]|TRT|[\d/]+-[\d:]+)\][ \t]*)+"
    r"|^[ \t]*(?:\[[^\]\n]*\][ \t]*)+(?=Name: |Timing:|=== |[\d.]+ .*[^\W\d]|Time|Total|Layer\b)",
    re.M,
)
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
# TensorRT 8 in a verbose log: `Layer(CaskConvolution): a + b, Tactic: 0x1, x[Float(1,3,8)] -> y[Half(1,6,8)]`
_VERBOSE = re.compile(r"^Layer\((\w+)\): (.+?), Tactic: [^,]*, (.*?) -> (.*)$", re.M)
# an extent that is open is told as -1, or as the negative of its place among them
_TENSOR = re.compile(r"([^\s,]+?) ?[\[(](\w+)[\[(]([-\d,]*)[\])][\])]")
_TABLE = re.compile(r"^=== Profile \((\d+) iterations ?\) ===\s*\n(.+)\n((?:.*\d.*(?:\n|$))+)", re.M)
_COLUMN = re.compile(r"(?:Avg\. |Median )?Time (?:\(ms\)|%)|\S+")
_TYPE = re.compile(
    r"\b(?:FP\d+\w*|BF16|U?I(?:NT|nt)\d+|BOOL|Float|Half|BFloat16|Bool|float\d*|half|bfloat16|int\d+|bool)\b"
)
# what fused pointwise layers borrow from the graph: constants, and how they are spread
_BORROWED = re.compile(r"(?:^|/)(?:Constant(?:_\d+)?|Broadcast_\d+)(?:_clone_\d+)?$|^Broadcast_\d+$")
_SUFFIX = re.compile(r"(?:\.1)?_\d+_myl\d+$|\.1_myl\d+$|\.\d+_\d+_myl\d+$|_myl\d+$")
SPELLING = NodeSpelling(region=_FOREIGN, nameless=re.compile(r"^__my"), kernel_number=re.compile(r"_\d+$"))
_KERNEL = re.compile(r"^__myl_([A-Za-z]+)_")
# as Myelin shortens them in the names of its kernels
MOVING_WORDS = frozenset({"Move", "Mov", "Tran", "Tra", "Resh", "Res", "Copy", "Cop", "Cast", "Cas"})
MOVES = frozenset({"Reformat", "NoOp", "shape_call", "signal", "wait", "CopyNode"})


def parts_of(name: str) -> tuple[str, ...]:
    """Return the names that a layer's name is made of; a ForeignNode gives its first and its last."""
    name = _PROFILE.sub("", name)
    reformat = _REFORMAT.match(name)
    if reformat:
        return parts_of(reformat[1] or reformat[2])
    foreign = [end for match in _FOREIGN.finditer(name) for end in match.groups()]
    pieces = re.split(r" \+ | \|\| |,\s*|PWN\(|[(){}]", _FOREIGN.sub("", name))
    plain = (_MYELIN.sub("", piece.strip()) for piece in pieces)
    named = [part for part in plain if part and not part.startswith(("__my", "[", "(Unnamed"))]
    own = [part for part in named if not _BORROWED.search(part)]
    return tuple(dict.fromkeys([*foreign, *(own or named)]))


class InspectedTensor(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor as the inspector's JSON tells it: 10.x writes its type into one key, 11.x into two."""

    name: str = msgspec.field(name="Name", default="")
    dimensions: tuple[int, ...] | None = msgspec.field(name="Dimensions", default=None)
    datatype: str | None = msgspec.field(name="Datatype", default=None)
    format: str | None = msgspec.field(name="Format/Datatype", default=None)


class InspectedLayer(msgspec.Struct, frozen=True, kw_only=True):
    """A layer of the inspector's JSON."""

    name: str = msgspec.field(name="Name")
    kind: str = msgspec.field(name="LayerType", default="layer")
    inputs: tuple[InspectedTensor, ...] = msgspec.field(name="Inputs", default=())
    outputs: tuple[InspectedTensor, ...] = msgspec.field(name="Outputs", default=())
    metadata: str = msgspec.field(name="Metadata", default="")


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """The inspector's JSON; a layer is its name alone where the engine was built to tell no more."""

    layers: tuple[str | InspectedLayer, ...] = msgspec.field(name="Layers")


class TimedLayer(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of `trtexec --exportProfile`: a layer, or how many runs there were."""

    name: str | None = None
    median_ms: Amount | None = msgspec.field(name="medianMs", default=None)
    average_ms: Amount | None = msgspec.field(name="averageMs", default=None)


def holds_layers(file: ForeignFile) -> bool:
    """Tell whether a file is an inspector's output."""
    data = file.data
    text = plain(file.text)
    return (isinstance(data, Mapping) and LAYERS in data) or bool(_TEXT.search(text) or _VERBOSE.search(text))


def holds_times(file: ForeignFile) -> bool:
    """Tell whether a file is a profile of layers' times."""
    keys = {"count", "averageMs", "medianMs"}
    entries = file.data if isinstance(file.data, list) else []
    told = any(isinstance(entry, Mapping) and keys & entry.keys() for entry in entries)
    text = plain(file.text)
    return told or _TIMING.search(text) is not None or _TABLE.search(text) is not None


def plain(text: str) -> str:
    """Return a log's text without colours and what the logger wrote before each line."""
    return _LOGGED.sub("", _COLOUR.sub("", text))


def read_layers(text: str, *, what: str) -> tuple[ExecutedNode, ...]:
    """Read an inspector's output: JSON, or its text form. Raises CorruptError in words."""
    logged = plain(text)
    nodes = tuple(map(_from_text, _TEXT.finditer(logged))) or tuple(map(_from_log, _VERBOSE.finditer(logged)))
    if nodes:
        return nodes
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"{what} is neither the inspector's JSON nor its text: {error}") from None
    layers = data.get(LAYERS) if isinstance(data, Mapping) else None
    if not isinstance(layers, list) or not layers:
        raise CorruptError(f"{what} holds no layers; `trtexec --exportLayerInfo=FILE` writes them")
    if any(isinstance(layer, Mapping) and "Name" not in layer for layer in layers):
        raise CorruptError(f"{what} holds a layer without a name")
    found = schema.convert(Inspection, data, what=what, again="export the layers again").layers
    # names alone are what an engine of profiling verbosity LAYER_NAMES_ONLY tells
    return tuple(node_of(layer) if isinstance(layer, str) else _from_json(layer) for layer in found)


def _from_json(layer: InspectedLayer) -> ExecutedNode:
    first = layer.outputs[0] if layer.outputs else InspectedTensor()
    return node_of(
        layer.name,
        kind=layer.kind,
        inputs=[tensor.name for tensor in layer.inputs],
        outputs=[tensor.name for tensor in layer.outputs],
        metadata=layer.metadata,
        shape=first.dimensions,
        dtype=first.datatype or first.format,
    )


def _from_text(match: re.Match[str]) -> ExecutedNode:
    name, kind, inputs, outputs, tail = match.groups()
    shape = re.search(r"Dimensions: \[((?:-?\d+,?)*)\]", outputs)
    dtype = re.search(r"Format/Datatype: ([^}]+)", outputs)
    return node_of(
        name,
        kind=kind,
        inputs=re.findall(r"Name: ([^,}]+),", inputs),
        outputs=re.findall(r"Name: ([^,}]+),", outputs),
        metadata=tail.partition("Metadata:")[2],
        shape=[int(n) for n in shape[1].split(",") if n] if shape else None,
        dtype=dtype[1] if dtype else None,
    )


def _from_log(match: re.Match[str]) -> ExecutedNode:
    kind, name, inputs, outputs = match.groups()
    written = _TENSOR.findall(outputs)
    _, dtype, shape = written[0] if written else ("", None, None)
    return node_of(
        name,
        kind=kind,
        inputs=[found[0] for found in _TENSOR.findall(inputs)],
        outputs=[found[0] for found in written],
        shape=[int(n) for n in shape.split(",") if n] if shape else None,
        dtype=dtype,
    )


def node_of(
    name: str,
    *,
    kind: str = "layer",
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    metadata: str = "",
    shape: Sequence[int] | None = None,
    dtype: str | None = None,
) -> ExecutedNode:
    """Return a layer as an executed node; its metadata says where it is from, else its name does."""
    known = onnx_nodes(metadata)
    whole = shape is not None and all(extent >= 0 for extent in shape)
    return ExecutedNode(
        name=name,
        type="Reformat" if kind == "layer" and _REFORMAT.match(name) else kind,
        inputs=tuple(tensor_of(text) for text in inputs),
        outputs=tuple(tensor_of(text) for text in outputs),
        origins=known or parts_of(name),
        moves_data=kind in MOVES or _only_moves(name),
        output_shape=tuple(shape) if shape is not None and whole else None,
        output_dtype=_type_in(dtype),
    )


def _only_moves(name: str) -> bool:
    """Tell whether a layer's name says that it copies: Myelin's kernels list what they do."""
    kernel = _KERNEL.match(name)
    words = set(re.findall("[A-Z][a-z]*", kernel[1])) if kernel else set()
    listed = bool(words) and words <= MOVING_WORDS
    return listed or _REFORMAT.match(name) is not None or name.startswith(("[", "__mye"))


def _type_in(text: str | None) -> str | None:
    """Return the type in a tensor's format (`Row major linear FP16`), else the text as it is."""
    found = _TYPE.findall(text or "")
    return found[-1] if found else text


def tensor_of(name: str) -> str:
    """Return a tensor's name in the source graph: without profile and Myelin's numbering."""
    plain = _PROFILE.sub("", name.strip())
    # Myelin's own intermediate tensors are told apart by those numbers only
    return plain if plain.startswith("__my") else _SUFFIX.sub("", plain)


def read_times(text: str, *, what: str) -> tuple[tuple[str, ...], list[list[float]]]:
    """Read layer times; return the layers' names in order and each run's milliseconds.

    `trtexec --exportProfile` gives means (one run), as does the table of its log; a log of
    `Timing: 3.8us -> name` lines gives a run whenever a name comes again. Raises CorruptError in words.
    """
    text = plain(text)
    table = _TABLE.search(text)
    if table is not None:
        return _posted_times(table, what)
    runs: list[dict[str, float]] = []
    for microseconds, name in _TIMING.findall(text):
        if not runs or name in runs[-1]:
            runs.append({})
        runs[-1][name] = _duration(microseconds, name, what) / 1e3
    if not runs:
        return _exported_times(text, what)
    names = tuple(dict.fromkeys(name for run in runs for name in run))
    whole = [[run[name] for name in names] for run in runs if len(run) == len(names)]
    if not whole:
        raise CorruptError(f"{what} holds no run in which every layer was timed; profile the engine again")
    return names, whole


def _exported_times(text: str, what: str) -> tuple[tuple[str, ...], list[list[float]]]:
    named = f"{what} is no profile of trtexec"
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"{named}: {error}") from None
    entries = schema.convert(
        tuple[TimedLayer, ...], data, what=f"{named}: it", again="export the times again"
    )
    times = {e.name: e.average_ms if e.median_ms is None else e.median_ms for e in entries if e.name}
    known = {name: ms for name, ms in times.items() if ms is not None}
    if not times:
        raise CorruptError(f"{what} holds no layer's time; `trtexec --exportProfile=FILE` writes them")
    if len(known) < len(times):
        raise CorruptError(f"{named}: it holds a layer without a time")
    return tuple(known), [list(known.values())]


def _posted_times(table: re.Match[str], what: str) -> tuple[tuple[str, ...], list[list[float]]]:
    """Read the table that trtexec prints with `--dumpProfile`: the median, else the mean, of each layer.

    Names stand last in TensorRT 8.6 and later, and first before that. TensorRT 7 prints no median, and means
    of two digits, so that they are taken from the sum over all iterations.
    """
    columns = _COLUMN.findall(table[2])
    kinds = [column[:4] for column in columns]
    wanted = next((kind for kind in ("Medi", "Time") if kind in kinds), None)
    names = next((at for at in (0, -1) if columns[at] == "Layer"), None)
    if wanted is None or names is None:
        raise CorruptError(f"{what} holds a table of layers without a median or a sum of each")
    runs = 1 if wanted == "Medi" else max(1, int(table[1]))
    found: dict[str, float] = {}
    for line in table[3].splitlines():
        # a name has spaces, and a number has none
        cells = (line.rsplit if names == 0 else line.split)(None, len(columns) - 1)
        name = cells[names].strip()
        if name == "Total":
            break  # what a log says behind the table is none of it
        if len(cells) == len(columns):
            found[name] = _duration(cells[kinds.index(wanted)], name, what) / runs
    if not found:
        raise CorruptError(f"{what} holds a table without a layer")
    return tuple(found), [list(found.values())]


def _duration(text: str, name: str, what: str) -> float:
    """Return a time that a log tells. Raises CorruptError for NaN, less than 0 and what is no number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise CorruptError(f"{what} tells the time {text!r} of {name!r}; a number of 0 or more belongs there")
    return value


def key_of(name: str) -> str:
    """Return a layer's name without the numbers that differ from build to build of one network."""
    return re.sub(r"_myl\d+_\d+$", "_myl", re.sub(r"__mye\d+_\d+", "__mye", _PROFILE.sub("", name)))
