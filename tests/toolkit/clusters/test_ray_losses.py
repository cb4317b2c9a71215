"""Parts of a Ray cluster that go while work is on them, and commands that are stopped and go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hearing import CNNKIT
from tests.toolkit.clusters.conftest import TwoNodes, started
from toolkit.artifacts import hash_file
from toolkit.locking import lock
from toolkit.training.jobs import train
from toolkit.training.sweep import sweep
from toolkit.training.table import Table

pytest.importorskip("ray", reason="ray is not installed (extra ray)")
pytest.importorskip("torch")

CELL = {"dataset": "fashion-mnist-sample", "images": 300, "epochs": 60, "threads": 1}
# a head's death is noticed after some ten seconds
LONG = {**CELL, "epochs": 200}


@pytest.fixture
def mortal(request: pytest.FixtureRequest) -> Iterator[TwoNodes]:
    """Start a cluster that a test may break; only its second machine has room, for one cell."""
    head_cpus, second_cpus = getattr(request, "param", (0, 1))
    with started(head_cpus, second_cpus) as made:
        yield made


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the hash of the cell's weights as this machine alone has them."""
    return hash_of(sweep("lenet-relu", root=tmp_path_factory.mktemp("here"), seed=[3], **CELL))


def hash_of(table: Table) -> str:
    (result,) = table.results
    assert result.report is not None
    return result.report.sha256


def wait_for(what: Callable[[], object], seconds: float = 240) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.05)


def epochs(root: Path) -> int:
    """Return how many epochs have come back of the one cell under a folder."""
    return sum(max(0, len(path.read_text("utf-8").splitlines()) - 1) for path in root.rglob("epochs.csv"))


