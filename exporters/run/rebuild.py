"""An engine that does not fit this machine, built again from the ONNX file that it came from."""

from __future__ import annotations

import contextlib
from pathlib import Path

from toolkit import catalog
from toolkit.artifacts import Artifact, Target, find_artifacts, open_artifact, read_passport
from toolkit.errors import CnnkitError, CorruptError, NotFoundError
from toolkit.exporting import Exporter, ExportOptions
from toolkit.machine.cuda import gpus


def rebuild(engine: Artifact, root: Path) -> Artifact:
    """Build an engine again in its own place, for this machine's TensorRT and GPU.

    Raises NotFoundError when its ONNX file is neither beside it nor among the artifacts of its name.
    """
    passport = engine.passport
    if passport.format != "trt" or passport.target is None:
        raise CnnkitError(f"{engine.path} is {passport.format}; only engines are rebuilt")
    source = _source(engine, root)
    exporter: Exporter = catalog.load("exporter", "trt")
    return exporter.export(source, options_of(engine, passport.target)).artifact


def options_of(engine: Artifact, target: Target) -> ExportOptions:
    """Return what an engine was asked for when it was built, as far as this machine leaves the choice.

    An engine of TensorRT for RTX is for the GPU that is here, else for those that it was for; classic
    TensorRT knows no other GPU than the one that it runs on, and is never told one.
    """
    profile = target.shape_profile or {}
    batches = tuple(int(profile[name][0]) for name in ("min", "opt", "max") if name in profile)
    here = tuple(gpu.capability for gpu in gpus()[:1])
    return ExportOptions(
        root=engine.path.parent,
        precision=engine.passport.precision,
        batches=batches or (1, 32, 256),
        targets=() if target.flavour == "classic" else here or target.compute_capabilities,
        extra={
            "path": engine.path,
            "flavour": target.flavour,
            "compatible": target.hardware_compatibility,
            "version_compatible": target.version_compatible,
        },
    )


def _source(engine: Artifact, root: Path) -> Artifact:
    """Return the graph that an engine was built from, known by its hash; the folder may be any."""
    wanted, folder = engine.passport.source_sha256, engine.path.parent
    for path in sorted(folder.glob("*.onnx")):
        with contextlib.suppress(CorruptError, NotFoundError):  # no file of ours, so not the one
            if read_passport(path).sha256 == wanted:
                return open_artifact(path)
    for path, passport in find_artifacts(root, engine.name):
        if passport.format == "onnx" and passport.sha256 == wanted:
            return open_artifact(path)
    raise NotFoundError(
        f"the ONNX file that {engine.path.name} was built from is not in {folder}, nor in "
        f"{root / engine.name}; copy it there with its passport, or `cnnkit export {engine.name} "
        f"--format trt --precision {engine.passport.precision}` makes both"
    )
