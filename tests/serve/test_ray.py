"""Replicas on Ray, behind its own proxy: the same answers, whoever dies; a real Ray on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest
from click.testing import CliRunner

from cnnkit import front_door
from serve.api import Receive, Scope, Send
from serve.classifier import Classifier
from serve.counts import Counts
from serve.hosting import HostingPlace, replicas_of
from serve.hosting._ray_machines import cpus_each, gpus_each, insist_on_files, proxy_place, wanted_files
from serve.hosting._ray_page import PageReplica
from serve.hosting._ray_replica import GONE_S, MOST_GONE, Gatherer, counts_of
from serve.hosting.ray import _anywhere
from serve.lineup import line_up
from serve.reload import Reloader
from serve.served import ServedModel
from serve.settings import OpeningSettings, ServeSettings
from tests.benchmarks.bench_hosting import other_version, roll
from tests.serve.conftest import MODEL, Server, png, serving, tensor
from toolkit.artifacts import hash_file, open_artifact, sidecar
from toolkit.backends import BACKENDS, DEFAULT_BACKEND, EngineOptions
from toolkit.clusters.ray import RayMachine, began_here, connected, nodes
from toolkit.errors import CnnkitError, NotFoundError

Rows = np.ndarray[Any, np.dtype[np.float32]]
SETTLED_S = 30.0
# Ray's own beginning takes 7 s, and many times that beside other work
BEGUN_S = 240.0


@pytest.fixture(scope="session")
def ray() -> None:
    pytest.importorskip("ray.serve", reason="Ray is not installed (extra ray)")


@contextlib.contextmanager
def on_ray(root: Path, *args: str) -> Iterator[Server]:
    """Serve on a Ray of its own; when the block ends a signal has ended all of it, and nothing is left."""
    with (
        # no other Ray of this machine, as another test may have, is then taken for the one to be used
        tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder,
        serving(
            *(root, MODEL, "--on", "ray", "--threads", "1", *args),
            env={**os.environ, "RAY_TMPDIR": folder},
            ready_s=BEGUN_S,
            ended_s=BEGUN_S,  # what takes long to begin takes long to end
        ) as server,
    ):
        yield server
        begun = psutil.Process(server.process.pid).children(recursive=True)
    assert server.process.returncode == 0, server.log
    assert "Traceback" not in server.log
    _, left = psutil.wait_procs(begun, timeout=SETTLED_S)
    assert left == []


def replicas(server: Server) -> list[psutil.Process]:
    """Return the processes of the API's replicas."""
    found = []
    for process in psutil.Process(server.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any("ServeReplica:cnnkit:api" in word for word in process.cmdline()):
                found.append(process)
    return found


class Askers:
    """Threads that ask without pause, each with its own rows, and hold each answer against the right one."""

    def __init__(self, server: Server, rows: Rows, *right: Rows, retries: int) -> None:
        """`right` are what versions answer, each of which may be the one that answers."""
        self.server, self.rows, self.right, self.retries = server, rows, right, retries
        self.answered = self.wrong = self.failed = 0
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(4)]

    def __enter__(self) -> Askers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        given = self.rows[number % len(self.rows)][None]
        right = [one[number % len(self.rows)] for one in self.right]
        while not self._over.is_set():
            found = self._tried(given)
            if found is None:
                self.failed += 1
                continue
            self.answered += 1
            self.wrong += not any(np.allclose(found, one, rtol=1e-5, atol=1e-5) for one in right)

    def _tried(self, given: Rows) -> list[float] | None:
        for _ in range(self.retries + 1):
            with contextlib.suppress(OSError, ValueError):
                answer = self.server.infer({"inputs": [tensor(given)]})
                if answer.status == 200:
                    data: list[float] = answer.json["outputs"][0]["data"]
                    return data
            time.sleep(0.05)
        return None


