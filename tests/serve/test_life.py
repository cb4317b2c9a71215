"""A server's life: what it imports, when it is ready, how it takes up newer artifacts, how it ends."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from cnnkit import front_door
from serve.api.access import is_loopback
from serve.settings import ServeSettings
from tests.serve.conftest import MODEL, Server, serving, tensor
from tests.stamping import stamp
from toolkit.artifacts import Artifact, read_passport, sidecar

IMAGE = np.zeros((1, 1, 28, 28), dtype=np.float32)

# Serves until it is ready, prints which heavy packages that took, and stops itself.
PROBE = """
import json, os, signal, sys, threading
from cnnkit import front_door
from toolkit.cli import printing
def say(text):
    if text.startswith("serving "):
        heavy = [n for n in ("torch", "torchvision", "gradio", "onnx", "fastapi") if n in sys.modules]
        print(json.dumps(heavy), flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
printing.say = say
front_door.main(["serve", sys.argv[1], "--no-page", "--port", "0", "--artifacts", sys.argv[2]])
"""


def copy_of(shipped: Path, root: Path, *, created: str = "") -> Artifact:
    """Write a copy of the shipped artifact under `root`, as another export would look."""
    path = root / MODEL / f"{MODEL}.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    # a trailing protobuf field that readers skip makes it another file with the same answers
    part.write_bytes(shipped.read_bytes() + (b"\xfa\x3f\x04" + created[-4:].encode() if created else b""))
    part.replace(path)
    return stamp(
        path, dataclasses.replace(read_passport(shipped), created=created or "2100-01-01T00:00:00+00:00")
    )


def test_no_page_imports_neither_torch_nor_gradio_and_ends_with_0(shipped: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROBE, MODEL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


# Runs the command line as where some packages are not installed.
WITHOUT = """
import sys
for name in sys.argv.pop(1).split(","):
    sys.modules[name] = None
from cnnkit import front_door
front_door.main()
"""


def without(packages: str, root: Path, *args: str) -> list[str]:
    arguments = ["serve", MODEL, "--port", "0", "--artifacts", str(root), *args]
    return [sys.executable, "-c", WITHOUT, packages, *arguments]


def test_the_api_alone_needs_nothing_of_the_page(shipped: Path, tmp_path: Path) -> None:
    command = without("gradio,fastapi,starlette,orjson,torch,matplotlib", tmp_path, "--no-page")
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    server = Server(process=process, url="", port=0)
    try:
        server.port = int(server.read_line("serving").split("://")[1].split()[0].rpartition(":")[2])
        assert server.infer({"inputs": [tensor(IMAGE)]}).status == 200
        assert server.ask("GET", "/openapi.json").status == 200
    finally:
        process.terminate()
        assert process.wait(20) == 0
        assert process.stderr is not None
        process.stderr.close()


@pytest.mark.parametrize(
    ("package", "extra", "args"),
    [("gradio", "page", []), ("fastapi", "page", []), ("uvicorn", "serve", ["--no-page"])],
)
def test_what_is_not_installed_is_named_with_its_extra(
    shipped: Path, tmp_path: Path, package: str, extra: str, args: list[str]
) -> None:
    command = without(package, tmp_path, *args)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 3
    assert f"'{package}': pip install 'cnnkit[{extra}]'" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_ends_with_0(shipped: Path, tmp_path: Path, number: int) -> None:
    with serving(tmp_path, MODEL, "--no-page") as server:
        body = json.dumps({"inputs": [tensor(np.repeat(IMAGE, 64, axis=0))]}).encode()
        lines = ["POST /v2/models/lenet-maxpool/infer HTTP/1.1", "Host: 127.0.0.1"]
        head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""])
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock:
            sock.sendall(head.encode() + body[:-10])
            time.sleep(0.2)
            server.process.send_signal(number)
            time.sleep(0.2)
            sock.sendall(body[-10:])
            assert sock.recv(12) == b"HTTP/1.1 200"
        assert server.process.wait(20) == 0


def test_a_stop_waits_longer_than_any_request_may_take() -> None:
    settings = ServeSettings(deadline_s=60.5)
    assert settings.drain_s > settings.deadline_s


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_waits_for_nobody(shipped: Path, tmp_path: Path, number: int) -> None:
    slow = b"POST /v1/classify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99\r\n\r\n"
    with (
        serving(tmp_path, MODEL, "--no-page", "--deadline", "3600") as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock,
    ):
        sock.sendall(slow)
        time.sleep(0.2)
        server.process.send_signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            server.process.wait(1)
        server.process.send_signal(number)
        assert server.process.wait(20) == 0


def test_a_newer_artifact_takes_over_with_no_failed_request(shipped: Path, tmp_path: Path) -> None:
    copy_of(shipped, tmp_path)
    with serving(tmp_path, MODEL, "--no-page") as server:
        seen: list[tuple[int, str]] = []
        stop = threading.Event()

        def call() -> None:
            while not stop.is_set():
                answer = server.infer({"inputs": [tensor(IMAGE)]})
                seen.append((answer.status, answer.headers["x-model-sha256"]))

        callers = [threading.Thread(target=call) for _ in range(3)]
        for caller in callers:
            caller.start()
        newer = copy_of(shipped, tmp_path, created="2100-06-01T00:00:00+00:00")
        server.read_line("reloaded")
        time.sleep(0.3)
        stop.set()
        for caller in callers:
            caller.join(20)
        assert {status for status, _ in seen} == {200}
        assert server.infer({"inputs": [tensor(IMAGE)]}).headers["x-model-sha256"] == newer.passport.sha256
        assert (
            'cnnkit_reloads_total{model="lenet-maxpool"} 1.0' in server.ask("GET", "/metrics").body.decode()
        )


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_server_that_nobody_listens_to_serves_on_and_takes_up_what_is_newer(
    shipped: Path, tmp_path: Path, processes: str
) -> None:
    copy_of(shipped, tmp_path)
    out = tmp_path / "log"
    args = (MODEL, "--no-page", "--log-requests", "--stop-delay", "0.1", "--processes", processes)
    with serving(tmp_path, *args, stdout=out) as server:
        assert server.process.stderr is not None
        server.process.stderr.close()
        server.process.stderr = None
        newer = copy_of(shipped, tmp_path, created="2100-06-01T00:00:00+00:00").passport.sha256
        end = time.monotonic() + 30
        answered = ""
        while answered != newer and time.monotonic() < end:
            time.sleep(0.1)
            answered = server.infer({"inputs": [tensor(IMAGE)]}).headers["x-model-sha256"]
        assert answered == newer
        server.ask("GET", "/v2", headers={"X-Request-Id": "afterwards"})
        server.process.terminate()
        # 120 is Python's own status for output that could not be written
        assert server.process.wait(20) in (0, 120)
    assert "afterwards" in out.read_text()


def test_a_broken_newer_artifact_is_left_alone(shipped: Path, tmp_path: Path) -> None:
    old = copy_of(shipped, tmp_path)
    newer = copy_of(shipped, tmp_path / "elsewhere", created="2100-06-01T00:00:00+00:00")
    with serving(tmp_path, MODEL, "--no-page") as server:
        old.path.write_bytes(b"cut short")
        sidecar(newer.path).replace(sidecar(old.path))
        assert "SHA-256 differs" in server.read_line("not reloaded", 20)
        answer = server.infer({"inputs": [tensor(IMAGE)]})
        assert (answer.status, answer.headers["x-model-sha256"]) == (200, old.passport.sha256)


def test_other_precisions_are_versions(shipped: Path, tmp_path: Path) -> None:
    made = copy_of(shipped, tmp_path)
    half = made.path.with_name(f"{MODEL}.fp16.onnx")
    shutil.copy(made.path, half)
    stamp(half, dataclasses.replace(made.passport, precision="fp16"))
    with serving(tmp_path, MODEL, "--no-page") as server:
        assert server.ask("GET", f"/v2/models/{MODEL}").json["versions"] == ["fp32", "fp16"]
        path = f"/v2/models/{MODEL}/versions/fp16/infer"
        answer = server.ask("POST", path, {"inputs": [tensor(IMAGE)]})
        assert (answer.status, answer.headers["x-precision"]) == (200, "fp16")


def flood(server: Server, callers: int, rows: int, **parameters: Any) -> list[Any]:
    """Send large binary batches at once: cheap to read, dear to run."""
    entry = {"name": "input", "shape": [rows, 1, 28, 28], "datatype": "FP32"}
    inputs = [{**entry, "parameters": {"binary_data_size": rows * 3136}}]
    head = json.dumps({"inputs": inputs, "parameters": parameters}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    body, answers = head + bytes(rows * 3136), []

    def call() -> None:
        answers.append(server.ask("POST", f"/v2/models/{MODEL}/infer", body, headers))

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return answers


def test_too_many_callers_get_429_with_retry_after_and_nobody_gets_5xx(shipped: Path, tmp_path: Path) -> None:
    args = (MODEL, "--no-page", "--max-waiting", "1", "--max-batch", "1", "--deadline", "60")
    with serving(tmp_path, *args) as server:
        answers = flood(server, 16, 2048)
    assert {answer.status for answer in answers} <= {200, 429}
    refused = [answer for answer in answers if answer.status == 429]
    assert refused
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)


def test_past_the_deadline_is_504(shipped: Path, tmp_path: Path) -> None:
    with serving(tmp_path, MODEL, "--no-page", "--max-batch", "1", "--max-waiting", "9999") as server:
        assert {answer.status for answer in flood(server, 4, 1024, timeout=1)} == {504}


def test_too_many_large_pictures_get_429_and_the_wait_is_counted(shipped: Path, tmp_path: Path) -> None:
    out = io.BytesIO()
    Image.new("I;16", (3000, 3000)).save(out, "PNG")
    statuses: list[int] = []
    with serving(tmp_path, MODEL, "--no-page", "--max-waiting", "1") as server:

        def call() -> None:
            statuses.append(server.ask("POST", "/v1/classify", out.getvalue()).status)

        callers = [threading.Thread(target=call) for _ in range(10)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(60)
        text = server.ask("GET", "/metrics").body.decode()
    assert set(statuses) <= {200, 429, 504}
    assert 429 in statuses
    assert f'cnnkit_shed_total{{model="{MODEL}",reason="full",version="fp32"}}' in text


@pytest.mark.parametrize("path", ["/v1/classify", f"/v2/models/{MODEL}/infer", "/v2/repository/index"])
@pytest.mark.parametrize("sent", [b"", b"half a body"], ids=["nothing", "half"])
def test_a_body_that_does_not_come_is_408(impatient: Server, path: str, sent: bytes) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", impatient.port), timeout=20) as sock:
        sock.sendall(head + sent)
        answer = b"".join(iter(lambda: sock.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in answer
    assert b"--deadline" in answer


@pytest.fixture(scope="module")
def impatient(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("impatient"), MODEL, "--no-page", "--deadline", "0.2") as server:
        yield server


def test_a_taken_port_is_said_in_one_line(shipped: Path, tmp_path: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = str(sock.getsockname()[1])
        args = ["serve", MODEL, "--no-page", "--port", port, "--artifacts", str(tmp_path)]
        result = CliRunner().invoke(front_door.main, args)
    assert result.exit_code == 1
    assert f"cannot listen on 127.0.0.1:{port}" in result.output


@pytest.mark.parametrize(
    ("args", "status", "why"),
    [
        (["nope"], 1, "no model 'nope'"),
        ([MODEL, "--backend", "ortt"], 1, "Did you mean 'ort'"),
        ([MODEL, MODEL], 1, "named twice"),
        ([MODEL, "--auth", "nocolon"], 2, "USER:PASSWORD"),
        ([MODEL, "--auth", ""], 2, "--auth is empty"),
        ([MODEL, "--token", ""], 2, "--token is empty"),
    ],
)
def test_what_cannot_be_served_is_said(
    shipped: Path, tmp_path: Path, args: list[str], status: int, why: str
) -> None:
    result = CliRunner().invoke(
        front_door.main, ["serve", *args, "--no-page", "--port", "0", "--artifacts", str(tmp_path)]
    )
    assert result.exit_code == status
    assert why in " ".join(result.output.split())


@pytest.mark.parametrize("variable", ["CNNKIT_AUTH", "CNNKIT_TOKEN"])
def test_a_password_out_of_an_empty_variable_is_refused(shipped: Path, tmp_path: Path, variable: str) -> None:
    args = ["serve", MODEL, "--no-page", "--port", "0", "--artifacts", str(tmp_path)]
    result = CliRunner().invoke(front_door.main, args, env={variable: ""})
    assert result.exit_code == 2
    assert f"{variable} is empty" in " ".join(result.output.split())


@pytest.mark.skipif(os.path.exists("/dev/nvidia0"), reason="there is a GPU here")  # noqa: PTH110  (a device)
def test_tensorrt_without_a_gpu_says_what_runs_instead(shipped: Path, tmp_path: Path) -> None:
    args = ["serve", MODEL, "--backend", "trt", "--no-page", "--port", "0", "--artifacts", str(tmp_path)]
    result = CliRunner().invoke(front_door.main, args)
    assert result.exit_code == 3
    assert "--backend ort" in result.output


def test_a_host_that_others_reach_is_warned_about_without_a_password(shipped: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "cnnkit",
        "serve",
        MODEL,
        "--no-page",
        "--port",
        "0",
        "--host",
        "0.0.0.0",
    ]
    process = subprocess.Popen([*command, "--artifacts", str(tmp_path)], stderr=subprocess.PIPE, text=True)
    server = Server(process=process, url="", port=0)
    try:
        assert "--auth USER:PASSWORD" in server.read_line("warning")
    finally:
        process.terminate()
        process.wait(20)
        assert process.stderr is not None
        process.stderr.close()


def test_passport_and_file_lie_side_by_side(shipped: Path) -> None:
    assert sidecar(shipped).is_file()


@pytest.mark.parametrize(
    ("host", "own"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("example.org", False)],
)
def test_which_hosts_only_this_machine_reaches(host: str, own: bool) -> None:
    assert is_loopback(host) is own
