"""Clients that misbehave: what they make the server hold is bounded, and others are answered meanwhile."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.serve.conftest import MODEL, Server, png, serving, tensor

MIB = 1024 * 1024
INFER = f"POST /v2/models/{MODEL}/infer HTTP/1.1\r\nHost: localhost\r\n"


def body_of(rows: int) -> bytes:
    return json.dumps({"inputs": [tensor(np.full((rows, 1, 28, 28), 0.5, np.float32))]}).encode()


def whole(body: bytes, *lines: str) -> bytes:
    head = "".join(f"{line}\r\n" for line in (f"Content-Length: {len(body)}", *lines))
    return f"{INFER}{head}\r\n".encode() + body


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def memory(server: Server) -> int:
    return int(psutil.Process(server.process.pid).memory_info().rss)


def probe_s(server: Server) -> float:
    start = time.monotonic()
    assert server.ask("GET", "/v2/health/live").status == 200
    return time.monotonic() - start


@pytest.fixture(scope="module")
def server(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("rude"), MODEL, "--no-page") as made:
        yield made
        assert made.process.poll() is None
    assert made.log == ""


def test_pipelined_requests_whose_answers_are_not_read_are_not_piled_up(server: Server) -> None:
    before = memory(server)
    asks = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 500
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(connect(server)) for _ in range(10)]
        for sock in socks:
            sock.setblocking(False)
        end = time.monotonic() + 2
        while time.monotonic() < end:
            for sock in socks:
                with contextlib.suppress(BlockingIOError):
                    sock.send(asks)
            time.sleep(0.005)
        assert probe_s(server) < 5
        assert memory(server) - before < 64 * MIB


def test_pipelined_requests_are_answered_in_their_order(server: Server) -> None:
    with connect(server) as sock:
        sock.sendall(b"".join(whole(body_of(1), f"X-Request-Id: n{at}") for at in range(40)))
        found = b""
        while found.count(b"logits") < 40:
            found += sock.recv(65536)
        places = [found.index(b"x-request-id: n%d\r\n" % at) for at in range(40)]
        assert places == sorted(places)


def test_requests_of_who_hung_up_cost_nobody_else_a_place(server: Server) -> None:
    ask = whole(body_of(32))
    for _ in range(60):  # far more rows than may wait
        with connect(server) as sock:
            sock.sendall(ask)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with connect(server) as sock:
        sock.sendall(ask)
        assert sock.recv(15) == b"HTTP/1.1 200 OK"


def test_who_hung_up_is_counted(server: Server) -> None:
    with connect(server) as sock:
        sock.sendall(f"{INFER}Content-Length: 100\r\n\r\n".encode())
    route = 'cnnkit_requests_total{route="/v2/models/{model}/infer",status="499"}'
    end = time.monotonic() + 10
    while route not in server.ask("GET", "/metrics").body.decode():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_batch_larger_than_the_engine_runs_in_slices_and_is_answered_as_its_rows_are(
    server: Server,
) -> None:
    rows = np.random.default_rng(1).random((300, 1, 28, 28), dtype=np.float32)
    at_once = server.infer({"inputs": [tensor(rows)]}).json["outputs"][0]
    apart = [
        server.infer({"inputs": [tensor(part)]}).json["outputs"][0]["data"] for part in np.split(rows, 20)
    ]
    assert at_once["shape"] == [300, 10]
    np.testing.assert_allclose(at_once["data"], np.concatenate(apart), atol=1e-5)


def test_a_large_batch_gives_its_memory_back(server: Server) -> None:
    before = memory(server)
    for _ in range(3):
        with connect(server) as sock:
            sock.sendall(whole(body_of(2_000), "Connection: close"))
            while sock.recv(MIB):
                pass
    time.sleep(1)
    assert memory(server) - before < 64 * MIB


def test_bodies_together_are_bounded(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        head = f"{INFER}Content-Length: {32 * MIB}\r\n\r\n".encode()
        socks = [stack.enter_context(connect(server)) for _ in range(9)]
        for sock in socks:
            sock.sendall(head)
        time.sleep(0.3)
        reply = socks[-1].recv(4096)
        assert reply.startswith(b"HTTP/1.1 503")
        assert b"large bodies" in reply
        assert server.infer({"inputs": [tensor(np.zeros((1, 1, 28, 28), np.float32))]}).status == 200
    time.sleep(0.2)
    with connect(server) as sock:
        sock.sendall(whole(body_of(100)))
        assert sock.recv(15) == b"HTTP/1.1 200 OK"


@pytest.mark.parametrize("apart", [False, True], ids=["one packet", "head first"])
def test_a_wish_for_another_protocol_is_answered_in_this_one(server: Server, apart: bool) -> None:
    wish = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
    body = body_of(1)
    ask = whole(body, *wish)
    with connect(server) as sock:
        for _ in range(3):
            for part in (ask[: -len(body)], body) if apart else (ask,):
                sock.sendall(part)
                time.sleep(0.05)
            found = sock.recv(65536)
            assert found.startswith(b"HTTP/1.1 200 OK")
            assert b"logits" in found


JAVA = """
import java.net.URI; import java.net.http.*; import java.nio.file.*;
public class Ask {{ public static void main(String[] a) throws Exception {{
    var ask = HttpRequest.newBuilder(URI.create("{url}/v2/models/{model}/infer"))
        .POST(HttpRequest.BodyPublishers.ofString(Files.readString(Path.of("{body}")))).build();
    var reply = HttpClient.newHttpClient().send(ask, HttpResponse.BodyHandlers.ofString());
    System.out.println(reply.statusCode() + " " + reply.body()); }} }}
