"""Children end with the block that runs them, and with the process that does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import REPO
from toolkit.processes import child

STUBBORN = ["sh", "-c", "trap '' TERM; sleep 100 & echo $!; wait; wait"]
STARTS_ONE = """
import subprocess, sys, time
from toolkit.processes import child
with child(["sleep", "100"], grace_s=0) as process:
    print(process.pid, flush=True)
    time.sleep(100)
"""


def is_there(process: int) -> bool:
    """Tell whether a process runs; one that has ended and that nobody asked about does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(process: int) -> bool:
    ends = time.monotonic() + 5
    while is_there(process) and time.monotonic() < ends:
        time.sleep(0.01)
    return not is_there(process)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of processes in /proc")
def test_a_child_that_does_not_end_is_killed_with_what_it_started() -> None:
    with child(STUBBORN, grace_s=0.05, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        other = int(process.stdout.readline())
        assert is_there(other)
    assert process.returncode == -signal.SIGKILL
    assert process.stdout.closed
    assert wait_until_gone(other)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_a_child_ends_with_a_parent_that_is_killed() -> None:
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    words = [sys.executable, "-c", STARTS_ONE]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        other = int(parent.stdout.readline())
        parent.kill()
    assert wait_until_gone(other)
