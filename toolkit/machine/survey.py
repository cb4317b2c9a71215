"""What this machine is: system, processor, memory, GPUs, driver and packages."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass

from toolkit.machine.cpu import Cpu, cpu
from toolkit.machine.cuda import Gpu, driver_trouble, driver_version, gpus
from toolkit.machine.packages import missing, requirements


@dataclass(frozen=True, kw_only=True)
class Machine:
    """This machine in facts; `missing` says for each package that is not here what to type.

    `driver_why_not` says why no GPU can be used through NVIDIA's driver, None where it runs.
    """

    python: str
    system: str
    cpu: Cpu
    memory_bytes: int | None
    gpus: tuple[Gpu, ...]
    driver_cuda: str | None
    driver_why_not: str | None
    packages: dict[str, str]
    missing: dict[str, str]


def system_name() -> str:
    """Return the operating system and the kind of processor that it is for: `Linux x86_64`."""
    return f"{platform.system()} {platform.machine()}"


def machine() -> Machine:
    """Look at everything; imports no heavy package."""
    return Machine(
        python=platform.python_version(),
        system=system_name(),
        cpu=cpu(),
        memory_bytes=physical_memory(),
        gpus=gpus(),
        driver_cuda=driver_version(),
        driver_why_not=driver_trouble(),
        packages={one.package: one.version for one in requirements() if one.version},
        missing=missing(),
    )


def physical_memory() -> int | None:
    """Return the bytes of memory that this machine has; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None
