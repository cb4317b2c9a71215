"""Ray's clusters: reached, refused in words, and silent."""

from __future__ import annotations

import http.server
import json
import signal
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.toolkit.clusters.conftest import TwoNodes
from toolkit.clusters import Demand, Ended, LostWorkError, Work, _ray_workplace
from toolkit.clusters._ray_connection import UnfitMachineError
from toolkit.clusters._ray_pieces import Piece
from toolkit.clusters._ray_workplace import LostMachineError, RayWorkplace
from toolkit.clusters.ray import CLUSTER, connected, insist_on_one_release, nodes
from toolkit.errors import CnnkitError, UnavailableError
from toolkit.training import Watcher
from toolkit.training.jobs import train
from toolkit.training.sweep import sweep
from toolkit.training.table import Table

pytest.importorskip("ray", reason="ray is not installed (extra ray)")


def test_a_cluster_is_reached_and_left_as_it_was(
    two_nodes: TwoNodes, capfd: pytest.CaptureFixture[str]
) -> None:
    import ray

    said: list[str] = []
    handler = signal.getsignal(signal.SIGTERM)
    for _ in range(2):
        with connected(two_nodes.address, tell=said.append):
            assert sorted(node.cpus for node in nodes()) == [1, 2]
            assert len({node.name for node in nodes()}) == 2
            insist_on_one_release(nodes())
        assert not ray.is_initialized()
    assert signal.getsignal(signal.SIGTERM) is handler
    assert said == [f"Ray {ray.__version__} at {two_nodes.address}: 2 machines, CPUs 3"] * 2
    assert capfd.readouterr() == ("", "")


