"""Several processes on one port: what concerns all of them is done once, and nobody notices who answers."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import http.client
import json
import math
import shutil
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

from serve import server as server_module
from serve.counts import Counts
from serve.processes.handover import Door, Giving, Taking
from serve.processes.messages import FoundVersion, Message
from serve.processes.together import Together, agreed
from serve.settings import ServeSettings
from serve.tally import ModelStatistics
from tests.serve.conftest import MODEL, Server, png, serving, tensor
from tests.serve.test_life import copy_of
from tests.stamping import stamp
from toolkit.artifacts import read_passport, sidecar
from toolkit.errors import CnnkitError

ASK = json.dumps({"inputs": [tensor(np.zeros((1, 1, 28, 28), dtype=np.float32))]})
INFER = f"/v2/models/{MODEL}/infer"
OTHER = "second"
TWO = ("--processes", "2")


class Kept:
    """A connection that is kept, and so always answered by the same process."""

    def __init__(self, server: Server) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)

    def ask(
        self, path: str = INFER, body: str | bytes | None = ASK, **headers: str
    ) -> tuple[int, Any, bytes]:
        self.connection.request("GET" if body is None else "POST", path, body=body, headers=headers)
        reply = self.connection.getresponse()
        return reply.status, reply.headers, reply.read()

    def process(self) -> str:
        """Return what tells this connection's process from the others."""
        _, headers, _ = self.ask("/v2", None)
        return str(headers["x-request-id"].partition("-")[0])


@contextlib.contextmanager
def kept(server: Server, count: int) -> Iterator[list[Kept]]:
    made = [Kept(server) for _ in range(count)]
    for one in made:
        one.process()  # taken up before the next one comes
    yield made
    for one in made:
        one.connection.close()


def processes(server: Server) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children()


def total(server: Server, start: str) -> float:
    page = server.ask("GET", "/metrics").body.decode()
    return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(start))


ANSWERED = 'cnnkit_requests_total{route="/v2/models/{model}/infer"'


