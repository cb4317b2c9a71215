"""The profiler against its own promises: faithful clean latency, quick whole runs, honest comparisons.

    python -m tests.benchmarks.bench_profile

- clean latency against a bare timing loop over the same session, in interleaved blocks: within 5 %
- whole process, PyTorch and ONNX Runtime: LeNet within 10 s, AlexNet within 25 s
- alignment of a graph of 1,000 nodes: within 1 s
- of 20 pairs of profiles of one artifact 19 compare as no change; of 20 with a slowdown of 20 % put
  into one module of at least 0.1 ms, 19 name that module
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from toolkit import catalog
from toolkit.artifacts import Artifact
from toolkit.backends import EngineOptions, ExecutedNode
from toolkit.checkpoints import write_untrained
from toolkit.profiling.align import align
from toolkit.profiling.claims import claim
from toolkit.profiling.compare import compare
from toolkit.profiling.graph import SourceGraph, SourceNode
from toolkit.profiling.measure import measure
from toolkit.profiling.profile import Settings, profile
from toolkit.profiling.result import Profile
from toolkit.profiling.subject import Module
from toolkit.profiling.targets import Chosen, Target, Wanted, export_onnx

PAIRS = 20


def exported(name: str, root: Path) -> Artifact:
    """Return the seeded ONNX file of a model."""
    checkpoint = write_untrained(catalog.model(name), root)
    return export_onnx(checkpoint, "fp32", Wanted(models=(), root=root), lambda text: None)


def clean_against_bare(artifact: Artifact) -> float:
    """Return the ratio of our clean median to a bare loop's, the median of five interleaved blocks."""
    shape = tuple(extent or 1 for extent in artifact.passport.input.shape)
    batch = np.zeros(shape, np.float32)
    ratios = []
    with catalog.backend("ort").open(artifact, EngineOptions()) as engine:
        session = engine.session  # type: ignore[attr-defined]
        call, feed = engine.bind(batch), {session.get_inputs()[0].name: batch}
        for _ in range(5):
            ours, _ = measure({"ort": call}, duration_s=1.0)
            bare = bare_loop(lambda: session.run(None, feed), seconds=1.0)
            latency = ours["ort"]
            assert latency is not None
            ratios.append(latency.median / bare)
    return float(np.median(ratios))


def bare_loop(call: Callable[[], object], *, seconds: float) -> float:
    """Return the median milliseconds of calls in a plain loop, after a warm-up of a tenth of it."""
    times: list[float] = []
    end = time.perf_counter() + 1.1 * seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    return float(np.median(times[len(times) // 10 :]))


def whole_process(name: str, root: Path) -> float:
    """Return the seconds of `cnnkit profile NAME` over PyTorch and ONNX Runtime, export excluded."""
    arguments = ["profile", name, "--untrained", "--backend", "pytorch,ort", "--json"]
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "cnnkit", *arguments],
        env={**os.environ, "CNNKIT_ARTIFACTS": str(root)},
        capture_output=True,
        check=True,
    )
    return time.perf_counter() - start


def alignment_seconds(count: int = 1000) -> float:
    """Return the seconds to claim and align a chain of `count` nodes, every pair of them fused."""
    nodes = tuple(
        SourceNode(
            name=f"m{i}/Op",
            op="Relu",
            inputs=(f"t{i}",),
            outputs=(f"t{i + 1}",),
            modules=(f"m{i}",),
            type="x",
        )
        for i in range(count)
    )
    graph = SourceGraph(
        nodes=nodes, inputs={"t0": ("float32", (1,))}, outputs=(f"t{count}",), constants=frozenset()
    )
    ran = [
        ExecutedNode(name=f"k{i}", type="Fused", inputs=(f"t{i}",), outputs=(f"t{i + 2}",))
        for i in range(0, count, 2)
    ]
    modules = [Module(name=f"m{i}", type="x") for i in range(count)]
    start = time.perf_counter()
    rows = align(modules, {"ort": claim(ran, graph)})
    seconds = time.perf_counter() - start
    assert len(rows) == count // 2
    return seconds


def profiled(artifact: Artifact) -> Profile:
    """Return one profile of an artifact in ONNX Runtime."""
    target = Target(key="ort", backend="ort", artifact=artifact, graph=artifact.path)
    return profile(Chosen(targets=[target]), Settings(duration_s=0.5), lambda text: None)


def slowed(found: Profile, label: str, by: float) -> Profile:
    """Return a profile in which one row took longer in every window, as a slower kernel makes it."""
    run = found.runs[0]
    rows = []
    for each in run.rows:
        row, cell = each, each.cells.get("ort")
        if cell is not None and row.label == label and cell.latency_ms is not None:
            windows = tuple(value * (1 + by) for value in cell.windows)
            cell = dataclasses.replace(cell, windows=windows, latency_ms=cell.latency_ms * (1 + by))
            row = dataclasses.replace(row, cells={**row.cells, "ort": cell})
        rows.append(row)
    return dataclasses.replace(found, runs=(dataclasses.replace(run, rows=tuple(rows)),))


def pairs(artifact: Artifact) -> tuple[int, int, str]:
    """Return how many pairs compare as no change, how many name the slowed row, and which that is."""
    quiet = named = 0
    label = ""
    for _ in range(PAIRS):
        before, after = profiled(artifact), profiled(artifact)
        quiet += all(d.verdict == "no change" for d in compare(before, after))
        costly = [r for r in after.runs[0].rows if r.modules and (r.cells["ort"].latency_ms or 0) >= 0.1]
        label = max(costly, key=lambda r: r.cells["ort"].latency_ms or 0).label
        slower = [d.row for d in compare(before, slowed(after, label, 0.2)) if d.verdict == "slower"]
        named += label in slower
    return quiet, named, label


def main() -> None:
    """Print every figure beside its promise."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        print(f"alignment of 1,000 nodes: {alignment_seconds():.3f} s (≤ 1)")
        small = exported("alexnet28", root)
        for artifact in (exported("lenet", root), small):
            ratio = clean_against_bare(artifact)
            print(f"clean latency of {artifact.passport.model} / bare loop: {ratio:.3f} (0.95 to 1.05)")
        exported("alexnet", root)
        print(f"profile lenet, whole process: {whole_process('lenet', root):.1f} s (≤ 10)")
        print(f"profile alexnet, whole process: {whole_process('alexnet', root):.1f} s (≤ 25)")
        quiet, named, label = pairs(small)
        print(f"equal pairs that compare as no change: {quiet} of {PAIRS} (≥ 19)")
        print(f"pairs that name {label}, slowed by 20 %: {named} of {PAIRS} (≥ 19)")


if __name__ == "__main__":
    main()
