"""A file or a name → a network as parts: by what the file holds, or by what lies under the name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from toolkit.artifacts import CHECKPOINT
from toolkit.errors import CnnkitError, CorruptError, NotFoundError, reading
from toolkit.graphs import GRAPH
from toolkit.impostors import refuse_impostor
from toolkit.opening import Selection, is_path, open_model
from toolkit.passports import Format
from toolkit.presence import is_file, is_folder
from toolkit.profiling.comparing.graph_parts import graph_network
from toolkit.profiling.comparing.parts import ReadNetwork
from toolkit.profiling.comparing.weight_parts import code_network, weights_network

Kind = Literal["profile", "graph", "weights"]


def kind_of(path: Path) -> Kind:
    """Tell by its first bytes what a file is; what is neither JSON nor weights is taken for a graph.

    Raises NotFoundError, CorruptError for other texts and pages, CnnkitError for a folder.
    """
    if is_folder(path):
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


def read_network(what: str | Path, *, root: Path, model_file: Path | None = None) -> ReadNetwork:
    """Take a file or a name apart. Raises NotFoundError with the nearest match, CorruptError."""
    text = str(what)
    if is_path(text) or is_file(Path(text)):
        path = Path(text)
        return graph_network(path) if kind_of(path) == "graph" else weights_network(path, model_file)
    for kind in (CHECKPOINT, GRAPH):
        found = _artifact(text, root, kind)
        if found is not None:
            return graph_network(found) if kind == GRAPH else weights_network(found, model_file)
    return code_network(text, model_file)


def _artifact(name: str, root: Path, kind: Format) -> Path | None:
    try:
        return open_model(name, Selection(root=root, formats=(kind,))).path
    except NotFoundError:
        return None