"""


def test_a_java_client_as_it_comes_is_answered(server: Server, tmp_path: Path) -> None:
    if shutil.which("java") is None:
        pytest.skip("there is no JDK")
    (tmp_path / "body.json").write_bytes(body_of(1))
    (tmp_path / "Ask.java").write_text(JAVA.format(url=server.url, model=MODEL, body=tmp_path / "body.json"))
    done = subprocess.run(
        ["java", "Ask.java"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout.startswith("200 "), done.stderr


@pytest.mark.parametrize(
    "sent", [b"garbage\r\n\r\n", b"GET  HTTP\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
)
def test_what_is_no_http_gets_the_json_error(server: Server, sent: bytes) -> None:
    with connect(server) as sock:
        sock.sendall(sent)
        head, _, body = sock.recv(4096).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400")
        assert "no HTTP/1.1" in json.loads(body)["error"]


@pytest.mark.parametrize("wish", [b"", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"], ids=["plain", "and more"])
def test_a_proxys_client_is_refused_in_words_and_others_are_answered(server: Server, wish: bytes) -> None:
    with connect(server) as sock:
        sock.sendall(b"CONNECT example.org:443 HTTP/1.1\r\n" + wish + b"\r\n")
        found = b"".join(iter(lambda: sock.recv(4096), b""))
        head, _, body = found.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 405")
        assert b"connection: close" in head
        assert "CONNECT" in json.loads(body)["error"]
    assert probe_s(server) < 5


def test_a_client_that_leaves_its_answer_unread_is_hung_up_on(shipped: Path) -> None:
    import asyncio

    from tests.serve.test_connection import Connection, listening

    class Impatient(Connection):
        unread_s = 0.3

    async def large(scope: object, receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})  # type: ignore[operator]
        for _ in range(200):
            await send({"type": "http.response.body", "body": b"x" * MIB, "more_body": True})  # type: ignore[operator]

    async def go() -> None:
        async with listening(Impatient, large) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(1.5)
            writer.transport.resume_reading()  # type: ignore[attr-defined]
            with contextlib.suppress(ConnectionResetError):
                found = await asyncio.wait_for(reader.read(-1), 10)
                assert len(found) < 100 * MIB
            writer.close()

    asyncio.run(go())


def classified(sock: socket.socket, picture: bytes) -> bytes:
    """Send a picture over an open connection; return the reply's beginning, empty where it was hung up."""
    head = f"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(picture)}\r\n\r\n"
    try:
        sock.sendall(head.encode() + picture)
        return sock.recv(4096)
    except ConnectionError:
        return b""


def test_few_file_handles_are_never_a_pictures_fault_and_all_goes_on_after(
    shipped: Path, tmp_path: Path
) -> None:
    if shutil.which("prlimit") is None:
        pytest.skip("there is no prlimit")
    with serving(tmp_path, MODEL, "--no-page", limits="--nofile=64") as server:
        with contextlib.ExitStack() as stack:
            socks = [stack.enter_context(connect(server)) for _ in range(80)]
            replies = [classified(sock, png())[9:12] for sock in socks]
            # those beyond the bound were answered 503 at once and closed
            assert set(replies) <= {b"200", b"503", b""}
            assert replies.count(b"200") >= 4
        time.sleep(0.3)
        for _ in range(3):
            assert server.ask("POST", "/v1/classify", png()).status == 200
    assert server.log == ""
