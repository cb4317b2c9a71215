"""Real servers in processes of their own, on free ports of this machine, ended after the tests."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from toolkit import backends
from toolkit.artifacts import shipped_root
from toolkit.backends import BACKENDS

# a server that cannot begin ends, so a long time costs none; beside other work one took over a minute
READY_S, ENDED_S = 240.0, 30.0
MODEL = "lenet-maxpool"

# Runs the command line with the network denied: an attempt to leave this machine is noted and fails.
DENIED = """
import ipaddress, sys
from cnnkit import front_door
log = sys.argv.pop(1)
def loopback(host):
    try:
        return host in (None, "", "localhost") or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
def deny(event, args):
    if event == "socket.getaddrinfo":
        host = args[0].decode() if isinstance(args[0], bytes) else args[0]
    elif event in ("socket.connect", "socket.sendto") and isinstance(args[1], tuple):
        host = args[1][0]
    else:
        return
    if not loopback(host):
        with open(log, "a") as file:
            print(event, host, file=file)
        raise OSError(f"{host} is outside")
sys.addaudithook(deny)
front_door.main()
"""


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(kw_only=True)
class Server:
    process: subprocess.Popen[str]
    url: str
    port: int
    log: str = ""
    said: str = ""
    unread: bytes = b""
    grpc_port: int = 0

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | dict[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body=data, headers=dict(headers or {}))
            reply = connection.getresponse()
            found = {name.lower(): value for name, value in reply.getheaders()}
            return Answer(status=reply.status, headers=found, body=reply.read())
        finally:
            connection.close()

    def infer(self, request: dict[str, Any]) -> Answer:
        return self.ask("POST", f"/v2/models/{MODEL}/infer", request)

    def read_line(self, pattern: str, seconds: float = READY_S) -> str:
        """Return the next line on the server's stderr that matches; fail with what came instead."""
        assert self.process.stderr is not None
        before = len(self.said)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            line, newline, rest = self.unread.partition(b"\n")
            if newline:
                self.unread, text = rest, f"{line.decode()}\n"
                self.said += text
                if re.search(pattern, text):
                    return text
            # the descriptor itself: lines in a buffer of Python's are none that select can see
            elif select.select([self.process.stderr], [], [], 0.2)[0]:
                got = os.read(self.process.stderr.fileno(), 65536)
                if not got:
                    break
                self.unread += got
        raise AssertionError(f"no {pattern!r} from the server: {self.said[before:]}{self.unread.decode()}")


@contextlib.contextmanager
def serving(
    root: Path,
    *args: str,
    denied: Path | None = None,
    limits: str | None = None,
    env: Mapping[str, str] | None = None,
    stdout: Path | None = None,
    ready_s: float = READY_S,
    ended_s: float = ENDED_S,
) -> Iterator[Server]:
    """Run `cnnkit serve` until the block ends; with `denied`, note there whoever it tried to reach.

    `limits` is an option of prlimit that the process runs under; `stdout` keeps what it prints.
    """
    start = ["-c", DENIED, str(denied)] if denied else ["-m", "cnnkit"]
    command = [sys.executable, *start, "serve", "--port", "0", "--artifacts", str(root), *args]
    command = ["prlimit", limits, *command] if limits else command
    settings = {**(env or os.environ), "CUDA_VISIBLE_DEVICES": ""}
    with contextlib.ExitStack() as files:
        out = files.enter_context(stdout.open("w")) if stdout else None
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.PIPE, text=True, bufsize=1, env=settings, cwd=root
        )
    server = Server(process=process, url="", port=0)
    try:
        line = server.read_line(r"serving .* on http", ready_s)
        server.url = re.search(r"http://\S+", line)[0]  # type: ignore[index]
        server.port = int(server.url.rpartition(":")[2])
        server.grpc_port = int((re.search(r"gRPC on port (\d+)", line) or "0" * 2)[1])
        yield server
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(ended_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stderr is not None:
            server.log = server.unread.decode() + process.stderr.read()
            process.stderr.close()


@pytest.fixture(scope="session")
def shipped() -> Path:
    path = shipped_root() / MODEL / f"{MODEL}.onnx"
    if not path.is_file():
        pytest.skip(f"{path.name} does not ship in this checkout")
    return path


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return the backend of `backends/counting.py`, found by the catalog as any other file of its folder."""
    monkeypatch.setattr(backends, "__path__", [*backends.__path__, str(Path(__file__).parent / "backends")])
    monkeypatch.setattr(backends.__spec__, "submodule_search_locations", backends.__path__)
    yield BACKENDS.load("counting")
    del sys.modules["toolkit.backends.counting"]


@pytest.fixture(scope="session")
def api(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a running `cnnkit serve --no-page` of the network that ships.

    $CNNKIT_TEST_API is the port of one that another test hosts elsewhere.
    """
    elsewhere = os.environ.get("CNNKIT_TEST_API")
    if elsewhere:
        with subprocess.Popen([sys.executable, "-c", ""], text=True) as ended:
            yield Server(process=ended, url=f"http://127.0.0.1:{elsewhere}", port=int(elsewhere))
        return
    with serving(tmp_path_factory.mktemp("api"), MODEL, "--no-page") as server:
        yield server


@pytest.fixture(scope="session")
def page(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a running `cnnkit serve` of the network that ships, page and all, with the network denied."""
    pytest.importorskip("gradio", reason="Gradio is not installed (extra page)")
    denied = tmp_path_factory.mktemp("denied") / "log"
    with serving(tmp_path_factory.mktemp("page"), MODEL, denied=denied) as server:
        yield server
    assert not denied.exists(), denied.read_text()


@pytest.fixture(scope="session")
def axe(pytestconfig: pytest.Config) -> str:
    """Return the source of axe-core, which looks for what keeps people out; npm brings it once."""
    folder = pytestconfig.cache.mkdir("axe-core")  # type: ignore[union-attr]
    script = folder / "package" / "axe.min.js"
    if not script.is_file():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("npm, which brings axe-core, is not installed")
        got = subprocess.run(
            [npm, "pack", "axe-core@4", "--silent"], cwd=folder, capture_output=True, text=True, check=False
        )
        if got.returncode:
            pytest.skip("npm cannot fetch axe-core here")
        with tarfile.open(folder / got.stdout.split()[-1]) as packed:
            packed.extractall(folder, filter="data")
    return script.read_text("utf-8")


@pytest.fixture(scope="session")
def rows() -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(0).random((3, 1, 28, 28), dtype=np.float32)


def tensor(array: np.ndarray[Any, Any], **changes: Any) -> dict[str, Any]:
    return {
        "name": "input",
        "shape": list(array.shape),
        "datatype": "FP32",
        "data": array.ravel().tolist(),
        **changes,
    }


def png(mode: str = "L", size: tuple[int, int] = (28, 28)) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size).save(out, "PNG")
    return out.getvalue()
