"""OpenVINO against ONNX Runtime in turn, and what cnnkit adds to OpenVINO's own call.

    python -m tests.benchmarks.bench_openvino [FOLDER OF ARTIFACTS]

- clean latency against a bare loop (`set_input_tensor` once, then `infer()`), batches 1 and 32: within 5 %
- medians of ONNX Runtime in fp32 and int8, and of OpenVINO in fp32, bf16 and int8, timed in turn
- what OpenVINO's column adds to `profile lenet --backend all`: at most 3 s
- `export alexnet --format openvino` of an fp32 graph that is there, 100 pictures: at most 5 s
- what a call of one runtime costs right after one of the other, whose workers may still spin
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from exporters.run.export import export
from toolkit.artifacts import Artifact
from toolkit.backends import BACKENDS, Engine, EngineOptions
from toolkit.exporting import ExportOptions
from toolkit.opening import Selection, as_asked
from toolkit.passports import Precision
from toolkit.profiling.measuring.latency import measure
from toolkit.traces import timed

NETWORKS = ("lenet-maxpool", "alexnet28", "resnet18-cifar", "cifarnet-best", "nin", "alexnet")
BATCHES = (1, 32)
COLUMNS: tuple[tuple[str, Precision], ...] = (
    *(("ort", "fp32"), ("ort", "int8")),
    *(("openvino", "fp32"), ("openvino", "bf16"), ("openvino", "int8")),
)
BARE, BLOCKS = 3, 5


def exported(name: str, root: Path) -> dict[str, Artifact]:
    """Return a network's fp32 and int8 graphs, untrained: what they answer takes as long."""
    options = ExportOptions(root=root, images=16, calibration_images=32)
    report = export(name, formats=["onnx"], precisions=["fp32", "int8"], untrained=True, options=options)
    return {made.artifact.passport.precision: made.artifact for made in report.require().artifacts}


def opened(backend: str, precision: Precision, graphs: dict[str, Artifact]) -> Engine:
    found = BACKENDS.load(backend)
    stored = graphs[found.computes.get(precision, precision)]
    asked = as_asked(stored, found.opens(Selection(root=Path(), precision=precision)))
    return found.open(asked, EngineOptions(yields=True))


def pictures(artifact: Artifact, batch: int) -> np.ndarray:
    shape = tuple(extent or 1 for extent in artifact.passport.input.shape[1:])
    return np.random.default_rng(0).standard_normal((batch, *shape), dtype=np.float32)


def bare(graph: Artifact, batch: np.ndarray) -> Callable[[], object]:
    """Return OpenVINO's own call, compiled and bound without cnnkit."""
    from openvino import Core, Tensor

    core = Core()
    model = core.read_model(graph.path)
    model.reshape(list(batch.shape))
    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    request.set_input_tensor(Tensor(batch, shared_memory=True))
    return request.infer


def bare_median(call: Callable[[], object], seconds: float) -> float:
    found: list[float] = []
    while sum(found) < seconds * 1e3:
        found += timed(call, 10)
    return statistics.median(found)


def against_bare(graphs: dict[str, Artifact], size: int) -> float:
    """Return the ratio of our clean median to a bare loop's, the median of interleaved blocks."""
    batch, ratios = pictures(graphs["fp32"], size), []
    with opened("openvino", "fp32", graphs) as engine:
        ours, theirs = engine.bind(batch), bare(graphs["fp32"], batch)
        for _ in range(BLOCKS):
            latency = measure({"ours": ours}, duration_s=0.5)[0]["ours"]
            assert latency is not None
            ratios.append(latency.median / bare_median(theirs, 0.5))
    return statistics.median(ratios)


def in_turn(graphs: dict[str, Artifact], size: int) -> list[float]:
    """Return each column's median milliseconds, timed in turn."""
    batch = pictures(graphs["fp32"], size)
    engines = {column: opened(*column, graphs) for column in COLUMNS}
    calls = {" ".join(column): engine.bind(batch) for column, engine in engines.items()}
    found = measure(calls, duration_s=0.6)[0]
    for engine in engines.values():
        engine.close()
    return [latency.median if latency else float("nan") for latency in found.values()]


def beside_each_other(graphs: dict[str, Artifact]) -> None:
    """Print what a call costs alone, and right after a call of the other runtime."""
    batch, backends = pictures(graphs["fp32"], 1), {name: BACKENDS.load(name) for name in ("ort", "openvino")}
    calls = {
        name: backend.open(graphs["fp32"], EngineOptions()).bind(batch) for name, backend in backends.items()
    }
    for name, call in calls.items():
        other = next(one for key, one in calls.items() if key != name)
        alone = bare_median(call, 0.5)
        after = []
        while sum(after) < 500:
            other()
            after += timed(call, 1)
        print(f"  {name} {alone:.3f} ms, right after the other {statistics.median(after):.3f} ms")


def seconds_of(*words: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "cnnkit", *words], check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Print every promise with what was measured."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(folder)
        graphs = {name: exported(name, root) for name in NETWORKS}
        for name in NETWORKS[:BARE]:
            for size in BATCHES:
                ratio = against_bare(graphs[name], size)
                print(f"{name}, batch {size}: {ratio:.3f} of a bare loop", flush=True)
        print("network, batch | " + " | ".join(" ".join(column) for column in COLUMNS))
        for name in NETWORKS:
            for size in BATCHES:
                found = in_turn(graphs[name], size)
                print(f"{name}, {size} | " + " | ".join(f"{ms:.3g}" for ms in found), flush=True)
        print("alexnet28, batch 1, in one process:")
        beside_each_other(graphs["alexnet28"])
        plain = ("profile", "lenet", "--untrained", "--artifacts", str(root))
        without = seconds_of(*plain, "--backend", "pytorch,ort")
        print(f"profile lenet: all {seconds_of(*plain, '--backend', 'all'):.1f} s, without {without:.1f} s")
        words = (
            "export",
            str(graphs["alexnet"]["fp32"].path),
            "--format",
            "openvino",
            "--images",
            "100",
        )
        print(f"export alexnet for OpenVINO: {seconds_of(*words, '--artifacts', str(root)):.1f} s")


if __name__ == "__main__":
    main()
