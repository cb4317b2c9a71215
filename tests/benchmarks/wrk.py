"""Load by wrk where it is installed, else by `load`: one request again and again, what came of it.

wrk takes a tenth of the cores that a client in Python takes, which shares them with the server.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import load

# Lua's own way of writing what may hold any byte
SCRIPT = """
wrk.method = "POST"
wrk.body = "{body}"
{headers}
function done(summary, latency, requests)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format('{{"answers": %d, "seconds": %f, "failures": %d, "p50_us": %f, "p99_us": %f}}\\n',
    summary.requests, summary.duration / 1e6, failed, latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request, sent again and again."""

    port: int
    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Driven:
    """What one round came to."""

    rate: float
    p50_ms: float
    p99_ms: float
    failures: int


def available() -> bool:
    """Tell whether wrk is installed."""
    return shutil.which("wrk") is not None


def drive(asked: Asked, *, requests: int, connections: int) -> Driven:
    """Send the request over some connections: for a second by wrk, else so many times."""
    if available():
        return _by_wrk(asked, connections)
    headers = [f"{name}: {value}" for name, value in asked.headers]
    request = load.http_request(asked.port, asked.path, asked.body, *headers)
    found = load.drive(asked.port, request, requests=requests, connections=connections)
    return Driven(
        rate=found.rate, p50_ms=found.median_ms, p99_ms=found.percentile(0.99), failures=found.failures
    )


def _by_wrk(asked: Asked, connections: int) -> Driven:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "asked.lua"
        headers = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in asked.headers)
        script.write_text(SCRIPT.format(body=_lua(asked.body), headers=headers))
        command = ["wrk", "-t1", f"-c{connections}", "-d1s", "-s", str(script)]
        done = subprocess.run(
            [*command, f"http://127.0.0.1:{asked.port}{asked.path}"],
            capture_output=True,
            text=True,
            check=True,
        )
    found = json.loads(done.stdout.splitlines()[-1])
    return Driven(
        rate=found["answers"] / found["seconds"],
        p50_ms=found["p50_us"] / 1e3,
        p99_ms=found["p99_us"] / 1e3,
        failures=found["failures"],
    )


def _lua(data: bytes) -> str:
    return "".join(f"\\{byte:03d}" for byte in data)
