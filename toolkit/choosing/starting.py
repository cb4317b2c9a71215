"""A module of the toolkit started as a process that is spoken to over a pipe."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import toolkit


def start(module: str, pipe: int, *words: str, told: IO[Any] | int) -> subprocess.Popen[bytes]:
    """Start a module with the process's end of a pipe as its first word; all that it says goes to `told`.

    The process leads a session of its own: a terminal's Ctrl-C does not come to it, and ending its group
    ends what it started.
    """
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, str(pipe), *words],
        stdin=subprocess.DEVNULL,
        stdout=told,
        stderr=told,
        pass_fds=[pipe],
        env=_environment(),
        start_new_session=True,
    )


def _environment() -> dict[str, str]:
    """Return this process's environment, with the source that it runs first on the path of modules."""
    source = str(Path(toolkit.__file__).parents[1])
    paths = [source, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in dict.fromkeys(paths) if path)}
