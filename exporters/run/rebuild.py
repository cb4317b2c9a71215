"""An export that does not fit this machine, made again from the graph that it came from."""

from __future__ import annotations

import contextlib
from pathlib import Path

from toolkit.artifacts import Artifact, find_artifacts, open_artifact, read_passport
from toolkit.errors import CnnkitError, CorruptError, NotFoundError
from toolkit.exporting import EXPORTERS
from toolkit.graphs import GRAPH


def rebuild(made: Artifact, root: Path) -> Artifact:
    """Make an artifact again in its own place, for this machine's runtime and GPU.

    Raises NotFoundError when its graph is neither beside it nor among the artifacts of its name,
    CnnkitError for what is the same on every machine.
    """
    exporter = next((one for one in EXPORTERS.all() if one.format == made.passport.format), None)
    options = exporter.again(made) if exporter else None
    if exporter is None or options is None:
        raise CnnkitError(f"{made.path} is {made.passport.format}; only engines are rebuilt")
    return exporter.export(_source(made, root), options).artifact


def _source(made: Artifact, root: Path) -> Artifact:
    """Return the graph that an artifact was made from, known by its hash; the folder may be any."""
    wanted, folder = made.passport.source_sha256, made.path.parent
    for path in sorted(folder.glob("*.onnx")):
        with contextlib.suppress(CorruptError, NotFoundError):  # without a passport: another one
            if read_passport(path).sha256 == wanted:
                return open_artifact(path)
    for path, passport in find_artifacts(root, made.name):
        if passport.format == GRAPH and passport.sha256 == wanted:
            return open_artifact(path)
    raise NotFoundError(
        f"the ONNX file that {made.path.name} was built from is not in {folder}, nor in "
        f"{root / made.name}; copy it there with its passport, or `cnnkit export {made.name} "
        f"--format {made.passport.format} --precision {made.passport.precision}` makes both"
    )
