"""Profiles taken elsewhere on the same rows: what other programs wrote of a run, in its runtime's words."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from toolkit.artifacts import Artifact, artifacts_root, now
from toolkit.backends import BACKENDS, Backend, backend_names
from toolkit.errors import CnnkitError, CorruptError, NotFoundError
from toolkit.graphs import GRAPH
from toolkit.graphs.counting import SourceGraph, count_graph
from toolkit.opening import Selection, is_path, open_model
from toolkit.passports import Passport, TensorSpec
from toolkit.profiling.columns import ColumnSource, open_any
from toolkit.profiling.measuring.batches import fixed_batch, refused
from toolkit.profiling.network.modules import modules_of
from toolkit.profiling.result import Profile, Run
from toolkit.profiling.rows.align import align
from toolkit.profiling.rows.cells import columns_of, rows_of
from toolkit.profiling.rows.matching import claim
from toolkit.profiling.rows.observed import ObservedColumn
from toolkit.traces import ForeignFile, ForeignFiles, ForeignTrace

JSON_BEGINS = re.compile(r'\s*(\[\s*[{\["]|\{\s*")')
# kernels that compute, of which a profile of the same network names at least so many
LEAST_COVERAGE = 0.5
ELSEWHERE = "imported: clean end-to-end latency was not in the file"


def import_profile(
    layers: Path | None,
    times: Path | None,
    model: str | None,
    *,
    batch: int | None = None,
    root: Path | None = None,
) -> Profile:
    """Align what another machine wrote with the modules of MODEL, or with its own node names.

    `batch` None is the one that the files tell, else 1. Raises NotFoundError, CorruptError in words,
    CnnkitError for a batch other than the one that they were taken at, or another network's profile.
    """
    source = layers or times
    if source is None:
        raise CnnkitError("--import takes a file of layers or a profile that a runtime wrote")
    files = ForeignFiles(layers=_read(layers), times=_read(times), batch=batch)
    artifact = _artifact(model, root or artifacts_root(), source)
    is_graph = artifact.path.suffix == f".{GRAPH}"
    if is_graph:
        files = dataclasses.replace(files, shape=artifact.passport.input.shape)
    backend, found = recognised(files, source, map(BACKENDS.load, backend_names()))
    size = _agreed(batch, found.batch, fixed_batch(artifact), source, artifact.path)
    graph = count_graph(artifact.path, batch=size) if is_graph else None
    laid = _laid_out(backend, found, artifact, graph, batch=size)
    if graph is not None:
        _refuse_other(laid.runs[0].backends[backend.name].coverage, source, artifact.path)
    return laid


def _refuse_other(coverage: float | None, source: Path, path: Path) -> None:
    """Raise CnnkitError where hardly a kernel is of the graph that it is said to be of."""
    if coverage is not None and coverage < LEAST_COVERAGE:
        raise CnnkitError(
            f"{source.name} is another network's profile: {coverage:.0%} of its kernels that compute are of "
            f"{path.name}; name the file that it was taken of, or leave MODEL out for its own names"
        )


def recognised(
    files: ForeignFiles, source: Path, backends: Iterable[Backend]
) -> tuple[Backend, ForeignTrace]:
    """Return the first backend that knows the files as its own, and what they hold. Raises CorruptError."""
    backends = tuple(backends)
    for backend in backends:
        found = backend.read_foreign(files)
        if found is not None:
            return backend, found
    known = [word for backend in reversed(backends) for word in backend.foreign]
    given = [file for file in (files.layers, files.times) if file is not None]
    for file in given:
        alone = ForeignFiles(layers=file, times=None)
        if all(backend.read_foreign(alone) is None for backend in backends):
            either = "neither" if len(known) > 1 else "not"
            unknown = f"is {either} {' nor '.join(known)}" if known else "is known to no backend"
            raise CorruptError(f"{file.path} {_told(file) or unknown}")
    names = " and ".join(str(file.path) for file in given)
    raise CorruptError(f"{names} do not go together: --import takes layers, --import-times their times")


def _told(file: ForeignFile) -> str | None:
    """Say what a file is that belongs elsewhere, or that it is damaged; None where nobody knows it."""
    if file.path.suffix == f".{GRAPH}":
        return f"is an ONNX graph: `cnnkit profile {file.path}` measures it here"
    if file.data is None and JSON_BEGINS.match(file.text):
        return "is cut short or damaged: no readable JSON; write it again"
    keys = file.data.keys() if isinstance(file.data, Mapping) else ()
    if {"schema", "runs"} <= set(keys):
        return "is a profile of cnnkit: `cnnkit compare` takes it; --import takes what others wrote"
    if "traceEvents" in keys:
        return "is a trace for viewers (ui.perfetto.dev opens it), which names no layers"
    return None


def _agreed(asked: int | None, told: int | None, fixed: int | None, source: Path, path: Path) -> int:
    """Return the batch that was asked for, or that the files tell. Raises CnnkitError where they differ."""
    if told is not None and fixed not in (None, told):
        raise CnnkitError(
            f"{source.name} was taken at batch {told}, and that of {path.name} is fixed at {fixed}: "
            "name the file that it was taken of"
        )
    if told is not None and asked not in (None, told):
        raise CnnkitError(
            f"{source.name} was taken at batch {told}, not {asked}: `--batch {told}`, or leave it out"
        )
    if fixed is not None and asked not in (None, fixed):
        raise refused(f"{path.name} was asked for at batch {asked}", fixed)
    return told or fixed or asked or 1


def _read(path: Path | None) -> ForeignFile | None:
    if path is None:
        return None
    try:
        return ForeignFile.read(path)
    except FileNotFoundError:
        raise NotFoundError(f"no file {path}") from None
    except OSError as error:
        raise CorruptError(f"{path} cannot be read: {error.strerror}") from None


def _artifact(model: str | None, root: Path, source: Path) -> Artifact:
    """Return the graph that the layers came from, or a stand-in named after the file."""
    if model is not None:
        if is_path(model):
            return open_any(Path(model))
        return open_model(model, Selection(root=root, formats=(GRAPH,)))
    unknown = TensorSpec(name="input", shape=(None,))
    passport = Passport(
        format=source.suffix.lstrip("."),
        model=source.stem,
        precision="fp32",
        trained=None,
        input=unknown,
        output=unknown,
        classes=(),
        preprocessing=None,
    )
    return Artifact(path=source, passport=passport)


def _laid_out(
    backend: Backend, found: ForeignTrace, artifact: Artifact, graph: SourceGraph | None, *, batch: int
) -> Profile:
    key, trace = backend.name, found.trace
    target = ColumnSource(key=key, backend=key, artifact=artifact, static_why=ELSEWHERE)
    claims = claim(trace.nodes, graph, backend.spelling)
    known = artifact.passport if graph is not None else None
    modules = modules_of(known, graph, batch=batch)
    one = ObservedColumn(
        target=target, trace=trace, graph=graph, claims=claims, modules=modules, notes=list(found.notes)
    )
    seen = {key: one}
    rows = rows_of(align(modules, {key: claims}), seen)
    columns = columns_of(seen, rows)
    if graph is None:  # what its layers computed in is in no passport: it is said nowhere that it was fp32
        columns = {key: dataclasses.replace(columns[key], precision="unknown")}
    return Profile(
        model=artifact.passport.model,
        device="another machine",
        threads=None,
        runs=(Run(batch=batch, backends=columns, rows=rows),),
        created=now(),
    )
