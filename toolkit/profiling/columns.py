"""What one profile compares: artifacts on backends, found, made or listed as skipped with a reason."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolkit import catalog
from toolkit.artifacts import (
    Artifact,
    Passport,
    Precision,
    TensorSpec,
    find_artifacts,
    open_artifact,
    sidecar,
)
from toolkit.errors import CnnkitError, NotFoundError, UnavailableError, unknown_name
from toolkit.opening import Selection, is_path, newest_name, open_model
from toolkit.profiling.result import SkippedColumn

DEFAULT = ("pytorch", "ort", "trt")
# pictures on which an ONNX that is made in passing is held against its checkpoint
PARITY_IMAGES = 64


@dataclass(frozen=True, kw_only=True)
class Target:
    """One column to be: an artifact on a backend. `static_why` says why it cannot be timed here."""

    key: str
    backend: str
    artifact: Artifact
    static_why: str | None = None
    graph: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What was asked for. `named` tells whether the backends were typed, or are all or the default."""

    models: tuple[str, ...]
    backends: tuple[str, ...] = DEFAULT
    named: bool = False
    precisions: tuple[Precision, ...] = ("fp32",)
    root: Path = Path("artifacts")
    untrained: bool = False
    seed: int = 0
    model_file: Path | None = None


@dataclass(kw_only=True)
class Chosen:
    """The columns, and what was skipped."""

    targets: list[Target] = field(default_factory=list)
    skipped: list[SkippedColumn] = field(default_factory=list)


def backends_of(words: str | None) -> tuple[tuple[str, ...], bool]:
    """Read `pytorch,ort` or `all`; return the backends and whether they were named one by one."""
    if words is None or words == "all":
        others = [name for name in catalog.names("backend") if name not in DEFAULT]
        return (*DEFAULT, *others), False
    names = tuple(dict.fromkeys(word.strip() for word in words.split(",") if word.strip()))
    for name in names:
        if name not in catalog.names("backend"):
            raise unknown_name("backend", name, [*catalog.names("backend"), "all"])
    return names, True


def choose(wanted: Wanted, tell: Callable[[str], None]) -> Chosen:
    """Find or make the artifact of every column. Raises what opening a named file raises.

    A backend that was named and has no file at all raises UnavailableError; else it is listed as skipped.
    """
    finder = _Finder(wanted, tell)
    for model in wanted.models or (None,):
        for precision in wanted.precisions:
            for backend in wanted.backends:
                finder.add(model, backend, precision)
            if model is not None and is_path(model):
                break  # a file has the precision it has
    chosen = finder.chosen
    found = {target.backend for target in chosen.targets}
    for backend, why in finder.lacking.items():
        if wanted.named and backend not in found:
            raise UnavailableError(f"backend {backend!r} was named and has nothing to run: {why}")
    if not chosen.targets:
        reasons = "; ".join(f"{entry.backend}: {entry.reason}" for entry in chosen.skipped)
        raise CnnkitError(f"nothing can be profiled: {reasons}")
    return chosen


