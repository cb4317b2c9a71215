"""What this machine has, each subject looked at in a process of its own: `python -m tests.gpu.facts torch`.

Prints one JSON object. A driver that hangs, or a package that crashes as it is imported, then costs that
subject and nothing else.
"""

from __future__ import annotations

import importlib.util
import json
import platform
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

RELEASE = Path("/proc/driver/nvidia/version")


def packages(names: list[str]) -> dict[str, Any]:
    """Return Python's version, and which modules can be imported, with the versions of their packages."""
    there = [name for name in names if importlib.util.find_spec(name) is not None]
    owners = metadata.packages_distributions()
    found = {name: owners.get(name, [name])[0] for name in there}
    versions = {name: _version(package) for name, package in found.items()}
    return {"python": platform.python_version(), "system": platform.platform(), "versions": versions}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "here"


def driver() -> dict[str, Any]:
    """Return what the NVIDIA driver says: its release, the CUDA that it serves, its GPUs."""
    text = RELEASE.read_text("utf-8") if RELEASE.is_file() else ""
    release = re.search(r"\b\d{3}\.\d+(\.\d+)?\b", text)
    try:
        from toolkit.machine.cuda import driver_trouble, driver_version, gpus
    except ImportError:  # without numpy there is no toolkit, and there may be a GPU all the same
        return {"release": release and release.group(), "cuda": None, "gpus": _listed()}
    shown = [f"{gpu.name} ({gpu.capability}, {gpu.memory_bytes / 2**30:.0f} GiB)" for gpu in gpus()]
    known = {"cuda": driver_version(), "gpus": shown, "why_not": driver_trouble()}
    return {"release": release and release.group(), **known}


def _listed() -> list[str]:
    """Return the GPUs that NVIDIA's own tool lists; none where the tool is not here."""
    try:
        said = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return said.stdout.splitlines()


def torch() -> dict[str, Any]:
    """Return PyTorch's version and CUDA, and why it cannot compute on the GPU (None where it can)."""
    import torch as library

    found = {"version": library.__version__, "cuda": library.version.cuda}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            three = (library.ones(1, device="cuda") + 2).item()
            why = None if three == 3 else f"1 + 2 is {three} there"
        except Exception as error:  # torch raises its own, and plain RuntimeError and AssertionError
            why = str(error).strip().splitlines()[0]
    if why:
        return {**found, "why_not": "; ".join([why, *(str(w.message) for w in said)])}
    return {**found, "why_not": None, "cudnn": library.backends.cudnn.version()}  # type: ignore[no-untyped-call]


LOOKS: dict[str, Callable[[], dict[str, Any]]] = {"driver": driver, "torch": torch}

if __name__ == "__main__":
    subject, *words = sys.argv[1:]
    print(json.dumps(packages(words) if subject == "packages" else LOOKS[subject]()))
