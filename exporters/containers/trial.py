"""The server's own command line tried on this machine: it answers the proof, and is measured meanwhile."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from exporters.containers.asking import AskedServer
from exporters.containers.command import ServerCommand
from exporters.proving.proof import Proof, Verdict, check_proof, proof_inputs, read_proof
from toolkit.answering import filled
from toolkit.artifacts import Artifact
from toolkit.errors import CnnkitError, UnavailableError
from toolkit.processes import child

# `none` leaves the trial out
NAMED = "CNNKIT_TRIAL"
NOBODY = "none"
START_S = 300.0
LOAD_S = 1.0
END_S = 20.0
CALLERS = 4


@dataclass(frozen=True, kw_only=True)
class ServerUsage:
    """What the server's process took while CALLERS asked without pause: its largest memory, its cores.

    `rows_per_second` is what it answered meanwhile, in requests of `rows`.
    """

    memory_bytes: int
    cores: float
    rows: int
    rows_per_second: float


@dataclass(frozen=True, kw_only=True)
class ServerTrial:
    """How a server answered its proof over HTTP, and what it took; None where the system does not tell."""

    verdict: Verdict
    usage: ServerUsage | None


def wanted() -> bool:
    """Tell whether servers are tried, which $CNNKIT_TRIAL may forbid."""
    return os.environ.get(NAMED, "").strip() != NOBODY


def trial(artifact: Artifact, command: ServerCommand) -> ServerTrial:
    """Start the server over the folder that an artifact lies in; have it answer the proof, then measure it.

    Raises UnavailableError where the server's packages are not here, GateError for wrong answers,
    CnnkitError where it does not start, NotFoundError where there is no proof.
    """
    proof = read_proof(artifact)
    local = replace(
        command, models=artifact.path.parent, host="127.0.0.1", http_port=0, grpc_port=0, stop_delay_s=0
    )
    with started(local.words) as (process, port), AskedServer(artifact, port) as server:
        verdict = check_proof(server, proof).require()
        return ServerTrial(verdict=verdict, usage=_usage(server, proof, process.pid))


@contextlib.contextmanager
def started(words: list[str], python: str = sys.executable) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run a server until the block ends; yield its process and the port that it says it listens on."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with child([python, "-m", "cnnkit", *words], grace_s=END_S, text=True, **pipes) as process:
        late = threading.Timer(START_S, process.kill)
        late.start()
        try:
            port = _port(process)
        finally:
            late.cancel()
        yield process, port


def _port(process: subprocess.Popen[str]) -> int:
    assert process.stderr is not None
    said: deque[str] = deque(maxlen=20)
    for line in process.stderr:
        found = re.match(r"serving .* on http://[^ ]*:(\d+)", line)
        if found:
            return int(found[1])
        said.append(line.strip())
    last = said[-1].removeprefix("error: ") if said else f"it said nothing for {START_S:.0f} s"
    kind = UnavailableError if process.wait() == UnavailableError.exit_status else CnnkitError
    raise kind(f"the server does not start: {last}")


def _usage(server: AskedServer, proof: Proof, pid: int) -> ServerUsage | None:
    status, cpu = Path(f"/proc/{pid}/status"), Path(f"/proc/{pid}/stat")
    if not status.exists():
        return None
    least, most = server.batch_sizes
    rows = filled(proof_inputs(server.artifact.passport, proof)[:most], least)
    before, begun = _cpu_s(cpu), time.perf_counter()
    end = begun + LOAD_S

    def ask() -> int:
        count = 0
        while time.perf_counter() < end:
            server.run(rows)
            count += 1
        return count

    with ThreadPoolExecutor(CALLERS) as pool:
        asked = sum(pool.map(lambda _: ask(), range(CALLERS)))
    seconds = time.perf_counter() - begun
    peak = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
    assert peak is not None
    return ServerUsage(
        memory_bytes=int(peak[1]) * 1024,
        cores=(_cpu_s(cpu) - before) / seconds,
        rows=len(rows),
        rows_per_second=asked * len(rows) / seconds,
    )


def _cpu_s(stat: Path) -> float:
    # the program's name, in brackets, may hold spaces
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
