"""Where a server runs: what Ray's proxies cost beside direct serving, and what fails when parts die.

`--part python`, `haproxy` and `soak` run one part alone. Direct serving and `--processes 2` are driven in
turn with two replicas on Ray, in the same rounds. The soak asks two replicas on two nodes of one machine
while a replica is killed every 5 s, an artifact is replaced twice and a node removed once.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests.benchmarks.bench_serving import (
    MODEL,
    answers,
    binary_request,
    compare,
    free_port,
    json_request,
    running,
    serve,
    show,
)
from toolkit.artifacts import hash_file, now, open_artifact, read_passport, shipped_root, sidecar, write_json
from toolkit.backends import BACKENDS, DEFAULT_BACKEND, EngineOptions

HAPROXY = "RAY_SERVE_ENABLE_HA_PROXY"
ALEXNET = "alexnet-untrained"
KILL_EVERY_S = 5.0
CALLERS = 8
INPUTS = 16
TRIES = 100


@contextlib.contextmanager
def proxy(haproxy: bool) -> Iterator[None]:
    """Have a Ray that begins inside take its proxy of Python, or HAProxy."""
    # a folder of its own, so that no other Ray of this machine is taken for the one to be used
    with tempfile.TemporaryDirectory(prefix="ray") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv(HAPROXY, "1" if haproxy else "0")
        patch.setenv("RAY_TMPDIR", folder)
        yield


def bench_proxy(root: Path, haproxy: bool, requests: int, rounds: int) -> None:
    """Drive direct serving, two processes and two replicas behind one of Ray's proxies, in turn."""
    name = "HAProxy" if haproxy else "Ray's proxy of Python"
    lenet = np.random.default_rng(0).random((1, 1, 28, 28), dtype=np.float32)
    alexnet = np.random.default_rng(0).random((1, 1, 224, 224), dtype=np.float32)
    direct, two, hosted = free_port(), free_port(), free_port()
    options = ("--no-page", "--threads", "1")
    commands = {
        direct: options,
        two: (*options, "--processes", "2"),
        hosted: (*options, "--on", "ray", "--replicas", "2"),
    }
    names = {direct: "one process", two: "--processes 2", hosted: f"two replicas, {name}"}
    exported = root / ALEXNET / f"{ALEXNET}.onnx"
    with proxy(haproxy), contextlib.ExitStack() as stack:
        for port, more in commands.items():
            command = serve(port, root, MODEL, str(exported), *more)
            stack.enter_context(running(*command, ready=answers(port, "/v2/health/ready")))
        for title, model, rows, asked, count in (
            ("LeNet, JSON", MODEL, lenet, json_request, requests),
            ("LeNet, binary", MODEL, lenet, binary_request, requests),
            ("AlexNet 1×224×224, binary", ALEXNET, alexnet, binary_request, max(32, requests // 20)),
        ):
            print(f"{title}, 16 connections, one thread an engine")
            cases = {names[port]: asked(port, f"/v2/models/{model}/infer", rows) for port in commands}
            show(compare(cases, count, rounds=rounds), names[direct])


@dataclass(kw_only=True)
class Tally:
    """What callers saw: `failures` are the times at which each failed request began and ended."""

    answered: int = 0
    wrong: int = 0
    retried: int = 0
    failures: list[tuple[float, float]] = field(default_factory=list)


class Callers:
    """Threads that ask until so many requests were made; each answer is held against what versions answer."""

    def __init__(self, port: int, requests: int, right: list[np.ndarray[Any, Any]], tries: int) -> None:
        self.port, self.left, self.right, self.tries = port, requests, right, tries
        self.rows = inputs()
        self.tally, self.lock = Tally(), threading.Lock()

    def run(self) -> None:
        threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(CALLERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _take(self) -> bool:
        with self.lock:
            self.left -= 1
            return self.left >= 0

    def _ask(self, number: int) -> None:
        connection: http.client.HTTPConnection | None = None
        while self._take():
            number = (number + 1) % INPUTS
            begun = time.monotonic()
            connection, found = self._once(connection, number)
            again = 0
            while found is None and again < self.tries - 1:
                time.sleep(0.05)
                connection, found = self._once(connection, number)
                again += 1
            with self.lock:
                self.tally.retried += again > 0
                if found is None:
                    self.tally.failures.append((begun, time.monotonic()))
                    continue
                self.tally.answered += 1
                fits = any(np.allclose(found, one[number], rtol=1e-4, atol=1e-4) for one in self.right)
                self.tally.wrong += not fits

    def _once(
        self, connection: http.client.HTTPConnection | None, number: int
    ) -> tuple[http.client.HTTPConnection | None, np.ndarray[Any, Any] | None]:
        asked = binary_request(self.port, f"/v2/models/{MODEL}/infer", self.rows[number][None])
        made = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            made.request("POST", asked.path, asked.body, dict(asked.headers))
            reply = made.getresponse()
            body = reply.read()
        except (OSError, http.client.HTTPException):
            made.close()
            return None, None
        if reply.status != 200:
            return made, None
        at = int(reply.headers["Inference-Header-Content-Length"])
        return made, np.frombuffer(body[at:], np.float32)


def inputs() -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(1).random((INPUTS, 1, 28, 28), dtype=np.float32)


def answered_by(path: Path) -> np.ndarray[Any, Any]:
    with BACKENDS.load(DEFAULT_BACKEND).open(open_artifact(path), EngineOptions(threads=1)) as engine:
        return np.asarray(engine.logits(inputs()))


def other_version(root: Path) -> Path:
    """Return a graph of the same shape with other weights, untrained ones, made ready to take the place."""
    export = (
        "export",
        MODEL,
        "--untrained",
        "--format",
        "onnx",
        "--images",
        "8",
        "--artifacts",
        str(root / "other"),
    )
    subprocess.run([sys.executable, "-m", "cnnkit", *export], check=True, capture_output=True)
    return root / "other" / f"{MODEL}-untrained" / f"{MODEL}-untrained.onnx"


def roll(path: Path, to: Path) -> None:
    """Put another graph in an artifact's place, as an export does: file first, then its passport."""
    known = replace(read_passport(path), sha256=hash_file(to), created=now())
    part = path.with_name(f".{path.name}.part")
    shutil.copy(to, part)
    part.replace(path)
    write_json(sidecar(path), known.to_json())


@dataclass(kw_only=True)
class Troubles:
    """When parts were taken away, by kind."""

    kills: list[float] = field(default_factory=list)
    rolls: list[float] = field(default_factory=list)
    removals: list[float] = field(default_factory=list)

    def near(self, begun: float, ended: float, spare_s: float) -> bool:
        return any(begun <= at + spare_s and at <= ended for at in (*self.kills, *self.removals))


def bench_soak(root: Path, requests: int, tries: int) -> bool:
    """Ask two replicas on two nodes of this machine while parts of them are taken away."""
    # else replicas go on for 30 s once they are to end
    os.environ.setdefault("RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S", "1")
    from ray.cluster_utils import Cluster

    placed = root / "served" / MODEL
    placed.mkdir(parents=True)
    own = shipped_root() / MODEL / f"{MODEL}.onnx"
    for file in (own, sidecar(own)):
        shutil.copy(file, placed / file.name)
    graph, versions = placed / own.name, (own, other_version(root))
    right = [answered_by(one) for one in versions]
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second, port, troubles = cluster.add_node(num_cpus=1), free_port(), Troubles()
    try:
        place = ("--on", f"ray:{cluster.address}", "--replicas", "2")
        command = serve(port, placed.parent, MODEL, "--no-page", "--threads", "1", *place)
        with running(*command, ready=answers(port, "/v2/health/ready")):
            callers = Callers(port, requests, right, tries)
            asking = threading.Thread(target=callers.run)
            begun = time.monotonic()
            asking.start()
            # Ray begins nodes in the main thread alone
            _trouble(asking, callers, requests, troubles, graph, versions, cluster, second)
            seconds = time.monotonic() - begun
            tally = callers.tally
            apart = [one for one in tally.failures if not troubles.near(*one, spare_s=1.0)]
            client = "a client without retries" if tries == 1 else "a client that retries"
            taken = (f"{len(times)} {what}" for what, times in vars(troubles).items())
            print(
                f"soak, {client}: {requests} requests in {seconds:.0f} s, {', '.join(taken)}: "
                f"{tally.wrong} wrong, {len(tally.failures)} failed ({len(apart)} of them not within a "
                f"second of a kill), {tally.retried} tried again"
            )
            return tally.wrong == 0 and not apart and (tries == 1 or not tally.failures)
    finally:
        cluster.shutdown()


def _trouble(
    asking: threading.Thread,
    callers: Callers,
    requests: int,
    troubles: Troubles,
    graph: Path,
    versions: tuple[Path, Path],
    cluster: Any,
    second: Any,
) -> None:
    while asking.is_alive():
        asking.join(KILL_EVERY_S)
        done = 1 - max(0, callers.left) / requests
        if len(troubles.rolls) < 2 and done > (0.25, 0.75)[len(troubles.rolls)]:
            roll(graph, versions[1 - len(troubles.rolls)])
            troubles.rolls.append(time.monotonic())
        if not troubles.removals and done > 0.5:
            troubles.removals.append(time.monotonic())
            cluster.remove_node(second, allow_graceful=False)
            cluster.add_node(num_cpus=1)
            continue
        found = replica_processes()
        if len(found) == 2:  # one answers, so that nothing but what is at work in the other may fail
            troubles.kills.append(time.monotonic())
            found[len(troubles.kills) % 2].send_signal(signal.SIGKILL)


def replica_processes() -> list[psutil.Process]:
    return [
        one
        for one in psutil.process_iter(["cmdline"])
        if any("ServeReplica:cnnkit:api" in word for word in one.info["cmdline"] or ())
    ]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--part", choices=("python", "haproxy", "soak"))
    parser.add_argument("--requests", type=int, default=2_000, help="a round, where wrk is not installed")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--soak", type=int, default=20_000)
    parser.add_argument("--retry", action="store_true", help="the soak's client tries again")
    asked = parser.parse_args()
    fine = True
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if asked.part != "soak":
            export = ("export", "alexnet", "--untrained", "--format", "onnx", "--artifacts", str(root))
            subprocess.run([sys.executable, "-m", "cnnkit", *export], check=True, capture_output=True)
        for part, haproxy in (("python", False), ("haproxy", True)):
            if asked.part in (None, part):
                bench_proxy(root, haproxy, asked.requests, asked.rounds)
        if asked.part in (None, "soak"):
            fine = bench_soak(root, asked.soak, TRIES if asked.retry else 1)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
