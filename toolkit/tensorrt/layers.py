"""TensorRT's own texts → executed nodes: the engine inspector's layers and the profiler's times.

Reads what `trtexec` (10.x, 11.x) and `tensorrt_rtx` write (`--exportLayerInfo`, `--exportProfile`) and
the inspector's one-line form. Names are taken apart as the builder joins them: `a + b` (fused),
`a || b` (siblings merged), `{ForeignNode[a...b]}` (a region given to Myelin), `PWN(a, b)` (pointwise),
`x_myl5_2` (Myelin's), ` [profile 1]`, and `Reformatting CopyNode for Input Tensor 0 to x`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from toolkit.errors import CorruptError
from toolkit.tensorrt.flavours import onnx_nodes
from toolkit.traces import ExecutedNode, NodeSpelling

_PROFILE = re.compile(r" \[profile \d+\]")
_REFORMAT = re.compile(r"^Reformatting CopyNode for (?:Input|Output) Tensor \d+ (?:to|from) (.+)$")
_MYELIN = re.compile(r"_myl\d+_\d+$")
_FOREIGN = re.compile(r"\{?ForeignNode\[(.+?)\.\.\.(.+?)\]\}?")
_TIMING = re.compile(r"^Timing:\s*([0-9.]+)us -> (.+)$", re.M)
_TEXT = re.compile(
    r"^Name: (.+?), LayerType: (\w*), Inputs: \[(.*?)\], Outputs: \[(.*?)\](?:, |$)(.*)$", re.M
)
_SUFFIX = re.compile(r"(?:\.1)?_\d+_myl\d+$|\.1_myl\d+$|\.\d+_\d+_myl\d+$|_myl\d+$")
SPELLING = NodeSpelling(region=_FOREIGN, nameless=re.compile(r"^__my"), kernel_number=re.compile(r"_\d+$"))
MOVES = frozenset({"Reformat", "NoOp", "shape_call", "signal", "wait", "CopyNode"})


def parts_of(name: str) -> tuple[str, ...]:
    """Return the names that a layer's name is made of; a ForeignNode gives its first and its last."""
    name = _PROFILE.sub("", name)
    reformat = _REFORMAT.match(name)
    if reformat:
        return parts_of(reformat[1])
    found: list[str] = []
    for foreign in _FOREIGN.finditer(name):
        found += [foreign[1], foreign[2]]
    rest = _FOREIGN.sub("", name)
    for piece in re.split(r" \+ | \|\| |,\s*|PWN\(|[()]", rest):
        plain = _MYELIN.sub("", piece.strip())
        if plain and not plain.startswith(("__my", "[", "(Unnamed")):
            found.append(plain)
    return tuple(dict.fromkeys(found))


def read_layers(text: str, *, what: str) -> tuple[ExecutedNode, ...]:
    """Read an inspector's output: JSON, or its text form. Raises CorruptError in words."""
    nodes = tuple(_from_text(match) for match in _TEXT.finditer(text))
    if nodes:
        return nodes
    try:
        data = json.loads(text)
    except ValueError as error:
        raise CorruptError(f"{what} is neither the inspector's JSON nor its text: {error}") from None
    layers = data.get("Layers") if isinstance(data, Mapping) else None
    if not isinstance(layers, list) or not layers:
        raise CorruptError(f"{what} holds no layers; `trtexec --exportLayerInfo={what}` writes them")
    return tuple(_from_json(layer, what) for layer in layers)


def _from_json(layer: Any, what: str) -> ExecutedNode:
    if isinstance(layer, str):  # profiling verbosity LAYER_NAMES_ONLY
        return node_of(layer)
    if not isinstance(layer, Mapping) or "Name" not in layer:
        raise CorruptError(f"{what} holds a layer without a name")
    outputs = layer.get("Outputs", [])
    first = outputs[0] if outputs else {}
    return node_of(
        str(layer["Name"]),
        kind=str(layer.get("LayerType", "layer")),
        inputs=[str(t.get("Name", "")) for t in layer.get("Inputs", [])],
        outputs=[str(t.get("Name", "")) for t in outputs],
        metadata=str(layer.get("Metadata", "")),
        shape=first.get("Dimensions"),
        # 10.x writes one key, 11.x splits it
        dtype=first.get("Datatype") or first.get("Format/Datatype"),
    )


def _from_text(match: re.Match[str]) -> ExecutedNode:
    name, kind, inputs, outputs, tail = match.groups()
    shape = re.search(r"Dimensions: \[([-0-9,]*)\]", outputs)
    dtype = re.search(r"Format/Datatype: ([^}]+?) \}?", outputs + " ")
    return node_of(
        name,
        kind=kind,
        inputs=re.findall(r"Name: ([^,}]+),", inputs),
        outputs=re.findall(r"Name: ([^,}]+),", outputs),
        metadata=tail.partition("Metadata:")[2],
        shape=[int(n) for n in shape[1].split(",") if n] if shape else None,
        dtype=dtype[1] if dtype else None,
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
        moves_data=kind in MOVES or _REFORMAT.match(name) is not None or name.startswith(("[", "__mye")),
        output_shape=tuple(int(n) for n in shape) if shape is not None and whole else None,
        output_dtype=dtype,
    )


def tensor_of(name: str) -> str:
    """Return a tensor's name in the source graph: without profile and Myelin's numbering."""
    plain = _PROFILE.sub("", name.strip())
    # Myelin's own intermediate tensors are told apart by those numbers only
    return plain if plain.startswith("__my") else _SUFFIX.sub("", plain)


def read_times(text: str, *, what: str) -> tuple[tuple[str, ...], list[list[float]]]:
    """Read layer times; return the layers' names in order and each run's milliseconds.

    `trtexec --exportProfile` gives means (one run); a log of `Timing: 3.8us -> name` lines gives a
    run whenever a name comes again. Raises CorruptError in words.
    """
    runs: list[dict[str, float]] = []
    for microseconds, name in _TIMING.findall(text):
        if not runs or name in runs[-1]:
            runs.append({})
        runs[-1][name] = float(microseconds) / 1e3
    if not runs:
        return _exported_times(text, what)
    names = tuple(dict.fromkeys(name for run in runs for name in run))
    return names, [[run.get(name, 0.0) for name in names] for run in runs if len(run) == len(names)]


def _exported_times(text: str, what: str) -> tuple[tuple[str, ...], list[list[float]]]:
    try:
        entries = [entry for entry in json.loads(text) if "name" in entry]
        times = [float(entry.get("medianMs", entry.get("averageMs"))) for entry in entries]
    except (ValueError, TypeError) as error:
        raise CorruptError(f"{what} is no profile of trtexec: {error}") from None
    if not entries:
        raise CorruptError(f"{what} holds no layer's time; `trtexec --exportProfile={what}` writes them")
    return tuple(str(entry["name"]) for entry in entries), [times]


def key_of(name: str) -> str:
    """Return a layer's name without the numbers that differ from build to build of one network."""
    return re.sub(r"_myl\d+_\d+$", "_myl", re.sub(r"__mye\d+_\d+", "__mye", _PROFILE.sub("", name)))
