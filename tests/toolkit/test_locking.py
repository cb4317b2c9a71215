"""A file that is held by one process at a time, and by none once that process is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

from tests.conftest import REPO
from toolkit.locking import held, lock

FORKS = """
import os, sys, time
from pathlib import Path
from toolkit.locking import lock
taken = lock(Path(sys.argv[1]))
if not os.fork():
    print(os.getpid(), flush=True)
time.sleep(100)
"""


def test_a_file_is_held_by_one_or_shared_by_several(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    path.write_text("mine")
    with held(path):
        assert lock(path) is lock(path, shared=True) is None
    one, other = lock(path, shared=True), lock(path, shared=True)
    assert one is not None
    assert other is not None
    assert lock(path) is None
    with one, other:
        assert path.read_text() == "mine"
    with held(path):
        pass


def test_a_file_that_its_holder_removes_is_held_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    taken: list[IO[str] | None] = []
    with held(path):
        waiting = threading.Thread(target=lambda: taken.append(lock(path, wait=True)))
        waiting.start()
        waiting.join(0.05)
        path.unlink()
    waiting.join()
    assert taken[0] is not None
    with taken[0]:
        assert lock(path) is None


def test_a_child_that_was_forked_off_does_not_hold_on(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    words = [sys.executable, "-c", FORKS, str(path)]
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            assert lock(path) is None
            parent.kill()
            parent.wait()
            taken = lock(path)
            assert taken is not None
            taken.close()
        finally:
            os.kill(child, signal.SIGKILL)
