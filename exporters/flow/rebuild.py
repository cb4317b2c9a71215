"""An engine that does not fit this machine, built again from the ONNX file that it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from exporters import Exporter, ExportOptions
from toolkit import catalog
from toolkit.artifacts import Artifact, find_artifacts, open_artifact
from toolkit.backends._cuda import gpus
from toolkit.errors import CnnkitError, NotFoundError


def rebuild(engine: Artifact, root: Path) -> Artifact:
    """Build an engine again beside the old one's source, for this machine's TensorRT and GPU.

    Without a GPU here the old compute capabilities are kept. Raises NotFoundError when its ONNX
    file is neither beside it nor among the artifacts.
    """
    passport = engine.passport
    if passport.format != "trt" or passport.target is None:
        raise CnnkitError(f"{engine.path} is {passport.format}; only engines are rebuilt")
    source = _source(engine, root)
    target, here = passport.target, gpus()
    profile = target.shape_profile or {}
    batches = tuple(int(profile[name][0]) for name in ("min", "opt", "max") if name in profile)
    extra: dict[str, Any] = {"flavour": target.flavour} if target.flavour else {}
    options = ExportOptions(
        root=engine.path.parent.parent,
        precision=passport.precision,
        batches=batches or (1, 32, 256),
        targets=(here[0].capability,) if here else target.compute_capabilities,
        extra=extra,
    )
    exporter: Exporter = catalog.load("exporter", "trt")
    return exporter.export(source, options).artifact


def _source(engine: Artifact, root: Path) -> Artifact:
    wanted = engine.passport.source_sha256
    beside = engine.path.parent.parent
    for folder in dict.fromkeys((beside, root)):
        for path, passport in find_artifacts(folder, engine.name):
            if passport.format == "onnx" and passport.sha256 == wanted:
                return open_artifact(path)
    raise NotFoundError(
        f"the ONNX file that {engine.path.name} was built from is not in {engine.path.parent}; "
        f"`cnnkit export {engine.name} --format trt --precision {engine.passport.precision}` makes both"
    )