@pytest.fixture(scope="module")
def several(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("several")
    copy_of(shipped, root)
    (root / OTHER).mkdir()
    copy = root / OTHER / f"{OTHER}.onnx"
    shutil.copy(shipped, copy)
    shutil.copy(sidecar(shipped), sidecar(copy))
    with serving(root, MODEL, "--no-page", "--model-control", *TWO) as server:
        yield server
        assert server.process.poll() is None
    assert "Traceback" not in server.log


def test_kept_connections_are_divided_evenly_and_counted_on_one_page(several: Server) -> None:
    before, pictures = total(several, ANSWERED), total(several, "cnnkit_batch_rows_sum")
    with kept(several, 8) as connections:
        assert sorted(Counter(one.process() for one in connections).values()) == [4, 4]
        for one in connections:
            assert [one.ask()[0] for _ in range(5)] == [200] * 5
        pages = [one.ask("/metrics", None)[2].decode() for one in connections]
    assert total(several, ANSWERED) - before == 40
    assert total(several, "cnnkit_batch_rows_sum") - pictures == 40
    assert all('cnnkit_memory_bytes{process="1"}' in page for page in pages)
    statistics = several.ask("GET", f"/v2/models/{MODEL}/stats").json["model_stats"][0]
    assert statistics["inference_count"] == total(several, "cnnkit_batch_rows_sum")


def test_a_model_loaded_or_unloaded_through_one_is_so_in_all_and_in_a_successor(several: Server) -> None:
    path = f"/v2/models/{OTHER}/infer"
    with kept(several, 4) as connections:
        assert [one.ask(path)[0] for one in connections] == [404] * 4
        assert connections[0].ask(f"/v2/repository/models/{OTHER}/load", "")[0] == 200
        assert [one.ask(path)[0] for one in connections] == [200] * 4
        status, _, body = connections[1].ask("/v2/repository/models/none/load", "")
        assert (status, b"no artifact of that name" in body) == (400, True)
        assert [one.ask()[0] for one in connections] == [200] * 4
    processes(several)[1].kill()
    assert "by signal 9" in several.read_line("process . ended")
    several.read_line("is there again")
    with kept(several, 4) as connections:
        assert [one.ask(path)[0] for one in connections] == [200] * 4
        assert connections[3].ask(f"/v2/repository/models/{OTHER}/unload", "")[0] == 200
        assert [one.ask(path)[0] for one in connections] == [404] * 4
        for one in connections:
            assert {"name": OTHER, "version": "", "state": "UNAVAILABLE", "reason": "unloaded"} in json.loads(
                one.ask("/v2/repository/index", "")[2]
            )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_ends_is_replaced_and_others_answer_meanwhile(several: Server, number: int) -> None:
    for _ in range(4):
        several.ask("POST", INFER, ASK.encode())
    time.sleep(1.2)  # what it counted was asked for
    before = total(several, ANSWERED)
    known = {child.pid for child in processes(several)}
    processes(several)[0].send_signal(number)
    several.read_line("process . ended")
    assert several.ask("POST", INFER, ASK.encode()).status == 200
    assert several.ask("GET", "/v2/health/ready").status == 200
    several.read_line("process . is there again")
    assert len(known & {child.pid for child in processes(several)}) == 1
    with kept(several, 2) as connections:
        assert len({one.process() for one in connections}) == 2
    assert total(several, ANSWERED) - before == 1


def test_a_newer_artifact_is_taken_up_by_all_at_once(several: Server, shipped: Path) -> None:
    seen: list[tuple[float, str]] = []
    stop = threading.Event()
    before = total(several, "cnnkit_reloads_total")

    def call(one: Kept) -> None:
        while not stop.is_set():
            start = time.monotonic()
            status, headers, _ = one.ask()
            assert status == 200
            seen.append((start, headers["x-model-sha256"]))

    root = Path(psutil.Process(several.process.pid).cwd())
    with kept(several, 4) as connections:
        callers = [threading.Thread(target=call, args=(one,)) for one in connections]
        for caller in callers:
            caller.start()
        newer = copy_of(shipped, root, created="2100-06-01T00:00:00+00:00").passport.sha256
        several.read_line("reloaded")
        # one process says so; the parent's next word waits until all have heard the one before
        loading = several.ask("POST", f"/v2/repository/models/{OTHER}/load", b"")
        heard = time.monotonic()
        time.sleep(0.2)
        stop.set()
        for caller in callers:
            caller.join(20)
        assert several.ask("POST", f"/v2/repository/models/{OTHER}/unload", b"").status == 200
        assert loading.status == 200
        assert [one.ask()[1]["x-model-sha256"] for one in connections] == [newer] * 4
    assert [sha for start, sha in seen if sha != newer and start > heard] == []
    assert total(several, "cnnkit_reloads_total") - before == 1


def test_at_a_stop_all_are_not_ready_and_no_request_is_lost(shipped: Path, tmp_path: Path) -> None:
    # the delay holds some requests of a busy machine
    outcomes, delay_s = list[str](), 3.0
    ends = [math.inf]  # before the delay is over no port is closed

    def call(server: Server, keep: bool) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        while True:
            fresh = connection.sock is None
            try:
                connection.connect() if fresh else None
            except ConnectionRefusedError:
                return
            try:
                connection.request("POST", INFER, body=ASK)
                reply = connection.getresponse()
                reply.read()
                outcomes.append(str(reply.status))
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                # the kernel resets who comes between the last look at the port and its close: refused, too
                refused = fresh and isinstance(error, ConnectionResetError) and time.monotonic() >= ends[0]
                if not refused:
                    outcomes.append(repr(error))
                return
            finally:
                if not keep:
                    connection.close()

    with serving(tmp_path, MODEL, "--no-page", *TWO, "--stop-delay", str(delay_s)) as server:
        callers = [threading.Thread(target=call, args=(server, at % 2 == 0)) for at in range(8)]
        for caller in callers:
            caller.start()
        time.sleep(0.5)
        ends[0] = time.monotonic() + delay_s
        server.process.send_signal(signal.SIGTERM)
        # once the delay is over nobody answers any more
        while {server.ask("GET", "/v2/health/ready").status for _ in range(4)} != {503}:
            time.sleep(0.01)
        for caller in callers:
            caller.join(30)
        assert server.process.wait(20) == 0
    assert set(outcomes) == {"200"}
    assert len(outcomes) > 50
    assert server.log.count("stopping in") == 1


def test_a_second_signal_waits_for_nobody_and_leaves_no_process(shipped: Path, tmp_path: Path) -> None:
    with serving(tmp_path, MODEL, "--no-page", *TWO, "--deadline", "3600") as server:
        children = processes(server)
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock:
            sock.sendall(b"POST /v1/classify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99\r\n\r\n")
            time.sleep(0.3)
            server.process.send_signal(signal.SIGINT)
            time.sleep(0.7)
            assert server.process.poll() is None
            server.process.send_signal(signal.SIGINT)
            assert server.process.wait(20) == 0
        assert not [child for child in children if child.is_running()]


def test_processes_end_with_their_parent_and_answer_first(shipped: Path, tmp_path: Path) -> None:
    with serving(tmp_path, MODEL, "--no-page", *TWO) as server:
        children = processes(server)
        body = ASK.encode()
        head = f"POST {INFER} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock:
            sock.sendall(head + body[:-5])
            time.sleep(0.3)
            server.process.kill()
            time.sleep(0.3)
            sock.sendall(body[-5:])
            assert sock.recv(15) == b"HTTP/1.1 200 OK"
        _, alive = psutil.wait_procs(children, timeout=20)
        assert alive == []


@pytest.fixture(scope="module")
def paged(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    pytest.importorskip("gradio", reason="Gradio is not installed (extra page)")
    pytest.importorskip("grpc", reason="grpcio is not installed (extra grpc)")
    with serving(tmp_path_factory.mktemp("paged"), MODEL, *TWO, "--grpc-port", "0") as server:
        yield server
    assert server.log == ""


def test_the_page_is_one_whichever_process_is_asked(paged: Server) -> None:
    with kept(paged, 4) as connections:
        one, other = {connection.process(): connection for connection in connections}.values()
        app_ids = [json.loads(each.ask("/config", None)[2])["app_id"] for each in (one, other)]
        assert app_ids[0] == app_ids[1]
        shown = []
        for each in (one, other):
            status, _, picture = each.ask("/page/example?index=1", None)
            assert status == 200
            status, _, body = each.ask("/page/answer?ours=1", picture)
            assert (status, json.loads(body)["answers"][0]["top"][0][0]) == (200, "Trouser")
            shown.append(json.loads(body)["seen"]["png"])
            assert each.ask("/gradio_api/file=/etc/passwd", None)[0] == 404
            assert each.ask("/page/answer", b"no picture")[0] == 422
        assert shown[0] == shown[1]
    assert total(paged, 'cnnkit_requests_total{route="page",status="200"}') >= 6


def test_both_processes_answer_over_grpc(paged: Server) -> None:
    grpc_client = pytest.importorskip(
        "tritonclient.grpc", reason="tritonclient is not installed (extra test)"
    )
    before = total(paged, "cnnkit_batch_rows_sum")
    made = grpc_client.InferInput("input", [1, 1, 28, 28], "FP32")
    made.set_data_from_numpy(np.zeros((1, 1, 28, 28), np.float32))
    for at in range(8):  # a channel of its own each: equal ones are shared in a process
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.dummy", at)]
        client = grpc_client.InferenceServerClient(f"127.0.0.1:{paged.grpc_port}", channel_args=options)
        assert client.infer(MODEL, [made]).as_numpy("logits").shape == (1, 10)
        client.close()
    assert total(paged, "cnnkit_batch_rows_sum") - before == 8


@pytest.mark.parametrize(
    ("platform", "grpc_port", "words"),
    [("win32", None, "hands connections"), ("darwin", 8001, "Linux alone divides a gRPC port")],
)
def test_what_a_system_cannot_do_is_said(
    monkeypatch: pytest.MonkeyPatch, platform: str, grpc_port: int | None, words: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    with pytest.raises(CnnkitError, match=words):
        server_module.serve(MODEL, settings=ServeSettings(processes=2, grpc_port=grpc_port, page=False))
    with pytest.raises(CnnkitError, match="`--processes 1` is the least"):
        server_module.serve(MODEL, settings=ServeSettings(processes=0, page=False))


def test_what_no_process_can_open_is_said_once_and_ends_all(shipped: Path, tmp_path: Path) -> None:
    import subprocess

    made = copy_of(shipped, tmp_path)
    made.path.write_bytes(b"cut short")
    command = [sys.executable, "-m", "cnnkit", "serve", MODEL, "--no-page", "--port", "0", *TWO]
    command += ["--artifacts", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr.count("SHA-256 differs") == 1


def found(*versions: tuple[str, str, str | None]) -> list[FoundVersion]:
    return [FoundVersion(MODEL, version, serving, newer) for version, serving, newer in versions]


def test_versions_are_taken_up_that_all_found_alike() -> None:
    alike, others = agreed(
        [
            found(("fp32", "old", "new"), ("fp16", "old", "new")),
            found(("fp32", "old", "new"), ("fp16", "old", None), ("int8", "old", None)),
            found(("fp32", "new", None)),  # began with it
        ]
    )
    assert alike == [(MODEL, "fp32")]
    assert others == [(MODEL, "fp16")]


def test_a_look_that_one_process_refuses_is_said_and_the_next_one_is_as_ever() -> None:
    class Line:
        refuses = True

        async def ask(self, message: Message, kind: type[Any]) -> Any:
            if self.refuses:
                raise CnnkitError("its folder cannot be read")
            return kind([])

    async def looks() -> None:
        line = Line()
        together = Together(lambda: [SimpleNamespace(line=line)], told.append)  # type: ignore[list-item]
        await together.look()
        line.refuses = False
        await together.look()

    told: list[str] = []
    asyncio.run(looks())
    assert told == ["not reloaded: its folder cannot be read; it is tried again"]


def test_counts_of_processes_add_up() -> None:
    def counts(rows: int) -> Counts:
        tally = ModelStatistics.none_yet(MODEL, "fp32")
        tally.ran(rows, 0.5)
        tally.answered(rows, read_s=0, queue_s=0, infer_s=0.5, write_s=0)
        spread = [0.0, 1.0, 0.5]
        return Counts(totals={("a", "b"): rows}, spreads={("c",): spread}, models={(MODEL, "fp32"): tally})

    both = Counts()
    for rows in (1, 4, 4):
        both.add(counts(rows))
    assert both.totals == {("a", "b"): 9}
    assert both.spreads == {("c",): [0.0, 3.0, 1.5]}
    tally = both.models[MODEL, "fp32"]
    assert (tally.inference_count, tally.execution_count) == (9, 3)
    assert [(batch.batch_size, batch.compute_infer.count) for batch in tally.batch_stats] == [(1, 1), (4, 2)]


def test_who_comes_while_no_process_is_there_waits_and_goes_to_whoever_has_fewest() -> None:
    async def go() -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            listener.setblocking(False)
            ways: list[Giving] = []
            door = Door(listener, lambda: ways)
            door.watch()
            clients = [socket.create_connection(listener.getsockname()) for _ in range(6)]
            await asyncio.sleep(0.1)
            taken: list[list[socket.socket]] = [[], []]
            ends, others = [], []
            for at in range(2):
                giving, taking = socket.socketpair()
                others.append(taking)
                ways.append(Giving(giving))
                ends.append(Taking(taking, taken[at].append))
            ways[0].open = 2
            door.watch()
            await asyncio.sleep(0.2)
            assert [len(each) for each in taken] == [2, 4]
            ends[1].closed()
            await asyncio.sleep(0.05)
            ways[1].count_closed()
            assert [way.open for way in ways] == [4, 3]
            door.close()
            ways[0].end()
            await asyncio.wait_for(ends[0].ended.wait(), 5)
            asyncio.get_running_loop().remove_reader(others[1])
            for sock in (*clients, *taken[0], *taken[1], *others, *(way.sock for way in ways)):
                sock.close()

    asyncio.run(go())


def test_a_picture_in_chunks_passes_and_one_too_large_is_refused_between_processes(paged: Server) -> None:
    picture = png()
    with kept(paged, 2) as connections:
        for one in connections:
            one.connection.request(
                "POST", "/page/answer", body=iter([picture[:20], picture[20:]]), encode_chunked=True
            )
            reply = one.connection.getresponse()
            assert (reply.status, "nothing to look at" in json.load(reply)["nothing"]) == (200, True)
            one.connection.close()
            one.connection.request(
                "POST", "/page/answer", body=b"--b", headers={"Content-Length": str(2**40)}
            )
            reply = one.connection.getresponse()
            assert (reply.status, "over the limit" in json.load(reply)["error"]) == (413, True)
            one.connection.close()
            assert one.ask("/gradio_api/info", None)[0] == 404
            assert one.ask()[0] == 200


def test_a_process_that_is_replaced_while_all_are_to_stop_is_not_ready_either(
    shipped: Path, tmp_path: Path
) -> None:
    with serving(tmp_path, MODEL, "--no-page", *TWO, "--stop-delay", "60") as server:
        server.process.send_signal(signal.SIGTERM)
        server.read_line("stopping in")
        processes(server)[0].kill()
        server.read_line("process . is there again")
        with kept(server, 4) as connections:
            assert len({one.process() for one in connections}) == 2
            assert [one.ask("/v2/health/ready", None)[0] for one in connections] == [503] * 4
            assert [one.ask()[0] for one in connections] == [200] * 4
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0


def test_a_newer_version_that_one_process_alone_has_open_is_counted_and_said(
    shipped: Path, tmp_path: Path
) -> None:
    def lay(name: str, year: str) -> None:
        path = tmp_path / name / f"{name}.fp16.onnx"
        part = path.with_suffix(".part")
        # a field that readers skip
        part.write_bytes(shipped.read_bytes() + b"\xfa\x3f\x04" + year.encode())
        part.replace(path)
        known = read_passport(shipped)
        stamp(path, dataclasses.replace(known, precision="fp16", created=f"{year}-01-01T00:00:00+00:00"))

    names = (MODEL, OTHER)
    for name in names:
        (tmp_path / name).mkdir()
        copy = tmp_path / name / f"{name}.onnx"
        shutil.copy(shipped, copy)
        shutil.copy(sidecar(shipped), sidecar(copy))
        lay(name, "2100")
    with serving(tmp_path, *names, "--no-page", *TWO) as server, kept(server, 2) as connections:
        assert len({one.process() for one in connections}) == 2
        for name, one in zip(names, connections, strict=True):  # whichever process is the first
            assert one.ask(f"/v2/models/{name}/versions/fp16/infer")[0] == 200
        for name in names:
            lay(name, "2101")
        for _ in names:
            server.read_line(r"reloaded .*fp16")
        counted = [total(server, f'cnnkit_reloads_total{{model="{name}"}}') for name in names]
        assert counted == [1, 1]
