"""The profiler against its own promises: faithful clean latency, quick whole runs, honest comparisons.

    python -m tests.benchmarks.bench_profile

- clean latency against a bare timing loop over the same session, in interleaved blocks: within 5 %
- whole process, PyTorch and ONNX Runtime: LeNet within 10 s, AlexNet within 25 s
- alignment of a graph of 1,000 nodes: within 1 s

What `compare` makes of pairs of profiles is bench_compare.py's.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit import zoo
from toolkit.artifacts import Artifact
from toolkit.backends import BACKENDS, EngineOptions
from toolkit.checkpoints import write_untrained
from toolkit.exporting import ExportOptions
from toolkit.exporting.making import make
from toolkit.graphs import GRAPH
from toolkit.graphs.counting import SourceGraph, SourceNode
from toolkit.profiling.columns import PARITY_IMAGES
from toolkit.profiling.measuring.latency import measure
from toolkit.profiling.network.modules import Module
from toolkit.profiling.rows.align import align
from toolkit.profiling.rows.matching import claim
from toolkit.traces import PLAIN, ExecutedNode

BLOCKS = 5


def exported(name: str, root: Path) -> Artifact:
    """Return the seeded ONNX file of a model."""
    checkpoint = write_untrained(zoo.model(name), root)
    return make(checkpoint, GRAPH, ExportOptions(root=root, images=PARITY_IMAGES), lambda text: None)


def clean_against_bare(artifact: Artifact, backend: str) -> float:
    """Return the ratio of our clean median to a bare loop's, the median of five interleaved blocks."""
    shape = tuple(extent or 1 for extent in artifact.passport.input.shape)
    batch = np.zeros(shape, np.float32)
    ratios = []
    with BACKENDS.load(backend).open(artifact, EngineOptions()) as engine:
        ours, bare = engine.bind(batch), bare_call(engine, batch)
        for _ in range(BLOCKS):
            latency = measure({backend: ours}, duration_s=1.0)[0][backend]
            assert latency is not None
            ratios.append(latency.median / bare_loop(bare, seconds=1.0))
    return float(np.median(ratios))


def bare_call(engine: Any, batch: NDArray[np.float32]) -> Callable[[], object]:
    """Return what a user would time without cnnkit: the very session or module that the engine holds."""
    if engine.backend == "ort":
        feed = {engine.session.get_inputs()[0].name: batch}
        return lambda: engine.session.run(None, feed)
    import torch

    given = torch.from_numpy(batch)

    def call() -> object:
        with torch.inference_mode():
            return engine.module(given)

    return call


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
    rows = align(modules, {"ort": claim(ran, graph, PLAIN)})
    seconds = time.perf_counter() - start
    assert len(rows) == count // 2
    return seconds


def main() -> None:
    """Print every figure beside its promise."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        print(f"alignment of 1,000 nodes: {alignment_seconds():.3f} s (≤ 1)")
        for name in ("lenet", "alexnet28"):
            graph = exported(name, root)
            checkpoint = write_untrained(zoo.model(name), root)
            for backend, artifact in (("ort", graph), ("pytorch", checkpoint)):
                ratio = clean_against_bare(artifact, backend)
                print(f"clean latency of {name} in {backend} / bare loop: {ratio:.3f} (0.95 to 1.05)")
        exported("alexnet", root)
        print(f"profile lenet, whole process: {whole_process('lenet', root):.1f} s (≤ 10)")
        print(f"profile alexnet, whole process: {whole_process('alexnet', root):.1f} s (≤ 25)")


if __name__ == "__main__":
    main()
