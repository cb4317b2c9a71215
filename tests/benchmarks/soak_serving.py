"""A soak of the server: minutes of every kind of request, polite and rude, while its memory is drawn.

`python -m tests.benchmarks.soak_serving --minutes 30 --out build/soak` writes `soak.csv` (seconds, answers,
MiB and open files of each process) and `soak.png`, and fails where memory grows from the second quarter to
the last. It is no benchmark of `make bench`, being longer than all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import http.client
import json
import socket
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from tests.benchmarks.bench_serving import MODEL, answers, free_port, running, serve
from tests.serve.conftest import png, tensor

GROWTH_MIB = 32.0
EVERY_S = 1.0
INFER = f"/v2/models/{MODEL}/infer"


@dataclass
class Counted:
    """What the callers did so far."""

    answers: int = 0
    unexpected: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)


def polite(port: int, counted: Counted) -> None:
    """Ask all kinds of things over kept connections."""
    one = np.random.default_rng(0).random((1, 1, 28, 28), dtype=np.float32)
    asks = [
        ("POST", INFER, json.dumps({"inputs": [tensor(one)]}).encode(), 200),
        ("POST", INFER, json.dumps({"inputs": [tensor(np.repeat(one, 200, axis=0))]}).encode(), 200),
        ("POST", "/v1/classify", png(), 200),
        ("POST", "/v1/classify", b"no picture", 415),
        ("POST", INFER, b"{", 400),
        ("GET", "/v2/models/none", None, 404),
        ("GET", "/metrics", None, 200),
        ("GET", "/openapi.json", None, 200),
    ]
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        while not counted.stop.is_set():
            for method, path, body, status in asks:
                connection.request(method, path, body=body)
                reply = connection.getresponse()
                reply.read()
                counted.answers += 1
                if reply.status not in (status, 429):
                    counted.unexpected.append(f"{method} {path}: {reply.status}")


def rude(port: int, counted: Counted) -> None:
    """Hang up in the middle, send what is no HTTP, leave pipelined answers unread."""
    head = f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000\r\n\r\n".encode()
    pipelined = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20
    sends = [head, head + b"x" * 40_000, b"garbage\r\n\r\n", pipelined, b""]
    while not counted.stop.is_set():
        for data in sends:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 10) as sock:
                sock.sendall(data)
                time.sleep(0.02)


def measured(server: psutil.Process) -> list[tuple[float, int]]:
    """Return MiB and open files of the server's processes."""
    found = []
    for process in (server, *server.children()):
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append((process.memory_info().rss / 2**20, process.num_fds()))
    return found


def draw(rows: list[list[float]], out: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 4), layout="constrained")
    for at in range(2, min(map(len, rows)), 2):
        axes.plot([row[0] / 60 for row in rows], [row[at] for row in rows], label=f"process {(at - 2) // 2}")
    axes.set(
        xlabel="minutes", ylabel="MiB", ylim=(0, None), title=f"cnnkit serve, {rows[-1][1]:,.0f} answers"
    )
    axes.legend()
    figure.savefig(out / "soak.png", dpi=120)


def grown_mib(rows: list[list[float]]) -> float:
    """Return what memory, all processes together, gained from the second quarter to the last one."""
    together = [sum(row[2::2]) for row in rows]
    quarter = max(1, len(rows) // 4)
    return float(np.median(together[-quarter:]) - np.median(together[quarter : 2 * quarter]))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("build/soak"))
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    port, counted, rows = free_port(), Counted(), []
    with tempfile.TemporaryDirectory() as folder:
        command = serve(port, Path(folder), MODEL, "--no-page", "--processes", str(asked.processes))
        with running(*command, ready=answers(port, "/v2/health/ready")) as (server, _):
            process = psutil.Process(server.pid)
            callers = [threading.Thread(target=work, args=(port, counted)) for work in (polite, polite, rude)]
            for caller in callers:
                caller.start()
            start = time.monotonic()
            while (passed := time.monotonic() - start) < asked.minutes * 60:
                rows.append([passed, counted.answers, *(n for pair in measured(process) for n in pair)])
                time.sleep(EVERY_S)
            counted.stop.set()
            for caller in callers:
                caller.join()
    with (asked.out / "soak.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    draw(rows, asked.out)
    growth = grown_mib(rows)
    print(
        f"{counted.answers:,} answers in {asked.minutes:g} minutes, {len(counted.unexpected)} unexpected "
        f"{counted.unexpected[:3]}; memory {growth:+.1f} MiB from the second quarter to the last: "
        f"{asked.out / 'soak.png'}"
    )
    return 0 if not counted.unexpected and growth < GROWTH_MIB else 1


if __name__ == "__main__":
    sys.exit(main())
