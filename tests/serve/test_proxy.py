"""Behind real proxies: the recipes of docs/serving.md in nginx and Caddy, sub-paths, names, stops."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve.api.connection import QUIET_S
from tests.ports import free_port
from tests.serve.conftest import MODEL, Answer, Server, serving, tensor

DOCS = Path(__file__).parents[2] / "docs" / "serving.md"
NAME = "demo.example.org"
IMAGE = np.zeros((1, 1, 28, 28), dtype=np.float32)
ASK = {"inputs": [tensor(IMAGE)]}
BEHIND = ("--public-name", NAME, "--root-path", "/cnn")
NGINX = """daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log; events {{}}
http {{ access_log off; {temp} {server} }}"""
TEMP = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def recipe(proxy: str, port: int, upstream: int) -> str:
    """Return the documented configuration with the ports of this test."""
    found = re.search(rf"```{proxy}\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert found is not None
    text = found[1].replace("127.0.0.1:7860", f"127.0.0.1:{upstream}")
    return text.replace("listen 80;", f"listen 127.0.0.1:{port};").replace(f"{NAME}:80", f"{NAME}:{port}")


@contextlib.contextmanager
def running(command: list[str], port: int, env: dict[str, str] | None = None) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert process.poll() is None, process.stderr.read().decode()  # type: ignore[union-attr]
            time.sleep(0.05)
        yield
    finally:
        process.kill()  # a proxy that stops waits for streams
        process.communicate()


@contextlib.contextmanager
def nginx(folder: Path, port: int, server: str) -> Iterator[None]:
    if shutil.which("nginx") is None:
        pytest.skip("nginx is not installed")
    folder.mkdir()
    temp = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in TEMP)
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, temp=temp, server=server))
    with running(["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")], port):
        yield


@contextlib.contextmanager
def caddy(folder: Path, port: int, server: str) -> Iterator[None]:
    if shutil.which("caddy") is None:
        pytest.skip("caddy is not installed")
    folder.mkdir()
    env = {**os.environ, "XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    (folder / "Caddyfile").write_text("{\n admin off\n auto_https off\n}\n" + server)
    with running(
        ["caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")], port, env
    ):
        yield


PROXIES = {"nginx": nginx, "caddy": caddy}


def ask(port: int, method: str, path: str, body: Any = None, **headers: str) -> Answer:
    """Ask a proxy by the name that people use."""
    data = None if body is None else json.dumps(body).encode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body=data, headers={"Host": f"{NAME}:{port}", **headers})
        reply = connection.getresponse()
        return Answer(status=reply.status, headers=dict(reply.getheaders()), body=reply.read())
    finally:
        connection.close()


@pytest.fixture(scope="module")
def behind(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    pytest.importorskip("gradio", reason="Gradio is not installed (extra page)")
    root = tmp_path_factory.mktemp("behind")
    with serving(root, MODEL, *BEHIND, "--trust-proxy", "127.0.0.1") as server:
        yield server


@pytest.mark.parametrize("proxy", PROXIES)
def test_the_documented_recipe_serves_api_docs_and_page_under_a_path(
    behind: Server, tmp_path: Path, proxy: str, chromium: str
) -> None:
    port = free_port()
    with PROXIES[proxy](tmp_path / "proxy", port, recipe(proxy, port, behind.port)):
        here = f"http://{NAME}:{port}"
        infer = ask(port, "POST", f"/cnn/v2/models/{MODEL}/infer", ASK, Origin=here)
        assert infer.status == 200, infer.body
        assert (
            ask(port, "POST", f"/cnn/v2/models/{MODEL}/infer", ASK, Origin="http://evil.example").status
            == 403
        )
        assert ask(port, "GET", "/cnn/openapi.json").json["servers"] == [{"url": "/cnn"}]
        assert b'src="/cnn/docs/start.js"' in ask(port, "GET", "/cnn/docs").body
        assert ask(port, "GET", "/cnn/docs/swagger-ui.css").status == 200
        _use_page(chromium, f"{here}/cnn/")


OWN_HOST = """server {{ listen 127.0.0.1:{port}; location /cnn/ {{
    proxy_pass http://127.0.0.1:{upstream}{slash}; proxy_buffering off; }} }}"""


@pytest.mark.parametrize("slash", ["/", ""], ids=["path cut", "path whole"])
def test_a_proxy_that_hands_on_neither_host_nor_anything_works_by_the_public_name(
    shipped: Path, tmp_path: Path, slash: str, chromium: str
) -> None:
    port = free_port()
    known = ("--public-name", f"{NAME}:{port}", "--root-path", "/cnn", "--trust-proxy", "127.0.0.1")
    page = () if slash else ("--no-page",)
    with serving(tmp_path, MODEL, *known, *page) as behind:
        _serves_by_name(behind, tmp_path, port, slash, chromium)


def _serves_by_name(behind: Server, tmp_path: Path, port: int, slash: str, chromium: str) -> None:
    config = OWN_HOST.format(port=port, upstream=behind.port, slash=slash)
    with nginx(tmp_path / "proxy", port, config):
        here = f"http://{NAME}:{port}"
        assert ask(port, "POST", f"/cnn/v2/models/{MODEL}/infer", ASK, Origin=here).status == 200
        if slash:
            _use_page(chromium, f"{here}/cnn/")


def _use_page(chromium: str, url: str) -> None:
    """Have a visitor's browser classify a picture; every request of the page stays under the path."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (extra test)")
    arguments = ["--no-sandbox", f"--host-resolver-rules=MAP {NAME} 127.0.0.1", "--no-first-run"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        tab = browser.new_page()
        seen: list[str] = []
        tab.on("request", lambda request: seen.append(request.url))
        tab.goto(url)
        tab.locator("#ck-examples button").nth(1).click(timeout=30_000)
        tab.locator("#ck-answer").filter(has_text="Trouser").wait_for(timeout=30_000)
        browser.close()
    assert [address for address in seen if not address.startswith((url, "data:", "blob:"))] == []


def test_nobody_else_is_believed(shipped: Path, tmp_path: Path) -> None:
    with serving(tmp_path, MODEL, "--no-page", *BEHIND, "--trust-proxy", "10.0.0.0/8") as server:
        told = {"Host": "evil.example", "X-Forwarded-Host": NAME}
        assert server.ask("GET", "/v2", headers=told).status == 421
        assert server.ask("GET", "/cnn/v2", headers={"Host": NAME}).status == 200
        assert server.ask("GET", "/cnnx/v2", headers={"Host": NAME}).status == 404


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--public-name", "http://demo.example.org/a", "is no host name"),
        ("--root-path", "cnn", "is no path to lie under"),
        ("--trust-proxy", "my-proxy", "is no address"),
    ],
)
def test_what_is_no_name_path_or_address_is_refused(
    shipped: Path, tmp_path: Path, option: str, value: str, words: str
) -> None:
    import sys

    command = [sys.executable, "-m", "cnnkit", "serve", MODEL, "--no-page", "--port", "0", option, value]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path)
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (1, 2)
    assert words in done.stderr


def test_a_proxy_with_kept_connections_loses_no_request_at_a_stop(shipped: Path, tmp_path: Path) -> None:
    port = free_port()
    statuses: list[int] = []
    stop = threading.Event()

    def call() -> None:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            while not stop.is_set():
                connection.request(
                    "POST", f"/cnn/v2/models/{MODEL}/infer", body=json.dumps(ASK), headers={"Host": NAME}
                )
                reply = connection.getresponse()
                reply.read()
                statuses.append(reply.status)

    args = ("--no-page", *BEHIND, "--trust-proxy", "127.0.0.1", "--stop-delay", "3")
    with (
        serving(tmp_path, MODEL, *args) as server,
        nginx(tmp_path / "proxy", port, recipe("nginx", port, server.port)),
    ):
        callers = [threading.Thread(target=call) for _ in range(4)]
        for caller in callers:
            caller.start()
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        # once the delay is over nobody answers any more
        while server.ask("GET", "/v2/health/ready", headers={"Host": NAME}).status != 503:
            time.sleep(0.01)
        stop.set()  # the balancer takes the server out
        for caller in callers:
            caller.join(20)
        assert server.process.wait(20) == 0
    assert set(statuses) == {200}
    assert len(statuses) > 20


def test_who_asks_directly_at_a_stop_is_answered_or_refused_never_cut_off(
    shipped: Path, tmp_path: Path
) -> None:
    with serving(tmp_path, MODEL, "--no-page") as server:
        outcomes: list[str] = []

        def call() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            while True:
                try:
                    connection.connect() if connection.sock is None else None
                except ConnectionRefusedError:
                    return
                heard = time.monotonic()
                try:
                    connection.request("POST", f"/v2/models/{MODEL}/infer", body=json.dumps(ASK))
                    reply = connection.getresponse()
                    reply.read()
                    outcomes.append(str(reply.status))
                except (OSError, http.client.HTTPException) as error:
                    # on a busy machine this client may be one that is quiet, which is closed
                    if time.monotonic() - heard < QUIET_S:
                        outcomes.append(repr(error))
                    return

        callers = [threading.Thread(target=call) for _ in range(8)]
        for caller in callers:
            caller.start()
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        for caller in callers:
            caller.join(30)
        assert server.process.wait(20) == 0
        assert set(outcomes) == {"200"}
