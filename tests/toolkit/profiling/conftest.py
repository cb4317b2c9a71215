"""Networks of the zoo as ONNX files, traced for one call, so that alignment is held to real runtimes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from toolkit import zoo
from toolkit.artifacts import Artifact, hash_file
from toolkit.backends import BACKENDS, EngineOptions
from toolkit.graphs.counting import SourceGraph, count_graph
from toolkit.profiling.columns import open_any
from toolkit.profiling.measuring.batches import feed
from toolkit.profiling.network.modules import Module, modules_of
from toolkit.profiling.rows.align import Part, align, coverage
from toolkit.profiling.rows.claims import Claim
from toolkit.profiling.rows.matching import claim
from toolkit.traces import Trace

LEVELS = ("disable", "basic", "extended", "all")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Aligned:
    """One graph in one runtime: what ran, what each step stands for, and the rows."""

    graph: SourceGraph
    trace: Trace
    claims: tuple[Claim, ...]
    modules: tuple[Module, ...]
    rows: tuple[Part, ...]


@dataclasses.dataclass(kw_only=True)
class Clock:
    """A clock in the place of `time`, on which a test's own sleeping passes, and `tick_s` at each look."""

    tick_s: float = 0.0
    now_s: float = 0.0

    def perf_counter(self) -> float:
        self.now_s += self.tick_s
        return self.now_s

    def perf_counter_ns(self) -> int:
        return round(self.perf_counter() * 1e9)

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


Exported = Callable[[str], Artifact]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Return a function that captures a model of the zoo, untrained, as an ONNX file; each once."""
    import onnx
    import torch

    from exporters.graphs.capture import capture

    folder = tmp_path_factory.mktemp("zoo")

    def export(name: str) -> Artifact:
        path = folder / f"{name}.onnx"
        spec = zoo.model(name)
        if not path.exists():
            torch.manual_seed(0)
            onnx.save(capture(spec.build(spec.input_shape[0], 10).eval(), spec.input_shape, opset=20), path)
        artifact = open_any(path)
        passport = dataclasses.replace(
            artifact.passport, model=name, classes=tuple("0123456789"), sha256=hash_file(path)
        )
        return dataclasses.replace(artifact, passport=passport)

    return export


def aligned(artifact: Artifact, *, level: str = "all", own: bool = False) -> Aligned:
    """Run a graph once in ONNX Runtime at a level and align it; `own`: rows are the file's nodes."""
    graph = count_graph(artifact.path, batch=1)
    spec, backend = artifact.passport.input, BACKENDS.load("ort")
    options = EngineOptions(threads=1, graph=graph.renamed, chosen={"level": level})
    with backend.open(artifact, options) as engine:
        trace = engine.trace(feed(spec.shape, spec.dtype, batch=1, seed=0), windows=1, runs=1)
    claims = claim(trace.nodes, graph, backend.spelling)
    modules = modules_of(None if own else artifact.passport, graph, batch=1)
    return Aligned(
        graph=graph, trace=trace, claims=claims, modules=modules, rows=align(modules, {"ort": claims})
    )


def assert_partition(found: Aligned) -> None:
    """Hold the rows to the promise: each module and each executed node on exactly one of them."""
    on_rows = [module.name for row in found.rows for module in row.modules]
    assert sorted(on_rows) == sorted(module.name for module in found.modules)
    places = sorted(index for row in found.rows for index in row.nodes.get("ort", ()))
    assert places == list(range(len(found.trace.nodes)))
    lost = [entry.node.name for entry in found.claims if not entry.modules and not entry.layout]
    assert not lost
    assert coverage(found.claims) == 1.0


def ops(found: Aligned, kind: str) -> Sequence[str]:
    """Return the operators on rows of one kind."""
    return [found.trace.nodes[i].type for row in found.rows if row.kind == kind for i in row.nodes["ort"]]


def write_times(path: Path, names: Sequence[str], milliseconds: float) -> None:
    """Write layer times as `trtexec --exportProfile` does, every layer alike."""
    import json

    entries = [{"name": n, "averageMs": milliseconds, "medianMs": milliseconds} for n in names]
    path.write_text(json.dumps([{"count": 10}, *entries]))


def windows(
    random: np.random.Generator, median: float, *, noise: float = 0.02, count: int = 10
) -> list[float]:
    """Return window means about a median, as a shared machine gives them."""
    return [float(median * (1 + noise * value)) for value in random.standard_normal(count)]
