"""Serving: load against a bare FastAPI endpoint in the same run, batching on AlexNet, start-up, and a soak.

Client and servers share this machine's cores; rounds are interleaved, and each figure is the median round's
(of a ratio: the median of what each round gives).
`python -m tests.benchmarks.bench_serving --requests 2000 --soak 5000` is a short look.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil

from tests.benchmarks.load import Load, drive, http_request
from toolkit.artifacts import shipped_root

MODEL = "lenet-maxpool"
# a shared machine's speed changes by a third for a second or two: short rounds, each a comparison of its own
ROUNDS = 25
GROWTH_LIMIT = 20 * 2**20
READY_S = 120


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def running(*command: str, ready: Callable[[], bool]) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """Run a Python command until the block ends; yield it and the seconds until it was ready."""
    settings = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", *command], env=settings, stderr=subprocess.DEVNULL)
    try:
        while not ready():
            if process.poll() is not None or time.perf_counter() - start > READY_S:
                raise RuntimeError(f"{' '.join(command)} did not get ready")
            time.sleep(0.01)
        yield process, time.perf_counter() - start
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def answers(port: int, path: str) -> Callable[[], bool]:
    def ready() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    return ready


def serve(port: int, root: Path, model: str, *args: str) -> tuple[str, ...]:
    return ("cnnkit", "serve", model, "--port", str(port), "--artifacts", str(root), *args)


def json_request(port: int, path: str, rows: np.ndarray) -> bytes:
    tensor = {"name": "input", "shape": list(rows.shape), "datatype": "FP32"}
    data = [round(float(value), 6) for value in rows.ravel()]
    return http_request(port, path, json.dumps({"inputs": [{**tensor, "data": data}]}).encode())


def binary_request(port: int, path: str, rows: np.ndarray) -> bytes:
    tensor = {"name": "input", "shape": list(rows.shape), "datatype": "FP32"}
    inputs = [{**tensor, "parameters": {"binary_data_size": rows.nbytes}}]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    header = f"Inference-Header-Content-Length: {len(head)}"
    return http_request(port, path, head + rows.tobytes(), header)


def middle(loads: list[Load]) -> tuple[float, float]:
    """Return the median round's rate and the median of the rounds' p99."""
    return statistics.median(x.rate for x in loads), statistics.median(x.percentile(0.99) for x in loads)


def compare(
    cases: dict[str, tuple[int, bytes]], requests: int, connections: int = 16
) -> dict[str, list[Load]]:
    """Drive every case in turn, several rounds; the first round warms up and is left out."""
    found: dict[str, list[Load]] = {name: [] for name in cases}
    for index in range(ROUNDS + 1):
        for name, (port, request) in cases.items():
            load = drive(port, request, requests=requests, connections=connections)
            if load.failures:
                raise RuntimeError(f"{name}: {load.failures} requests failed")
            if index:
                found[name].append(load)
    return found


def faster(these: list[Load], those: list[Load]) -> float:
    """Return the median of the rounds' own ratios of rates."""
    return statistics.median(a.rate / b.rate for a, b in zip(these, those, strict=True))


def show(found: dict[str, list[Load]], against: str) -> None:
    _, base_p99 = middle(found[against])
    for name, loads in found.items():
        rate, p99 = middle(loads)
        p50 = statistics.median(x.median_ms for x in loads)
        line = f"{name:<34} {rate:8.0f} requests/s  p50 {p50:6.2f} ms  p99 {p99:6.2f} ms"
        print(f"{line}  {faster(loads, found[against]):5.2f}× the rate, {p99 / base_p99:5.2f}× the p99")