class _Finder:
    """Looks for one column after the other."""

    def __init__(self, wanted: Wanted, tell: Callable[[str], None]) -> None:
        self.wanted, self.tell, self.chosen = wanted, tell, Chosen()
        self.lacking: dict[str, str] = {}  # backend → why it has no file of a MODEL

    def add(self, model: str | None, backend: str, precision: Precision) -> None:
        """Add the column of a backend, or note why it is skipped."""
        state = catalog.backend(backend).availability()
        if not state.available and not (self.wanted.named and backend == "trt"):
            reason = f"{state.why_not}; {state.how_to_get}"
            if self.wanted.named:
                raise UnavailableError(f"backend {backend!r} cannot run here: {reason}")
            self._skip(backend, precision, reason)
            return
        if model is not None and is_path(model):
            artifact = self._file(Path(model), backend, precision)
        elif backend == "pytorch" and precision != "fp32":
            self._skip(backend, precision, f"PyTorch runs the fp32 checkpoint; {precision} is an export")
            return
        else:
            artifact = self._named(model, backend, precision)
        if artifact is not None:
            self._append(backend, artifact)

    def _skip(self, backend: str, precision: str, reason: str) -> None:
        self.chosen.skipped.append(SkippedColumn(backend=backend, precision=precision, reason=reason))

    def _lacks(self, backend: str, precision: str, reason: str) -> None:
        self.lacking.setdefault(backend, reason)
        self._skip(backend, precision, reason)

    def _file(self, path: Path, backend: str, precision: str) -> Artifact | None:
        """Open a named file, or make of it what the backend runs; None where that cannot be (noted)."""
        artifact = open_any(path)
        kind = artifact.passport.format
        if kind in catalog.backend(backend).formats:
            return artifact
        if kind == "safetensors" and backend in ("ort", "trt"):
            artifact = export_onnx(artifact, "fp32", self.wanted, self.tell)
        elif kind != "onnx" or backend != "trt":
            formats = " or ".join(catalog.backend(backend).formats)
            self._lacks(backend, precision, f"{path.name} is {kind}, and it opens {formats}")
            return None
        if backend == "ort":
            return artifact
        # a graph from elsewhere has no passport on disk, and its engine nothing to descend from
        return build_engine(artifact, self.wanted, self.tell) if artifact.passport.sha256 else artifact

    def _named(self, model: str | None, backend: str, precision: Precision) -> Artifact | None:
        """Open an artifact by name; make the export that is not there, from the checkpoint."""
        formats = catalog.backend(backend).formats
        selection = Selection(
            root=self.wanted.root,
            formats=formats,
            precision=precision,
            untrained=self.wanted.untrained,
            seed=self.wanted.seed,
            model_file=self.wanted.model_file,
        )
        checkpoint = None if "safetensors" in formats else _checkpoint(model, selection)
        try:
            artifact = open_model(model, selection)
            orphan = artifact.passport.format == "trt" and _graph(artifact) is None
            if checkpoint is None or (_descends(artifact, checkpoint) and not orphan):
                return artifact
            why = (
                "was built of a graph that is not beside it any more"
                if orphan
                else f"holds other weights than {checkpoint.path.name}"
            )
            self.tell(f"{artifact.path.name} {why}: exporting anew")
        except NotFoundError as error:
            if checkpoint is None:
                if not self._is_here(model, selection):
                    raise
                self._lacks(backend, precision, str(error))
                return None
        assert checkpoint is not None  # an artifact without one was returned above
        if formats == ("onnx",):
            return export_onnx(checkpoint, precision, self.wanted, self.tell)
        graph = self._named(model, "ort", precision)
        return graph and build_engine(graph, self.wanted, self.tell)

    def _is_here(self, model: str | None, selection: Selection) -> bool:
        """Tell whether another backend may open what was named: a file of that precision is here."""
        if self.wanted.untrained:
            return False  # its checkpoint is always made: the error is of another kind
        known = find_artifacts(selection.root, model or newest_name(selection))
        return any(p.precision == selection.precision and p.trained is not False for _, p in known)

    def _append(self, backend: str, artifact: Artifact) -> None:
        taken = {target.key for target in self.chosen.targets}
        key = next(key for key in _keys(backend, artifact, self.chosen.targets) if key not in taken)
        why = _why_static(artifact) if backend == "trt" else None
        target = Target(key=key, backend=backend, artifact=artifact, static_why=why, graph=_graph(artifact))
        self.chosen.targets.append(target)


def _keys(backend: str, artifact: Artifact, others: Sequence[Target]) -> Iterator[str]:
    """Yield what a column may be called: its backend, and what tells it from the other columns."""
    yield backend
    known = artifact.passport
    if any(other.artifact.passport.model != known.model for other in others):
        yield f"{backend}:{known.model}"
        yield f"{backend}:{known.model}:{known.precision}"
    yield f"{backend}:{known.precision}"
    for number in itertools.count(2):
        yield f"{backend}:{known.precision}#{number}"


