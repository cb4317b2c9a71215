"""Serving: load against bare FastAPI and bare gRPC, by processes, batching on AlexNet, start-up, and a soak.

Load comes from wrk where it is installed. Client and servers share this machine's cores; rounds are
interleaved, and each figure is the median round's (of a ratio: the median of what each round gives).
`python -m tests.benchmarks.bench_serving --rounds 3 --requests 2000 --soak 5000` is a short look.
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
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import psutil

from tests.benchmarks import load, wrk
from tests.benchmarks.wrk import Asked, Driven, drive
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


def json_request(port: int, path: str, rows: np.ndarray) -> Asked:
    tensor = {"name": "input", "shape": list(rows.shape), "datatype": "FP32"}
    data = [round(float(value), 6) for value in rows.ravel()]
    return Asked(port=port, path=path, body=json.dumps({"inputs": [{**tensor, "data": data}]}).encode())


def binary_request(port: int, path: str, rows: np.ndarray) -> Asked:
    tensor = {"name": "input", "shape": list(rows.shape), "datatype": "FP32"}
    inputs = [{**tensor, "parameters": {"binary_data_size": rows.nbytes}}]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    header = ("Inference-Header-Content-Length", str(len(head)))
    return Asked(port=port, path=path, body=head + rows.tobytes(), headers=(header,))


def compare(
    cases: dict[str, Asked], requests: int, connections: int = 16, rounds: int = ROUNDS
) -> dict[str, list[Driven]]:
    """Drive every case in turn, several rounds; the first round warms up and is left out."""
    drives = {
        name: lambda asked=asked: drive(asked, requests=requests, connections=connections)
        for name, asked in cases.items()
    }
    return in_turn(drives, rounds)


def in_turn(drives: dict[str, Callable[[], Driven]], rounds: int = ROUNDS) -> dict[str, list[Driven]]:
    found: dict[str, list[Driven]] = {name: [] for name in drives}
    for index in range(rounds + 1):
        for name, once in drives.items():
            driven = once()
            if driven.failures:
                raise RuntimeError(f"{name}: {driven.failures} requests failed")
            if index:
                found[name].append(driven)
    return found


def faster(these: list[Driven], those: list[Driven]) -> float:
    """Return the median of the rounds' own ratios of rates."""
    return statistics.median(a.rate / b.rate for a, b in zip(these, those, strict=True))


def show(found: dict[str, list[Driven]], against: str) -> None:
    base_p99 = statistics.median(x.p99_ms for x in found[against])
    for name, rounds in found.items():
        rate, p50, p99 = (
            statistics.median(getattr(x, what) for x in rounds) for what in ("rate", "p50_ms", "p99_ms")
        )
        line = f"{name:<34} {rate:8.0f} requests/s  p50 {p50:6.2f} ms  p99 {p99:6.2f} ms"
        print(f"{line}  {faster(rounds, found[against]):5.2f}× the rate, {p99 / base_p99:5.2f}× the p99")


