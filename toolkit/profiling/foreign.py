"""Profiles taken elsewhere on the same rows: TensorRT's layers and times, or ONNX Runtime's profile."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.artifacts import Artifact, artifacts_root, now
from toolkit.backends import BACKENDS
from toolkit.backends._ort_profile import calls_by_node, executed
from toolkit.errors import CnnkitError, CorruptError, NotFoundError
from toolkit.graphs import GRAPH
from toolkit.graphs.counting import SourceGraph, read_graph
from toolkit.opening import Selection, is_path, open_model
from toolkit.passports import Passport, TensorSpec
from toolkit.profiling.columns import ColumnSource, open_any
from toolkit.profiling.measuring.batches import fixed_batch, refused
from toolkit.profiling.network.modules import modules_of
from toolkit.profiling.result import Profile, Run
from toolkit.profiling.rows.align import align
from toolkit.profiling.rows.cells import columns_of, rows_of
from toolkit.profiling.rows.matching import claim
from toolkit.profiling.rows.observed import Seen
from toolkit.tensorrt.layers import key_of, node_of, read_layers, read_times
from toolkit.traces import ExecutedNode, Trace, trimmed_mean

RUN = "model_run"  # an event of ONNX Runtime's profile: one call of the network
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
    CnnkitError for a batch other than the one that they were taken at.
    """
    source = layers or times
    if source is None:
        raise CnnkitError("--import takes a file of layers or an ONNX Runtime profile")
    text = _text(source)
    events = _events(text)
    notes: list[str] = []
    if events is not None:
        backend, trace = "ort", _ort_trace(events, source)
    else:
        backend = "trt"
        trace = _trt_trace(text if layers else None, times, source, notes)
    artifact = _artifact(model, root or artifacts_root(), source)
    told = _batch_of(events or [], artifact.passport.input.shape if model is not None else ())
    size = _agreed(batch, told, fixed_batch(artifact), source, artifact.path)
    graph = read_graph(artifact.path, batch=size) if artifact.path.suffix == f".{GRAPH}" else None
    return _laid_out(backend, trace, artifact, graph, batch=size, notes=notes)


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


def _batch_of(events: Sequence[Mapping[str, Any]], shape: Sequence[int | None]) -> int | None:
    """Return the batch that the shapes in an ONNX Runtime profile tell; None where they tell none.

    It is that of the first tensor of the network's input `shape`. Without one it is what every tensor
    begins with that the nodes write.
    """
    first = [calls[0].get("args", {}) for calls in calls_by_node(events).values()]
    if shape:
        read = [found for args in first for found in _shapes(args, "input_type_shape")]
        return next((found[0] for found in read if found and _fits(found[1:], shape[1:])), None)
    begins = {found[0] for args in first for found in _shapes(args, "output_type_shape") if found}
    return begins.pop() if len(begins) == 1 else None


def _shapes(args: Mapping[str, Any], key: str) -> list[tuple[int, ...]]:
    return [tuple(int(extent) for extent in s) for entry in args.get(key) or [] for s in entry.values()]


def _fits(found: Sequence[int], wanted: Sequence[int | None]) -> bool:
    alike = (want in (None, have) for have, want in zip(found, wanted, strict=False))
    return len(found) == len(wanted) and all(alike)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        raise NotFoundError(f"no file {path}") from None
    except OSError as error:
        raise CorruptError(f"{path} cannot be read: {error.strerror}") from None


def _events(text: str) -> list[dict[str, Any]] | None:
    """Return the events of an ONNX Runtime profile; None for another file."""
    if not text.lstrip().startswith("["):
        return None
    try:
        data = json.loads(text)
    except ValueError:
        return None
    events = [event for event in data if isinstance(event, dict)]
    return events if any(event.get("cat") == "Node" for event in events) else None