def _checkpoint(model: str | None, selection: Selection) -> Artifact | None:
    source = dataclasses.replace(selection, formats=("safetensors",), precision="fp32")
    try:
        return open_model(model, source)
    except NotFoundError:
        return None


def _descends(artifact: Artifact, checkpoint: Artifact) -> bool:
    """Tell whether an export may stand beside a checkpoint: equal weights, as far as passports tell."""
    known = artifact.passport
    if known.format == "trt" or known.precision != "fp32":
        return True
    return known.source_sha256 in (None, checkpoint.passport.sha256)


def export_onnx(
    checkpoint: Artifact, precision: Precision, wanted: Wanted, tell: Callable[[str], None]
) -> Artifact:
    """Export a checkpoint in passing, and say what was made."""
    exporter = catalog.load("exporter", "onnx")
    contract: Any = importlib.import_module("toolkit.exporting")
    options = contract.ExportOptions(
        root=wanted.root, images=PARITY_IMAGES, seed=wanted.seed, model_file=wanted.model_file
    )
    made: Artifact = exporter.export(checkpoint, options).artifact
    tell(f"made {made.path} from {checkpoint.path.name} (checked on {PARITY_IMAGES} images)")
    if precision != "fp32":
        made = exporter.export(made, dataclasses.replace(options, precision=precision)).artifact
        tell(f"made {made.path}")
    return made


def build_engine(graph: Artifact, wanted: Wanted, tell: Callable[[str], None]) -> Artifact:
    """Build a TensorRT engine in passing; the graph itself where that cannot be done here (said)."""
    contract: Any = importlib.import_module("toolkit.exporting")
    options = contract.ExportOptions(
        root=wanted.root, precision=graph.passport.precision, images=PARITY_IMAGES, seed=wanted.seed
    )
    try:
        made: Artifact = catalog.load("exporter", "trt").export(graph, options).artifact
    except CnnkitError as error:
        tell(f"no engine could be built of {graph.path.name}: {error}")
        return graph
    tell(f"made {made.path} from {graph.path.name}")
    return made


def _why_static(artifact: Artifact) -> str | None:
    """Return why TensorRT cannot run this here, None where it can."""
    state = catalog.backend("trt").availability()
    if not state.available:
        return state.why_not or "it is not available"
    if artifact.passport.format != "trt":
        return "no engine of it is here; `cnnkit export` builds one"
    return None


def _graph(artifact: Artifact) -> Path | None:
    """Return the ONNX graph of an artifact: itself, or the one that its engine was built from."""
    known = artifact.passport
    if known.format == "onnx":
        return artifact.path
    if known.format == "trt":
        middle = "" if known.precision == "fp32" else f".{known.precision}"
        for name in (f"{artifact.name}{middle}.onnx", f"{artifact.name}{middle}-trt.onnx"):
            beside = artifact.path.with_name(name)
            if beside.exists() and open_artifact(beside).passport.sha256 == known.source_sha256:
                return beside
    return None


def open_any(path: Path) -> Artifact:
    """Open a file with or without a passport: an ONNX file from anywhere gets one in memory."""
    if not path.exists() or path.suffix != ".onnx" or sidecar(path).exists():
        return open_artifact(path)
    from toolkit.graphs.counting import read_graph

    graph = read_graph(path, batch=1)
    if not graph.inputs:
        raise CnnkitError(f"{path} takes no input; there is nothing to feed")
    name, (dtype, shape) = next(iter(graph.inputs.items()))
    spec = TensorSpec(name=name, shape=shape, dtype=dtype)
    passport = Passport(
        format="onnx",
        model=path.stem,
        precision=graph.precision,
        trained=None,
        input=spec,
        output=TensorSpec(name=graph.outputs[0], shape=(None,)),
        classes=(),
        preprocessing=None,
    )
    return Artifact(path=path, passport=passport)


__all__ = ["Chosen", "Target", "Wanted", "backends_of", "choose", "open_any"]
