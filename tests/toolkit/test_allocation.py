"""Freed memory is kept for what comes next, which is proven by counting page faults."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import ctypes, resource, sys
from toolkit.allocation import give_back_freed_memory, reuse_freed_memory
PR_SET_THP_DISABLE = 41  # linux/prctl.h: some machines fault in 2 MiB at once, where others do a page
ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
if sys.argv[1] == "reuse":
    reuse_freed_memory()
def faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        b"x" * (64 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(2)
print(faults(10))
give_back_freed_memory()
print(faults(1))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's settings exist on Linux alone")
def test_a_block_that_is_freed_and_taken_again_is_faulted_in_once() -> None:
    def faults(how: str) -> list[int]:
        done = subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=True)
        return [int(line) for line in done.stdout.split()]

    # larger than glibc's own limit of 32 MiB, so it maps and unmaps such a block each time
    assert faults("default")[0] > 10 * 1000
    reused, given_back = faults("reuse")
    assert reused < 100
    assert given_back > 1000
