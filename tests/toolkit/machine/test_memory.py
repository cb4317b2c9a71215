"""What a process held at most is its own, whoever started it."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = "from toolkit.training.process.usage import peak_memory_bytes; print(peak_memory_bytes())"


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's counter of a program exists on Linux alone")
def test_a_peak_of_memory_is_the_child_s_own_and_not_its_parent_s() -> None:
    held = b"x" * (400 << 20)  # this process's, as a notebook holds arrays beside a sweep
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert 1 << 20 < int(done.stdout) < len(held) // 2
