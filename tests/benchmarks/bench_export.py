"""Exports: time of the whole process, stored repeats, memory, engine sizes, and what int8 gains here.

Ratios are against references measured in the same run: a plain script that calls torch.onnx.export
and nothing else, the fp32 file in ONNX Runtime, eager PyTorch. AlexNet's weights are seeded and
untrained but for the accuracy of int8, which needs a trained alexnet under $CNNKIT_ARTIFACTS.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

PLAIN = """
import sys, warnings
warnings.simplefilter("ignore")
import torch
from safetensors.torch import load_file
from toolkit.backends import BACKENDS
from toolkit import zoo
module = zoo.model("alexnet").build(1, 10).eval()
module.load_state_dict(load_file(sys.argv[1]))
batch = {0: torch.export.Dim("batch")}
program = torch.onnx.export(module, (torch.zeros(2, 1, 224, 224),), dynamic_shapes=(batch,), verbose=False)
program.save(sys.argv[2])
"""
WINDOWS, WINDOW_SECONDS = 15, 0.15


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one process took: seconds, and the peak of its resident memory."""

    seconds: float
    peak_memory_bytes: int
    output: str


def run(*command: str) -> Cost:
    """Run a process to its end. Raises RuntimeError with its words when it fails."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = subprocess.Popen(command, stdout=out, stderr=err)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        out.seek(0)
        err.seek(0)
        if child.returncode:
            raise RuntimeError(f"{' '.join(command)}: {err.read().decode()[-2000:]}")
        return Cost(seconds=seconds, peak_memory_bytes=usage.ru_maxrss * 1024, output=out.read().decode())


def export(root: Path, *options: str) -> tuple[Cost, list[dict[str, Any]]]:
    """Run `cnnkit export alexnet` and return its cost and artifacts."""
    command = [sys.executable, "-m", "cnnkit", "export", "alexnet", "--untrained", "--json"]
    cost = run(*command, "--artifacts", str(root), *options)
    return cost, json.loads(cost.output)["artifacts"]


def times(root: Path) -> None:
    """Print the time of an export with its proofs, of a plain one and of the stored repeat."""
    export(root, "--format", "onnx", "--images", "1")  # writes the checkpoint, and warms the disk's cache
    weights = (root / "alexnet-untrained" / "alexnet-untrained.safetensors").stat().st_size
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = str(root / "alexnet-untrained" / "alexnet-untrained.safetensors")
        plain = run(sys.executable, "-c", PLAIN, checkpoint, f"{folder}/plain.onnx")
    cost, _ = export(root, "--fp16", "--images", "100", "--fresh")
    stored, made = export(root, "--fp16", "--images", "100")
    assert all(entry["cached"] for entry in made)
    ratio, limit = cost.seconds / plain.seconds, 4 * weights + 10**9
    print(f"export alexnet --fp16, 2 ONNX files and an engine, proven on 100 images: {cost.seconds:.1f} s")
    print(f"  a plain torch.onnx.export alone: {plain.seconds:.1f} s, ratio {ratio:.2f}")
    print(f"  the stored repeat: {stored.seconds:.2f} s, ratio {stored.seconds / cost.seconds:.3f}")
    peak, allowed = cost.peak_memory_bytes / 1e9, limit / 1e9
    print(f"  peak memory {peak:.2f} GB; 4 × weights + 1 GB are {allowed:.2f} GB")


def sizes(root: Path) -> dict[str, Path]:
    """Print the sizes of the engines; return the ONNX files by precision."""
    _, made = export(root, "--precision", "fp32,fp16,int8", "--images", "100", "--calibration-images", "64")
    engines = {e["precision"]: e["size_bytes"] for e in made if e["format"] == "trt"}
    print(f"engine of alexnet: fp32 {engines['fp32'] / 1e6:.0f} MB")
    for precision in ("fp16", "int8"):
        share = engines[precision] / engines["fp32"]
        print(f"  {precision} {engines[precision] / 1e6:.0f} MB, ratio {share:.3f}")
    files = [Path(e["path"]) for e in made if e["format"] == "onnx"]
    return {path.name.removeprefix("alexnet-untrained").split(".")[-2] or "fp32": path for path in files}


def speed(root: Path) -> None:
    """Print int8's speed on ONNX Runtime against fp32 there and against eager PyTorch, in turns."""
    from toolkit.artifacts import open_artifact
    from toolkit.backends import BACKENDS, EngineOptions

    folder = root / "alexnet-untrained"
    named = {
        "pytorch": ("pytorch", "alexnet-untrained.safetensors"),
        "fp32": ("ort", "alexnet-untrained.onnx"),
        "int8": ("ort", "alexnet-untrained.int8.onnx"),
    }
    batch = np.random.default_rng(0).standard_normal((1, 1, 224, 224)).astype(np.float32)
    quiet = EngineOptions(yields=True)
    engines = {k: BACKENDS.load(b).open(open_artifact(folder / f), quiet) for k, (b, f) in named.items()}
    found: dict[str, list[float]] = {name: [] for name in engines}
    for window in range(WINDOWS + 2):
        for name, engine in engines.items():
            count, start = 0, time.perf_counter()
            while time.perf_counter() - start < WINDOW_SECONDS:
                engine.run(batch)
                count += 1
            if window >= 2:  # the first two warm up
                found[name].append(1000 * (time.perf_counter() - start) / count)
    median = {name: statistics.median(values) for name, values in found.items()}
    print(f"alexnet batch 1 on the CPU: eager PyTorch {median['pytorch']:.2f} ms")
    for name in ("fp32", "int8"):
        print(f"  ONNX Runtime {name} {median[name]:.2f} ms, ratio {median['pytorch'] / median[name]:.2f}")
    print(f"  int8 against fp32 in ONNX Runtime: ratio {median['fp32'] / median['int8']:.2f}")


def accuracy() -> None:
    """Print the accuracy that int8 costs a trained alexnet, where there is one."""
    command = [sys.executable, "-m", "cnnkit", "export", "alexnet", "--int8", "--format", "onnx", "--json"]
    done = subprocess.run([*command, "--images", "all"], capture_output=True, text=True, check=False)
    if not done.stdout:
        print("accuracy of alexnet in int8: not measured, no trained alexnet here (`cnnkit train alexnet`)")
        return
    payload = json.loads(done.stdout)
    for missed in payload["failed"]:
        print(f"accuracy of alexnet in int8: {missed['reason']}")
    for entry in payload["artifacts"]:
        parity = entry["parity"]
        change = 100 * (parity["accuracy_change"] or 0.0)
        print(
            f"alexnet {entry['precision']}: accuracy {parity['accuracy']:.4f} on {parity['images']} test "
            f"images, {change:+.2f} points against PyTorch"
        )


def main() -> None:
    """Run all four; nothing of it stays."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        times(root)
        sizes(root)
        speed(root)
    accuracy()


if __name__ == "__main__":
    main()
