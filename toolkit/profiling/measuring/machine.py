"""The machine that a profile was taken on."""

from __future__ import annotations

import os
import platform

from toolkit.machine.cpu import cpu
from toolkit.machine.cuda import gpus
from toolkit.machine.survey import system_name
from toolkit.profiling.machine import MachineFacts
from toolkit.profiling.result import threads_text


def describe_machine(threads: int | None) -> MachineFacts:
    """Return processor, cores, threads, affinity, GPUs and system: what a figure is worth nothing without."""
    return MachineFacts(
        processor=cpu().name,
        cores=os.cpu_count(),
        threads=threads,
        threads_say=threads_text(threads),
        affinity=tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else None,
        system=system_name(),
        python=platform.python_version(),
        load_average=os.getloadavg() if hasattr(os, "getloadavg") else None,
        gpus=tuple(f"{gpu.name} ({gpu.capability})" for gpu in gpus()),
    )