def test_a_machine_that_is_lost_costs_its_cells_some_work_and_no_weight(
    mortal: TwoNodes, here: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    found: list[Table] = []

    def search() -> None:
        on = f"ray:{mortal.address}"
        found.append(sweep("lenet-relu", on=on, root=tmp_path, seed=[3], tell=said.append, **CELL))

    work = threading.Thread(target=search)
    work.start()
    try:
        wait_for(lambda: epochs(tmp_path) > 3)
        label, _, first = next(line for line in said if ": on " in line).partition(": on ")
        mortal.cluster.remove_node(mortal.second, allow_graceful=False)
        wait_for(lambda: any("; it runs again" in line for line in said))
        mortal.add()
    finally:
        work.join()
    assert hash_of(found[0]) == here
    assert not list(tmp_path.rglob("*.part"))
    lost = next(line for line in said if "; it runs again" in line)
    assert lost.startswith(f"{label}: {first} was lost (")
    assert f"{label}: on {found[0].results[0].where}" in said[said.index(lost) :]
    assert found[0].results[0].where != first
    assert capfd.readouterr() == ("", "")


def command(root: Path, on: str, cell: dict[str, Any]) -> list[str]:
    """Return a sweep of one cell as it is typed."""
    fixed = [word for name, value in cell.items() for word in (f"--{name}", str(value))]
    told = ["sweep", "lenet-relu", "--seed", "3", *fixed, "--on", on, "--artifacts", str(root)]
    return [*CNNKIT, *told]


def begun(root: Path, on: str, cell: dict[str, Any] = CELL) -> subprocess.Popen[str]:
    """Start the sweep and wait until its cell is in the middle."""
    process = subprocess.Popen(command(root, on, cell), stderr=subprocess.PIPE, text=True, process_group=0)
    wait_for(lambda: epochs(root) > 3)
    return process


def resumed(root: Path, on: str, cell: dict[str, Any] = CELL) -> str:
    """Go on with the sweep; return the hash of its cell's weights."""
    done = subprocess.run(
        [*command(root, on, cell), "--resume", "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (cell,) = json.loads(done.stdout)["cells"]
    return hash_file(Path(cell["checkpoint"]))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_sweep_goes_on_within_its_cell_on_the_cluster_or_here(
    number: int, mortal: TwoNodes, here: str, tmp_path: Path
) -> None:
    process = begun(tmp_path, f"ray:{mortal.address}")
    os.killpg(process.pid, number)
    _, said = process.communicate(timeout=90)
    assert process.returncode == 1
    assert "stopped after 0 of 1 cells; --resume goes on" in said
    assert "Traceback" not in said
    before = epochs(tmp_path)
    assert 3 < before < 60
    on = "local" if number == signal.SIGTERM else f"ray:{mortal.address}"
    assert resumed(tmp_path, on) == here
    (log,) = tmp_path.rglob("log.txt")
    assert "resuming" in log.read_text("utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("with_this_node", [True, False])
def test_a_head_that_dies_is_one_line_and_another_cluster_goes_on(
    with_this_node: bool, tmp_path: Path
) -> None:
    with started(head_cpus=0, second_cpus=1) as first:
        process = begun(tmp_path, f"ray:{first.address}", LONG)
        address, head = first.address, first.cluster.head_node
        if with_this_node:  # which the command is connected to: Ray ends the command
            first.cluster.remove_node(head, allow_graceful=False)
        else:
            head.kill_gcs_server()
        _, said = process.communicate(timeout=90)
    assert process.returncode == 1, said
    (error,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert (
        f"whose node on this machine, or the head at {address}, is gone"
        if with_this_node
        else f"the head node of Ray at {address} does not answer any more"
    ) in error
    assert "--resume" in error
    assert "Traceback" not in said
    with started() as second:
        there = resumed(tmp_path, f"ray:{second.address}", LONG)
    assert there == hash_of(sweep("lenet-relu", root=tmp_path / "here", seed=[3], **LONG))


@pytest.mark.slow
def test_a_sweep_that_another_command_works_on_is_left_to_it(two_nodes: TwoNodes, tmp_path: Path) -> None:
    on = f"ray:{two_nodes.address}"
    process = begun(tmp_path, on)
    typed = [*command(tmp_path, on, CELL), "--resume"]
    second = subprocess.run(typed, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert "another process works on the sweep in" in second.stderr
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=90)
    (held,) = tmp_path.rglob("sweep.lock")
    free = lock(held)
    assert free is not None
    free.close()


@pytest.mark.slow
def test_a_search_on_a_cluster_draws_the_trials_of_this_machine(two_nodes: TwoNodes, tmp_path: Path) -> None:
    given = {"dataset": "fashion-mnist-sample", "images": 200, "epochs": 2, "threads": 1, "search": 4}
    here = sweep("lenet-relu", root=tmp_path / "here", **given)
    there = sweep("lenet-relu", root=tmp_path / "there", on=f"ray:{two_nodes.address}", **given)
    told = [(one.values, one.status, one.report and one.report.sha256) for one in here.results]
    assert [(one.values, one.status, one.report and one.report.sha256) for one in there.results] == told
    assert len(told) == 4


@pytest.mark.slow
@pytest.mark.parametrize("mortal", [(1, 2)], indirect=True)
def test_a_rank_whose_machine_is_lost_ends_the_others_in_words_and_a_resume_ends_with_the_same_bytes(
    mortal: TwoNodes, tmp_path: Path
) -> None:
    fixed = {"dataset": "fashion-mnist-sample", "images": 300, "epochs": 40, "threads": 1, "ranks": 3}
    whole = train("lenet-relu", root=tmp_path / "here", **fixed)
    there = tmp_path / "there"
    failed: list[BaseException] = []

    def run() -> None:
        try:
            train("lenet-relu", on=f"ray:{mortal.address}", root=there, **fixed)
        except BaseException as error:
            failed.append(error)

    work = threading.Thread(target=run)
    work.start()
    try:
        wait_for(lambda: epochs(there) > 3)
        mortal.cluster.remove_node(mortal.second, allow_graceful=False)
    finally:
        work.join()
    assert "rank" in str(failed[0])
    assert "--resume goes on" in str(failed[0])
    mortal.add()
    again = train("lenet-relu", on=f"ray:{mortal.address}", root=there, resume=True, **fixed)
    assert again.checkpoint.passport.sha256 == whole.checkpoint.passport.sha256