def test_a_machine_with_another_release_is_named(
    two_nodes: TwoNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a package that only this process has
    about = tmp_path / "lone-1.0.dist-info" / "METADATA"
    about.parent.mkdir()
    about.write_text("Metadata-Version: 2.1\nName: lone\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with connected(two_nodes.address):
        name = nodes()[0].name
        with pytest.raises(CnnkitError, match=f"{name} has lone missing, and this machine lone 1.0: results"):
            insist_on_one_release(nodes(), ("cnnkit", "lone"))


def refusal(address: str) -> str:
    with pytest.raises(CnnkitError) as caught, connected(address):
        pass
    assert isinstance(caught.value, UnavailableError) == ("no Ray answers" in str(caught.value))
    return str(caught.value)


def test_an_address_that_does_not_answer_is_one_line() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        assert refusal(address).startswith(f"no Ray answers at {address}; `ray start --head` starts one")


def test_what_answers_and_is_no_ray_is_no_ray() -> None:
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert "no Ray answers at" in refusal(f"127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("address", ["head", "head:", ":6379", "head:port", "head:70000", "ray://head"])
def test_what_is_no_address_is_refused_with_what_one_looks_like(address: str) -> None:
    said = refusal(address)
    assert said.startswith(f"no address of Ray {address!r}: HOST:PORT of a head node")
    assert said.endswith("or ray://HOST:10001")


@pytest.mark.slow
def test_work_runs_on_machines_that_can_take_it_and_is_given_up_where_it_is_lost_time_and_again(
    two_nodes: TwoNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work(label="word", folder=tmp_path, log=tmp_path / "log.txt", words=lambda root: ["--version"])
    said: list[str] = []
    monkeypatch.setenv("RAY_ADDRESS", two_nodes.address)
    with CLUSTER.open(None, tuple, Demand(), tell=said.append, verbose=False) as place:
        assert isinstance(place, RayWorkplace)
        given = place._give
        refused: list[str] = []

        def give(sites: Sequence[tuple[str, Any]], held: list[Piece]) -> None:
            if not refused:
                refused.append(sites[0][0])
                raise UnfitMachineError(f"{refused[0]} is full; make room there")
            given(sites, held)

        monkeypatch.setattr(place, "_give", give)
        (tmp_path / "kept.txt").write_text("begun")
        ended = place.run(work)
        assert ended.status == 0
        assert ended.output.startswith(b"cnnkit")
        assert ended.where not in refused
        assert f"word: {refused[0]} is full; make room there; until then it runs on another machine" in said
        losses: list[int] = []

        def tried(work: Work) -> Ended:
            losses.append(len(losses))
            if losses[-1] < 3:
                (tmp_path / "good.state").write_text(f"{losses}")
            raise LostMachineError("its machine was lost")

        monkeypatch.setattr(place, "_tried", tried)
        with pytest.raises(LostWorkError, match="word was lost 5 times, at last because its machine was"):
            place.run(work)
        assert len(losses) == 7  # the first three brought newer states


@pytest.mark.slow
def test_work_that_only_a_full_machine_could_take_is_refused_and_waits_for_no_other(
    two_nodes: TwoNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need = Demand(cpus=2)  # as one of the two machines has
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "kept.txt").write_text("begun")
    log = folder / "log.txt"
    work = Work(label="word", folder=folder, log=log, words=lambda root: ["--version"], need=need)
    said: list[str] = []
    with CLUSTER.open(two_nodes.address, tuple, need, tell=said.append, verbose=False) as place:
        assert isinstance(place, RayWorkplace)

        def give(sites: Sequence[tuple[str, Any]], held: list[Piece]) -> None:
            raise UnfitMachineError("the second is full; make room there")

        monkeypatch.setattr(place, "_give", give)
        wanted = (
            "^the second is full; make room there: no other machine of the cluster has 2 CPUs; then the same"
        )
        for _ in range(2):  # asked in vain, then not asked again
            with pytest.raises(CnnkitError, match=wanted):
                place.run(work)
        assert not any("another machine" in line for line in said)
        monkeypatch.undo()
        monkeypatch.setattr(_ray_workplace, "_UNFIT_S", 0.0)
        assert place.run(work).status == 0  # there may be room again


FIXED = {"dataset": "fashion-mnist-sample", "images": 200, "threads": 1}


def hashes(table: Table) -> dict[str, str | None]:
    return {str(result.values): result.report and result.report.sha256 for result in table.results}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """Return the table of the cells that all tests compare with, as this machine alone has it."""
    return sweep("lenet-relu", root=tmp_path_factory.mktemp("here"), batch=[32, 64], epochs=2, **FIXED)


def test_a_sweep_has_the_table_of_this_machine(
    two_nodes: TwoNodes, here: Table, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    on = f"ray:{two_nodes.address}"
    table = sweep("lenet-relu", on=on, root=tmp_path, batch=[32, 64], epochs=2, tell=said.append, **FIXED)
    assert hashes(table) == hashes(here)
    assert None not in hashes(table).values()
    for result in table.results:
        assert result.report is not None
        assert Path(result.report.checkpoint).is_relative_to(tmp_path)
        assert Path(result.report.run, "epochs.csv").is_file()
        passport = Path(f"{result.report.checkpoint}.json").read_text("utf-8")
        assert "cnnkit-on-" not in passport
        assert any(line == f"batch {result.values['batch']}: on {result.where}" for line in said)
    assert len(list(tmp_path.rglob("log.txt"))) == 2
    assert capfd.readouterr() == ("", "")


def test_a_cell_that_no_machine_has_room_for_is_refused_before_anything_starts(
    two_nodes: TwoNodes, tmp_path: Path
) -> None:
    on = f"ray:{two_nodes.address}"
    with pytest.raises(CnnkitError, match=r"no machine of the cluster has 64 CPUs, .* has 2 CPUs and"):
        sweep("lenet-relu", on=on, root=tmp_path, batch=[32], **{**FIXED, "threads": 64})
    with pytest.raises(CnnkitError, match=r"no machine of the cluster has 1 CPU and 90000.0 GiB of memory"):
        sweep("lenet-relu", on=on, root=tmp_path, batch=[32], cell_memory_bytes=90_000 << 30, **FIXED)
    with pytest.raises(CnnkitError, match="names GPUs of one machine; --device cuda takes any"):
        sweep("lenet-relu", on=on, root=tmp_path, device="cuda:1", **FIXED)
    assert not list(tmp_path.iterdir())
    with pytest.raises(CnnkitError, match=r"4 ranks of 1 CPU each .* room for, which is 3: give"):
        train("lenet-relu", on=on, root=tmp_path, epochs=1, ranks=4, **FIXED)


@pytest.mark.slow
def test_ranks_on_a_cluster_train_as_ranks_of_this_machine(
    two_nodes: TwoNodes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    start = train("lenet-relu", root=tmp_path / "start", epochs=1, **FIXED).checkpoint
    weights = tmp_path / "weights.json"
    weights.write_text(json.dumps({name: 1 + len(name) for name in start.passport.classes}))
    read = {"pretrained": str(start.path), "class_weights": str(weights), "teacher": "lenet-maxpool"}
    fixed = {**FIXED, **read, "epochs": 2, "ranks": 2}
    watcher = Listener()
    on = f"ray:{two_nodes.address}"
    there = train("lenet-relu", on=on, root=tmp_path / "there", watcher=watcher, **fixed)
    assert capfd.readouterr() == ("", "")
    here = train("lenet-relu", root=tmp_path / "here", **fixed)
    assert there.checkpoint.passport.sha256 == here.checkpoint.passport.sha256
    assert there.folder.is_relative_to(tmp_path)
    assert there.records == here.records or there.records[-1].train_loss == here.records[-1].train_loss
    assert {line.partition(": on ")[0] for line in watcher.said if ": on " in line} == {"rank 0", "rank 1"}
    assert any(line.startswith("epoch 2 of 2") for line in watcher.said)


class Listener(Watcher):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)
