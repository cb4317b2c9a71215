"""The graph that an artifact is or was made of, and files of graphs that came without a passport."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from toolkit.artifacts import Artifact, open_artifact, read_passport, sidecar
from toolkit.errors import CnnkitError
from toolkit.graphs import GRAPH
from toolkit.presence import is_there, matching


def is_bare_graph(path: Path) -> bool:
    """Tell whether a path names an .onnx file, spelt in any case, beside which no passport lies."""
    return path.suffix.lower() == f".{GRAPH}" and not is_there(sidecar(path))


def graph_of(artifact: Artifact) -> Artifact | None:
    """Return the ONNX graph of an artifact: itself, or the one beside it, checked, that it is made of."""
    if artifact.passport.format == GRAPH:
        return artifact
    for beside in _sources_of(artifact):
        with contextlib.suppress(CnnkitError):
            return open_artifact(beside)
    return None


def graph_path(artifact: Artifact) -> Path | None:
    """Return where the graph of an artifact lies by the passports alone, for what cannot wait for a hash."""
    return artifact.path if artifact.passport.format == GRAPH else next(_sources_of(artifact), None)


def _sources_of(artifact: Artifact) -> Iterator[Path]:
    wanted = artifact.passport.source_sha256
    for beside in matching(artifact.path.parent, f"*.{GRAPH}") if wanted else ():
        with contextlib.suppress(CnnkitError):
            if read_passport(beside).sha256 == wanted:
                yield beside