def test_of_a_replica_that_is_silent_only_what_grows_is_told() -> None:
    counts = Counts(totals={("requests", "page", "200"): 3.0}, levels={("waiting_pictures",): 2.0})
    gatherer = Gatherer()
    gatherer.report("gone", msgspec.msgpack.encode(counts))
    for gone_s, lives in ((60.0, True), (-1.0, False)):
        told = counts_of(*gatherer.all(gone_s)["gone"])
        assert told.totals == counts.totals
        assert bool(told.levels) == lives


def test_the_pages_replica_takes_up_newer_weights(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = asyncio.Event()

    async def run(reloader: Reloader) -> None:
        looked.set()

    monkeypatch.setattr(Reloader, "run", run)
    settings = ServeSettings(opening=OpeningSettings(root=tmp_path), page=False)
    replica = PageReplica((MODEL,), settings)

    async def page(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": f"{scope['type']}.response.start", "status": 200})

    async def go() -> None:
        replica.app.page = page
        scope: Scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        async for _ in replica.answer(scope, b""):
            await asyncio.wait_for(looked.wait(), 10)

    asyncio.run(go())


@pytest.fixture(scope="module")
def right(shipped: Path, rows: Rows, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    opening = OpeningSettings(root=tmp_path_factory.mktemp("empty"))
    return np.asarray(Classifier(opening.find(MODEL, DEFAULT_BACKEND), DEFAULT_BACKEND).run(rows)[0])


def test_two_replicas_answer_as_one_process_does_and_one_may_die(
    ray: None, rows: Rows, right: Rows, tmp_path: Path
) -> None:
    """One Ray for all of it: to begin and end one takes most of this test's time."""
    with on_ray(tmp_path, "--no-page", "--replicas", "2") as server:
        plain = server.infer({"inputs": [tensor(rows)]})
        np.testing.assert_allclose(np.ravel(plain.json["outputs"][0]["data"]), right.ravel(), rtol=1e-5)
        packed = gzip.compress(b'{"inputs": [' + repr(tensor(rows)).replace("'", '"').encode() + b"]}")
        again = server.ask("POST", f"/v2/models/{MODEL}/infer", packed, {"Content-Encoding": "gzip"})
        assert again.json["outputs"] == plain.json["outputs"]
        refused = server.infer({"inputs": [tensor(rows, shape=[3, 1, 28, 27])]})
        assert (refused.status, list(refused.json)) == (400, ["error"])
        large = np.repeat(rows, 2_000, axis=0)
        head = b'{"inputs": [{"name": "input", "shape": [6000, 1, 28, 28], "datatype": "FP32", "parameters": '
        head += b'{"binary_data_size": %d}}]}' % large.nbytes
        sent = server.ask(
            *("POST", f"/v2/models/{MODEL}/infer", head + large.tobytes()),
            {"Inference-Header-Content-Length": str(len(head))},
        )
        assert sent.json["outputs"][0]["shape"] == [6000, 10]
        assert len(replicas(server)) == 2
        with Askers(server, rows, right, retries=20) as asking:
            time.sleep(1)
            replicas(server)[0].send_signal(signal.SIGKILL)
            time.sleep(3)
        assert asking.answered > 0  # how many depends on the machine
        assert (asking.wrong, asking.failed) == (0, 0)
        told = set(
            re.findall(
                r'cnnkit_requests_total\{.*replica="(\w+)"', server.ask("GET", "/metrics").body.decode()
            )
        )
        assert len(told) >= 2


# what differs behind Ray, and why
OTHERWISE = {
    "test_every_answer_names_its_engine_and_request": "Ray's proxy gives a client's odd X-Request-Id back",
    "test_metrics_count_what_happened": "every series has the label of its replica",
    "test_statistics_count_what_was_asked": "what another replica counted is half a second old",
}


@pytest.mark.slow
def test_the_apis_own_tests_pass_through_the_proxy(ray: None, tmp_path: Path) -> None:
    with on_ray(tmp_path, "--no-page", "--replicas", "2") as server:
        files = (
            f"tests/serve/{name}" for name in ("test_api.py", "test_triton_client.py", "test_openapi.py")
        )
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
        done = subprocess.run(
            [*command, "-k", f"not ({' or '.join(OTHERWISE)})"],
            env={**os.environ, "CNNKIT_TEST_API": str(server.port)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-6000:]


@pytest.mark.slow
def test_the_page_is_one_replica_behind_those_of_the_api(ray: None, tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="Gradio is not installed (extra page)")
    with on_ray(tmp_path, "--replicas", "2") as server:
        for _ in range(10):  # each of the API's replicas passes some of them on
            assert b"<html" in server.ask("GET", "/").body
            assert server.ask("GET", "/page/about").status == 200
            assert server.ask("POST", "/page/answer", png()).status == 200
        assert server.ask("POST", "/page/answer", b"no picture").status == 422
        assert server.ask("GET", "/page/nowhere").json == {"error": "there is nothing here"}
        assert len(replicas(server)) == 2


@pytest.mark.slow
def test_a_queue_brings_another_replica(ray: None, rows: Rows, right: Rows, tmp_path: Path) -> None:
    with on_ray(tmp_path, "--no-page", "--replicas", "1-2", "--max-batch", "2") as server:
        assert len(replicas(server)) == 1
        with Askers(server, rows, right, retries=0) as asking:
            end = time.monotonic() + BEGUN_S
            while len(replicas(server)) < 2 and time.monotonic() < end:
                time.sleep(1)
        assert len(replicas(server)) == 2
        assert (asking.wrong, asking.failed) == (0, 0)


@pytest.mark.slow
def test_a_newer_artifact_rolls_through_without_a_failed_request(
    ray: None, shipped: Path, rows: Rows, right: Rows, tmp_path: Path
) -> None:
    graph = tmp_path / MODEL / shipped.name
    graph.parent.mkdir()
    for file in (shipped, sidecar(shipped)):
        shutil.copy(file, graph.parent / file.name)
    other = other_version(tmp_path)
    with BACKENDS.load(DEFAULT_BACKEND).open(open_artifact(other), EngineOptions()) as engine:
        later = engine.logits(rows)
    with on_ray(tmp_path, "--no-page", "--replicas", "2") as server:
        with Askers(server, rows, right, later, retries=0) as asking:
            time.sleep(1)
            roll(graph, other)
            time.sleep(8)
        assert asking.answered > 0  # how many depends on the machine
        assert (asking.wrong, asking.failed) == (0, 0)
        with Askers(server, rows, later, retries=0) as asking:
            time.sleep(1)
        assert (asking.wrong, asking.failed) == (0, 0)


@pytest.mark.slow
def test_a_lost_node_costs_its_replica_alone(ray: None, rows: Rows, right: Rows, tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "include_dashboard": False},
        shutdown_at_exit=True,
    )
    try:
        second = cluster.add_node(num_cpus=1)
        (seen,) = line_up([MODEL], DEFAULT_BACKEND, OpeningSettings(root=tmp_path), others=False)
        assert seen.artifact is not None
        other = replace(seen.artifact, passport=replace(seen.artifact.passport, sha256="0" * 64))
        with connected(cluster.address) as reached:
            assert reached == cluster.address
            assert not began_here()
            assert [one.heads for one in nodes()].count(True) == 1
            insist_on_files(nodes(), [seen])
            with pytest.raises(NotFoundError, match=r"of the cluster does not see .*, or sees another file"):
                insist_on_files(nodes(), [replace(seen, artifact=other)])
        _refused_by_what_is_there(cluster.address)
        place = ("--on", f"ray:{cluster.address}", "--replicas", "2", "--threads", "1")
        with serving(tmp_path, MODEL, "--no-page", *place, ready_s=BEGUN_S) as server:
            with Askers(server, rows, right, retries=200) as asking:
                time.sleep(1)
                cluster.remove_node(second, allow_graceful=False)
                time.sleep(5)
            assert asking.answered > 0
            assert (asking.wrong, asking.failed) == (0, 0)
        assert server.process.returncode == 0, server.log
    finally:
        cluster.shutdown()


def _refused_by_what_is_there(address: str) -> None:
    """Ask for a port that another program has, and for one beside a Serve that listens on another."""
    from ray import serve

    def said(port: int) -> str:
        command = ["serve", MODEL, "--no-page", "--on", f"ray:{address}", "--port", str(port)]
        result = CliRunner().invoke(front_door.main, command)
        assert result.exit_code in (1, 3)
        return result.stderr

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = int(taken.getsockname()[1])
        assert f"Ray's proxy cannot listen on 127.0.0.1:{port} of the head's machine: " in said(port)
    with connected(address):
        assert not serve.status().proxies  # that was ended again
        serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
    assert f"the Serve that runs on that Ray listens on 127.0.0.1:{port} and stays there" in said(port + 1)
    with connected(address):
        assert serve.status().proxies
        serve.shutdown()


@pytest.mark.parametrize(
    ("cores", "least", "booked"), [((2.0,), 2, 1.0), ((1.0, 1.0), 3, 0.5), ((4.0,), 2, 2.0)]
)
def test_replicas_book_what_their_machines_have(cores: tuple[float, ...], least: int, booked: float) -> None:
    machines = [
        RayMachine(id=str(n), name=str(n), cpus=cpus, gpus=0.0, memory_bytes=0)
        for n, cpus in enumerate(cores)
    ]
    threads = 2 if cores == (4.0,) else 1
    said: list[str] = []
    settings = ServeSettings(opening=OpeningSettings(threads=threads), replicas=(least, least))
    assert cpus_each(machines, settings, said.append) == booked
    assert bool(said) is (booked < threads)
    assert all("wait for one another" in line for line in said)
    cpus_each(machines, replace(settings, replicas=(1, 64)), said.append)
    assert f"{int(sum(cores)) // threads} replica" in said[-1]
    assert "of 64 have cores at once" in said[-1]


def test_a_replica_on_cuda_books_a_gpu(tmp_path: Path) -> None:
    (cpu,) = line_up([MODEL], DEFAULT_BACKEND, OpeningSettings(root=tmp_path), others=False)
    cuda, said = replace(cpu, backend=BACKENDS.load("trt")), list[str]()
    machines = [RayMachine(id="1", name="one/1", cpus=8.0, gpus=2.0, memory_bytes=0, heads=True)]
    settings = ServeSettings(opening=OpeningSettings(device="cuda"), replicas=(2, 4))
    usual = replace(settings, opening=OpeningSettings(), replicas=(1, 2))

    def booked(wanted: ServeSettings, *served: ServedModel) -> int:
        return gpus_each(machines, wanted, served, said.append)

    assert (booked(usual, cpu), booked(usual, cpu, cuda), said) == (0, 1, [])
    assert booked(settings, cpu) == 1
    assert "2 replicas of 4 have a GPU at once" in said[0]
    why = "3 replicas on cuda compute on a GPU each, and the cluster has 2: give fewer --replicas, or"
    for wanted, served, instead in ((settings, cpu, "--device cpu"), (usual, cuda, "--backend ort")):
        with pytest.raises(CnnkitError, match=f"{why} {instead}"):
            booked(replace(wanted, replicas=(3, 3)), served)
    with pytest.raises(CnnkitError, match="--device cuda:1 names a GPU of one machine"):
        booked(replace(settings, opening=OpeningSettings(device="cuda:1")), cpu)
    assert proxy_place(machines, "::1", 80) == "http://[::1]:80 of one"
    here = [replace(machines[0], name=socket.gethostname())]
    assert proxy_place(here, "127.0.0.1", 80) == "http://127.0.0.1:80"


def test_replicas_that_live_are_never_forgotten_however_many_there_are() -> None:
    gatherer = Gatherer()
    names = [str(number) for number in range(2 * MOST_GONE)]
    for name in names:
        gatherer.report(name, b"")
    assert list(gatherer.all()) == names
    for name in names[:-1]:
        gatherer.told_at[name] -= 2 * GONE_S
    gatherer.report(names[-1], b"")
    assert list(gatherer.all()) == names[-MOST_GONE - 1 :]


def test_where_it_runs_is_read_or_refused_in_words() -> None:
    assert HostingPlace.of(None) == HostingPlace(name="local")
    assert HostingPlace.of("ray:head:6379") == HostingPlace(name="ray", address="head:6379")
    assert (replicas_of("2"), replicas_of("1-4")) == ((2, 2), (1, 4))
    with pytest.raises(NotFoundError, match="no place to serve 'rai'; known: local, ray"):
        HostingPlace.of("rai")
    for text, why in (("local:here", "local has no address"), ("ray:", "its address is lacking")):
        with pytest.raises(CnnkitError, match=rf"{why}; possible: local, ray\[:ADDRESS\]"):
            HostingPlace.of(text)
    assert CliRunner().invoke(front_door.main, ["serve", "--on", "local:here"]).exit_code == 2
    for text in ("0", "3-2", "many"):
        with pytest.raises(ValueError, match="two as in 1-4"):
            replicas_of(text)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--replicas", "2"), "--replicas are of a cluster, `--on ray`"),
        (("--on", "ray", "--processes", "2"), "--processes is for one machine: on a cluster `--replicas N`"),
        (("--on", "ray", "--grpc-port", "0"), "--grpc-port is for one machine"),
        (("--on", "ray", "--model-control"), "--model-control is for one machine"),
    ],
)
def test_what_a_place_cannot_do_is_refused(shipped: Path, options: tuple[str, ...], why: str) -> None:
    result = CliRunner().invoke(front_door.main, ["serve", MODEL, "--no-page", *options])
    assert result.exit_code == 1
    assert why in result.stderr


def test_a_taken_port_is_refused_before_ray_begins_but_not_where_one_runs(
    ray: None, shipped: Path, api: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("serve.hosting.ray.runs_here", lambda: False)
    command = ["serve", MODEL, "--no-page", "--on", "ray", "--port", str(api.port)]
    result = CliRunner().invoke(front_door.main, command)
    assert result.exit_code == 1
    assert f"cannot listen on 127.0.0.1:{api.port}" in result.stderr

    def unreached(*_: object, **__: object) -> None:
        raise CnnkitError("asked whether a Serve listens there")

    monkeypatch.setattr("serve.hosting.ray.runs_here", lambda: True)  # with a Serve that may have the port
    monkeypatch.setattr("serve.hosting.ray.connected", unreached)
    assert "asked whether a Serve listens there" in CliRunner().invoke(front_door.main, command).stderr


def test_the_file_of_ones_own_network_is_one_that_every_machine_must_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text("MODELS = ()")
    opening = OpeningSettings(root=Path("artifacts"), model_file=Path("net.py"))
    meant = _anywhere(ServeSettings(opening=opening), "head:6379").opening
    assert (meant.root, meant.model_file) == (tmp_path / "artifacts", tmp_path / "net.py")
    assert wanted_files([], Path("net.py")) == {str(tmp_path / "net.py"): hash_file(tmp_path / "net.py")}


def test_a_ray_that_does_not_answer_is_named(ray: None, shipped: Path) -> None:
    command = ["serve", MODEL, "--no-page", "--on", "ray:127.0.0.1:1"]
    result = CliRunner().invoke(front_door.main, command)
    assert result.exit_code == 3
    assert "no Ray answers at 127.0.0.1:1" in result.stderr
