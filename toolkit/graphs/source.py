"""The graph that an artifact is or was made of, and files of graphs that came without a passport."""

from __future__ import annotations

from pathlib import Path

from toolkit.artifacts import Artifact, open_artifact, read_passport, sidecar
from toolkit.errors import CnnkitError
from toolkit.graphs import GRAPH


def is_bare_graph(path: Path) -> bool:
    """Tell whether a path names an .onnx file, spelt in any case, beside which no passport lies."""
    return path.suffix.lower() == f".{GRAPH}" and not sidecar(path).exists()


def graph_of(artifact: Artifact) -> Path | None:
    """Return the ONNX graph of an artifact: itself, or the one beside it, by its hash, that it is made of."""
    known = artifact.passport
    if known.format == GRAPH:
        return artifact.path
    for beside in sorted(artifact.path.parent.glob(f"*.{GRAPH}")) if known.source_sha256 else ():
        try:
            if read_passport(beside).sha256 == known.source_sha256:
                return open_artifact(beside).path
        except CnnkitError:
            continue
    return None
