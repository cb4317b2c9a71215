"""`cnnkit train` by torchrun and with --ranks: real processes from the command line."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

TRAIN = ["train", "lenet-dropout", "--dataset", "fashion-mnist-sample", "--images", "300", "--json"]
TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node"]
FOREVER = ["--epochs", "5000", "--save-every", "0"]


def cnnkit(root: Path, *more: str, torchrun: int | None = None) -> list[str]:
    begin = [*TORCHRUN, str(torchrun)] if torchrun else []
    return [sys.executable, *begin, "-m", "cnnkit", *TRAIN, "--artifacts", str(root), *more]


def done(command: list[str]) -> dict[str, Any]:
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert ran.returncode == 0, ran.stderr
    report: dict[str, Any] = json.loads(ran.stdout)  # one object: the first rank's
    return report


def test_torchrun_and_ranks_give_the_same_bytes(tmp_path: Path) -> None:
    launched = done(cnnkit(tmp_path / "launched", "--epochs", "1", torchrun=2))
    spawned = done(cnnkit(tmp_path / "spawned", "--epochs", "1", "--ranks", "2"))
    assert launched["sha256"] == spawned["sha256"]
    assert launched["history"][0]["val_loss"] == spawned["history"][0]["val_loss"]
    assert len(list(tmp_path.glob("*/*/runs/*"))) == 2  # the first rank's alone


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 4])
def test_torchrun_trains_with_any_number_of_ranks(count: int, tmp_path: Path) -> None:
    plain = done(cnnkit(tmp_path / "plain", "--epochs", "1"))
    launched = done(cnnkit(tmp_path / "launched", "--epochs", "1", torchrun=count))
    assert (launched["sha256"] == plain["sha256"]) == (count == 1)
    assert launched["history"][0]["train_loss"] == pytest.approx(plain["history"][0]["train_loss"], rel=0.05)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Return a training of two ranks that has saved a state."""
    command = cnnkit(tmp_path, *FOREVER, "--ranks", "2", "--stall-limit", "10")
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + 120
        while not list(tmp_path.rglob("latest.state")) and time.monotonic() < until:
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        yield process
    finally:
        process.kill()
        process.communicate()


def ranks_of(process: subprocess.Popen[str]) -> dict[int, int]:
    """Return the processes of a training's ranks by number."""
    found = {}
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for child in children:
        told = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        found |= {int(one.removeprefix(b"RANK=")): int(child) for one in told if one.startswith(b"RANK=")}
    return found


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists() or ") Z " in Path(f"/proc/{pid}/stat").read_text()


def test_a_killed_rank_ends_the_training_and_is_named(running: subprocess.Popen[str]) -> None:
    ranks = ranks_of(running)
    os.kill(ranks[1], signal.SIGKILL)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 1
    assert "error: rank 1 was killed by signal 9; the same command with --resume goes on" in said
    assert all(gone(pid) for pid in ranks.values())


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_hangs_ends_the_training_and_is_named(rank: int, running: subprocess.Popen[str]) -> None:
    ranks = ranks_of(running)
    os.kill(ranks[rank], signal.SIGSTOP)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 1
    # with rank 0 the store is gone, too, through which others say for how long they waited
    assert re.search(
        rf"error: rank {rank} did not answer( for 6 s)?; the same command with --resume goes on", said
    )
    assert all(gone(pid) for pid in ranks.values())


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_reaches_every_rank_once_and_the_state_is_saved(
    number: int, running: subprocess.Popen[str], tmp_path: Path
) -> None:
    ranks = ranks_of(running)
    running.send_signal(number)
    _, said = running.communicate(timeout=60)
    assert "error: stopped; the same command with --resume goes on where it was" in said
    assert all(gone(pid) for pid in ranks.values())
    assert list(tmp_path.rglob("latest.state"))


@pytest.mark.slow
def test_ranks_end_with_the_process_that_started_them(running: subprocess.Popen[str]) -> None:
    ranks = ranks_of(running)
    running.kill()
    running.communicate()
    until = time.monotonic() + 10
    while not all(gone(pid) for pid in ranks.values()) and time.monotonic() < until:
        time.sleep(0.1)
    assert all(gone(pid) for pid in ranks.values())


def test_what_all_ranks_are_refused_is_said_once(tmp_path: Path) -> None:
    command = cnnkit(tmp_path, "--dataset", "folder:/nowhere", torchrun=2)
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert ran.returncode == 1
    assert ran.stderr.count("error: no folder /nowhere") == 1
