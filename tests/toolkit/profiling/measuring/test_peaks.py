"""Peaks are those of the profile's threads, and a machine is busy where others want its cores."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from toolkit.machine.cpu import cpu
from toolkit.profiling.machine import Peaks
from toolkit.profiling.measuring.peaks import Others, _products, identity_of
from toolkit.profiling.measuring.yardstick import Yardstick


@pytest.mark.parametrize(
    ("threads", "cores", "others", "busy"),
    [
        (1, 1, 0.05, False),  # the profile by itself
        (1, 2, 1.0, False),  # they have a core of their own
        (1, 2, 1.6, True),
        (2, 2, 0.4, True),
        (1, 64, 3.0, False),
        (8, 2, 0.0, False),
        (1, 2, None, False),
    ],
)
def test_a_machine_is_busy_where_others_want_the_cores_that_measure(
    threads: int, cores: int, others: float | None, busy: bool
) -> None:
    assert Peaks(threads=threads, cores=cores, others_cores=others).busy is busy


linux = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system tells no affinity")


@linux
def test_what_another_process_computes_is_others() -> None:
    spin = "import time\nend = time.monotonic() + 1.5\nwhile time.monotonic() < end: pass"
    watched, child = Others(), subprocess.Popen([sys.executable, "-c", spin])
    child.wait()
    found = watched.cores()
    assert found is not None
    assert found > 0.2


@linux
def test_what_this_process_computes_is_not_others() -> None:
    watched, start = Others(), time.perf_counter()
    end = time.process_time() + 0.5
    while time.process_time() < end:
        pass
    found, wall = watched.cores(), time.perf_counter() - start
    assert found is not None
    # at most all that these cores can do besides, whoever does it
    assert found <= cpu().cores - 0.5 / wall + 0.1


def test_kept_peaks_are_of_the_cores_and_of_what_they_were_measured_with() -> None:
    identity = identity_of(1)
    assert identity.cores == cpu().cores
    assert identity.means.split()[0] in ("torch", "numpy")
    assert identity_of(2) != identity


def test_without_torch_a_product_on_fewer_threads_than_numpys_is_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # as where it is not installed
    assert _products("fp32", cpu().cores + 1) is None


@linux
def test_the_yardstick_takes_the_cores_that_this_process_may_use() -> None:
    """In a container with two of 64 cores it starts no 64 threads."""
    code = "from toolkit.profiling.measuring.yardstick import Yardstick; print(Yardstick(None).threads)"
    pinned = f"import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); {code}"
    result = subprocess.run([sys.executable, "-c", pinned], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "1"
    assert Yardstick(3).threads == 3