def bench_load(root: Path, requests: int) -> None:
    onnx = shipped_root() / MODEL / f"{MODEL}.onnx"
    rows = np.random.default_rng(0).random((1, 1, 28, 28), dtype=np.float32)
    bare, ours, alone = free_port(), free_port(), free_port()
    path = f"/v2/models/{MODEL}/infer"
    with (
        running("tests.benchmarks.bare_fastapi", str(onnx), str(bare), ready=answers(bare, "/openapi.json")),
        running(*serve(ours, root, MODEL, "--no-page"), ready=answers(ours, "/v2/health/ready")),
        running(
            *serve(alone, root, MODEL, "--no-page", "--max-batch", "1"),
            ready=answers(alone, "/v2/health/ready"),
        ),
    ):
        print(f"LeNet on ONNX Runtime, 16 connections, 784 floats, {requests} requests a round")
        cases = {
            "bare FastAPI + orjson + ORT, JSON": (bare, json_request(bare, "/infer", rows)),
            "cnnkit serve, JSON": (ours, json_request(ours, path, rows)),
            "cnnkit serve, binary": (ours, binary_request(ours, path, rows)),
        }
        found = compare(cases, requests)
        show(found, "bare FastAPI + orjson + ORT, JSON")
        ratio = faster(found["cnnkit serve, binary"], found["cnnkit serve, JSON"])
        print(f"binary against JSON: {ratio:.2f}×")
        print("a lone caller, one connection")
        lone = {
            "unbatched (--max-batch 1)": (alone, json_request(alone, path, rows)),
            "batched": (ours, json_request(ours, path, rows)),
        }
        show(compare(lone, requests // 4, connections=1), "unbatched (--max-batch 1)")


def bench_batching(root: Path, requests: int) -> None:
    export = ("export", "alexnet", "--untrained", "--format", "onnx", "--artifacts", str(root))
    subprocess.run([sys.executable, "-m", "cnnkit", *export], check=True, stderr=subprocess.DEVNULL)
    rows = np.random.default_rng(0).random((1, 1, 224, 224), dtype=np.float32)
    one, many = free_port(), free_port()
    path = "/v2/models/alexnet-untrained/infer"
    with (
        running(
            *serve(one, root, "alexnet", "--untrained", "--no-page", "--max-batch", "1"),
            ready=answers(one, "/v2/health/ready"),
        ),
        running(
            *serve(many, root, "alexnet", "--untrained", "--no-page"), ready=answers(many, "/v2/health/ready")
        ),
    ):
        print(f"AlexNet 1×224×224 on ONNX Runtime, 16 callers, binary, {requests} requests a round")
        cases = {
            "unbatched (--max-batch 1)": (one, binary_request(one, path, rows)),
            "batched": (many, binary_request(many, path, rows)),
        }
        show(compare(cases, requests), "unbatched (--max-batch 1)")


def bench_start(root: Path) -> None:
    for name, args in (("--no-page", ("--no-page",)), ("with the page", ())):
        seconds = []
        for _ in range(3):
            port = free_port()
            with running(*serve(port, root, MODEL, *args), ready=answers(port, "/v2/health/ready")) as (_, s):
                seconds.append(s)
        print(f"start to ready, {name}: median {statistics.median(seconds):.2f} s of {len(seconds)}")


def bench_soak(root: Path, requests: int) -> bool:
    rows = np.random.default_rng(0).random((1, 1, 28, 28), dtype=np.float32)
    port = free_port()
    with running(*serve(port, root, MODEL, "--no-page"), ready=answers(port, "/v2/health/ready")) as (
        server,
        _,
    ):
        request = binary_request(port, f"/v2/models/{MODEL}/infer", rows)
        process = psutil.Process(server.pid)
        drive(port, request, requests=max(2000, requests // 20))
        time.sleep(4)  # the look-out for newer artifacts starts its thread after two seconds
        before = (process.memory_info().rss, process.num_fds(), process.num_threads())
        load = drive(port, request, requests=requests)
        time.sleep(1)
        after = (process.memory_info().rss, process.num_fds(), process.num_threads())
    growth = (after[0] - before[0]) / 2**20
    print(
        f"soak: {requests} requests in {load.seconds:.0f} s, {load.failures} failed; "
        f"memory {growth:+.1f} MiB, files {after[1] - before[1]:+d}, threads {after[2] - before[2]:+d}"
    )
    return load.failures == 0 and after[0] - before[0] <= GROWTH_LIMIT and after[1:] <= before[1:]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--alexnet-requests", type=int, default=300)
    parser.add_argument("--soak", type=int, default=200_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        bench_start(root)
        bench_load(root, asked.requests // 5)
        bench_batching(root, asked.alexnet_requests // 5)
        fine = bench_soak(root, asked.soak)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