def bench_load(root: Path, requests: int, rounds: int) -> None:
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
        client = "wrk" if wrk.available() else f"{requests} requests a round from Python"
        print(f"LeNet on ONNX Runtime, 16 connections, 784 floats, {client}")
        cases = {
            "bare FastAPI + orjson + ORT, JSON": json_request(bare, "/infer", rows),
            "cnnkit serve, JSON": json_request(ours, path, rows),
            "cnnkit serve, binary": binary_request(ours, path, rows),
        }
        found = compare(cases, requests, rounds=rounds)
        show(found, "bare FastAPI + orjson + ORT, JSON")
        ratio = faster(found["cnnkit serve, binary"], found["cnnkit serve, JSON"])
        print(f"binary against JSON: {ratio:.2f}×")
        print("a lone caller, one connection")
        lone = {
            "unbatched (--max-batch 1)": json_request(alone, path, rows),
            "batched": json_request(ours, path, rows),
        }
        show(compare(lone, requests // 4, connections=1, rounds=rounds), "unbatched (--max-batch 1)")


def bench_processes(root: Path, requests: int, rounds: int) -> None:
    rows = np.random.default_rng(0).random((1, 1, 28, 28), dtype=np.float32)
    path = f"/v2/models/{MODEL}/infer"
    one, two = free_port(), free_port()
    with (
        running(*serve(one, root, MODEL, "--no-page"), ready=answers(one, "/v2/health/ready")),
        running(
            *serve(two, root, MODEL, "--no-page", "--processes", "2"), ready=answers(two, "/v2/health/ready")
        ),
    ):
        print("JSON by processes, 16 connections")
        cases = {"1 process": json_request(one, path, rows), "2 processes": json_request(two, path, rows)}
        show(compare(cases, requests, rounds=rounds), "1 process")


def bench_grpc(root: Path, requests: int, rounds: int) -> None:
    if find_spec("grpc") is None:
        print("gRPC: not measured, grpcio is not installed (extra grpc)")
        return
    from serve.rpc.tensors import INFER, MESSAGES

    onnx = shipped_root() / MODEL / f"{MODEL}.onnx"
    rows = np.random.default_rng(0).random((1, 1, 28, 28), dtype=np.float32)
    message = MESSAGES[INFER][0](model_name=MODEL, raw_input_contents=[rows.tobytes()])
    message.inputs.add(name="input", datatype="FP32", shape=rows.shape)
    file = root / "message"
    file.write_bytes(message.SerializeToString())
    bare, http, ours = free_port(), free_port(), free_port()

    def over_grpc(port: int) -> Driven:
        command = ["tests.benchmarks.grpc_load", str(port), str(file), str(requests), "16"]
        done = subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True)
        return Driven(**json.loads(done.stdout))

    binary = binary_request(http, f"/v2/models/{MODEL}/infer", rows)
    with (
        running("tests.benchmarks.bare_grpc", str(onnx), str(bare), ready=listens(bare)),
        running(
            *serve(http, root, MODEL, "--no-page", "--grpc-port", str(ours)),
            ready=answers(http, "/v2/health/ready"),
        ),
    ):
        print(f"gRPC, 16 calls at once, {requests} requests a round from Python")
        drives = {
            "bare grpcio + ORT": lambda: over_grpc(bare),
            "cnnkit serve, gRPC": lambda: over_grpc(ours),
            "cnnkit serve, HTTP binary": lambda: drive(binary, requests=requests, connections=16),
        }
        show(in_turn(drives, min(rounds, 7)), "bare grpcio + ORT")


def listens(port: int) -> Callable[[], bool]:
    def ready() -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", port)) == 0

    return ready


def bench_batching(root: Path, requests: int, rounds: int) -> None:
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
            "unbatched (--max-batch 1)": binary_request(one, path, rows),
            "batched": binary_request(many, path, rows),
        }
        show(compare(cases, requests, rounds=rounds), "unbatched (--max-batch 1)")


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
        asked = binary_request(port, f"/v2/models/{MODEL}/infer", rows)
        request = load.http_request(port, asked.path, asked.body, *(": ".join(h) for h in asked.headers))
        process = psutil.Process(server.pid)
        load.drive(port, request, requests=max(2000, requests // 20))
        time.sleep(4)  # the look-out for newer artifacts starts its thread after two seconds
        before = (process.memory_info().rss, process.num_fds(), process.num_threads())
        found = load.drive(port, request, requests=requests)
        time.sleep(1)
        after = (process.memory_info().rss, process.num_fds(), process.num_threads())
    growth = (after[0] - before[0]) / 2**20
    print(
        f"soak: {requests} requests in {found.seconds:.0f} s, {found.failures} failed; "
        f"memory {growth:+.1f} MiB, files {after[1] - before[1]:+d}, threads {after[2] - before[2]:+d}"
    )
    return found.failures == 0 and after[0] - before[0] <= GROWTH_LIMIT and after[1:] <= before[1:]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--alexnet-requests", type=int, default=300)
    parser.add_argument("--soak", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="each case is driven so often, in turn")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        bench_start(root)
        bench_load(root, asked.requests // 5, asked.rounds)
        bench_processes(root, asked.requests // 5, asked.rounds)
        bench_grpc(root, asked.requests // 5, asked.rounds)
        bench_batching(root, asked.alexnet_requests // 5, asked.rounds)
        fine = bench_soak(root, asked.soak)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