def _ort_trace(events: Sequence[dict[str, Any]], path: Path) -> Trace:
    calls = calls_by_node(events)
    if not calls:
        raise CorruptError(f"{path} holds no kernel's time; `enable_profiling` of ONNX Runtime writes them")
    # a profile that lacks its runs' own events is cut where the node that opens each of them is called
    runs: Sequence[Mapping[str, Any]] = [event for event in events if event.get("name") == RUN]
    opening = runs or next(iter(calls.values()))
    starts = np.sort(np.array([float(event["ts"]) for event in opening]))
    times = np.array([_by_run(found, starts) for found in calls.values()])
    # the first run pays for arenas and packing
    skip = 1 if times.shape[1] > 1 else 0
    totals = [float(e["dur"]) / 1e3 for e in events if e.get("name") == RUN][skip:]
    return Trace(
        nodes=tuple(executed(name, found[0], None) for name, found in calls.items()),
        node_ms=trimmed_mean(times[:, skip:])[np.newaxis],
        total_ms=(float(trimmed_mean(np.array(totals))),) if totals else (),
        runs=times.shape[1] - skip,
    )


def _by_run(calls: Sequence[Mapping[str, Any]], starts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the milliseconds that each run spends in a node, which a loop calls more than once a run."""
    spent = np.zeros(len(starts))
    places = np.searchsorted(starts, [float(event["ts"]) for event in calls], side="right") - 1
    np.add.at(spent, np.maximum(places, 0), [float(event["dur"]) / 1e3 for event in calls])
    return spent


def _trt_trace(text: str | None, times: Path | None, source: Path, notes: list[str]) -> Trace:
    nodes = read_layers(text, what=str(source)) if text is not None else ()
    if times is None:
        return Trace(nodes=nodes, unknown={"nodes": "no times were imported"})
    names, runs = read_times(_text(times), what=str(times))
    timed, unmatched = _joined(nodes, names)
    if nodes and unmatched:
        notes.append(
            f"{unmatched} of {len(names)} timed layers are not in {source.name}: "
            "the files are of different builds; those are placed by their names"
        )
    return Trace(nodes=timed, node_ms=np.array(runs, dtype=np.float64), runs=len(runs))


def _joined(nodes: Sequence[ExecutedNode], names: Sequence[str]) -> tuple[tuple[ExecutedNode, ...], int]:
    """Return a node for each timed layer: the inspector's of that name, else one read from the name."""
    by_name = {node.name: node for node in reversed(nodes)}
    keys = Counter(key_of(node.name) for node in nodes if "[profile" not in node.name)
    by_key = {key: node for node in reversed(nodes) if keys[key := key_of(node.name)] == 1}
    found, unmatched = [], 0
    for name in names:
        node = by_name.get(name) or by_key.get(key_of(name))
        unmatched += node is None
        found.append(dataclasses.replace(node, name=name) if node else node_of(name))
    return tuple(found), unmatched


def _artifact(model: str | None, root: Path, source: Path) -> Artifact:
    """Return the ONNX artifact that the layers came from, or a stand-in named after the file."""
    if model is not None:
        if is_path(model):
            return open_any(Path(model))
        return open_model(model, Selection(root=root, formats=(GRAPH,)))
    unknown = TensorSpec(name="input", shape=(None,))
    passport = Passport(
        format="trt",
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
    backend: str, trace: Trace, artifact: Artifact, graph: SourceGraph | None, *, batch: int, notes: list[str]
) -> Profile:
    if graph is None and backend == "ort":
        trace = dataclasses.replace(
            trace, nodes=tuple(dataclasses.replace(n, origins=(n.name,)) for n in trace.nodes)
        )
    target = ColumnSource(key=backend, backend=backend, artifact=artifact, static_why=ELSEWHERE)
    claims = claim(trace.nodes, graph, BACKENDS.load(backend).spelling)
    known = artifact.passport if graph is not None else None
    modules = modules_of(known, graph, batch=batch)
    one = Seen(target=target, trace=trace, graph=graph, claims=claims, modules=modules, notes=notes)
    seen = {backend: one}
    rows = rows_of(align(modules, {backend: claims}), seen)
    # what its layers computed in is not in a passport of ours: it is said nowhere that it was fp32
    columns = {
        key: dataclasses.replace(column, precision="unknown" if graph is None else column.precision)
        for key, column in columns_of(seen, rows).items()
    }
    return Profile(
        model=artifact.passport.model,
        device="another machine",
        threads=None,
        runs=(Run(batch=batch, backends=columns, rows=rows),),
        created=now(),
    )
