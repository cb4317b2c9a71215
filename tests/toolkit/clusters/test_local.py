"""A command that runs on this machine ends with the process that runs it."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_a_child_ends_with_a_parent_that_is_killed() -> None:
    # whoever holds the other end of stderr is alive
    child = "import sys, time; print('begun', file=sys.stderr, flush=True); time.sleep(60)"
    code = f"from toolkit.clusters.local import run_child; run_child({[sys.executable, '-c', child]!r})"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) as parent:
        assert parent.stderr is not None
        assert parent.stderr.readline() == b"begun\n"
        parent.kill()
        assert parent.communicate(timeout=20) == (None, b"")
