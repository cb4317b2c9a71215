"""Clean latency against a plain script of the user's: its own process, without cnnkit's way of measuring.

    python -m tests.benchmarks.bench_clean [--rounds 5] [--models lenet-maxpool,alexnet28]

Both backends, batches 1 and 32, threads 1 and 2; profile and script run in turn; the ratio of their medians
is to be within 5 %. The script builds the network, or opens the file, feeds one array and takes the time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.benchmarks.bench_profile import exported

PYTORCH = """
import sys, time
import numpy as np, torch
from toolkit import zoo
name, batch, threads, seconds = sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
torch.set_num_threads(threads)
spec = zoo.model(name)
module = spec.build(spec.input_shape[0], spec.classes).eval()
given = torch.randn(batch, *spec.input_shape)
def call():
    with torch.inference_mode():
        return module(given)
"""
ORT = """
import sys, time
import numpy as np, onnxruntime
path, batch, threads, seconds = sys.argv[1], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = threads
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
first = session.get_inputs()[0]
feed = {first.name: np.random.rand(batch, *first.shape[1:]).astype(np.float32)}
def call():
    return session.run(None, feed)
"""
LOOP = """
end = time.perf_counter() + seconds / 2
while time.perf_counter() < end:
    call()
times, end = [], time.perf_counter() + seconds
while time.perf_counter() < end or len(times) < 5:
    start = time.perf_counter()
    call()
    times.append(time.perf_counter() - start)
print(np.median(times) * 1e3)
"""
SCRIPTS = {"pytorch": PYTORCH + LOOP, "ort": ORT + LOOP}
SECONDS = 2.0


def plain(backend: str, model: str, path: Path, batch: int, threads: int) -> float:
    """Return the median milliseconds of a plain script."""
    words = [str(path), model, str(batch), str(threads), str(SECONDS)]
    done = _run([sys.executable, "-c", SCRIPTS[backend], *words])
    return float(done)


def profiled(backend: str, model: str, root: Path, batch: int, threads: int) -> float:
    """Return the clean median of a profile of one column."""
    words = ["profile", model, "--untrained", "--backend", backend, "--batch", str(batch)]
    words += ["--threads", str(threads), "--duration", str(SECONDS), "--artifacts", str(root), "--json"]
    found = json.loads(_run([sys.executable, "-m", "cnnkit", *words]))
    return float(found["runs"][0]["backends"][backend]["latency_ms"]["median"])


def _run(command: list[str]) -> str:
    # what holds other libraries to one thread would hold both sides to one
    environment = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


def main() -> int:
    """Print a line for each combination; return 1 where one is off by more than 5 %."""
    options = argparse.ArgumentParser()
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--models", default="lenet-maxpool,alexnet28")
    options.add_argument("--backends", default="pytorch,ort")
    asked = options.parse_args()
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for model in asked.models.split(","):
            path = exported(model, Path(folder)).path
            for backend in asked.backends.split(","):
                for batch, threads in ((1, 1), (1, 2), (32, 1), (32, 2)):
                    ratios, last = [], 0.0
                    for _ in range(asked.rounds):
                        last = plain(backend, model, path, batch, threads)
                        ratios.append(profiled(backend, model, Path(folder), batch, threads) / last)
                    ratio = float(np.median(ratios))
                    worst = max(worst, abs(ratio - 1))
                    said = f"{min(ratios):.2f} to {max(ratios):.2f}"
                    print(
                        f"{model:16s} {backend:8s} batch {batch:2d} threads {threads}: profile / script "
                        f"{ratio:.3f} ({said}; {last:.3f} ms)",
                        flush=True,
                    )
    return int(worst > 0.05)


if __name__ == "__main__":
    sys.exit(main())
