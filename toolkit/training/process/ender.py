"""Ends a process that hangs with its interpreter locked: a program of its own, held off by beats.

No thread of the hanging process can run then, and an alarm of the system's cannot tell a hang from time in
which the process was stopped (Ctrl-Z, SIGSTOP): it is due at once when the process goes on. Another process
can, for it sees that one stopped. Started as a file, it imports nothing of what it watches over.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

_LOOKS = 20  # within the limit


def wait_for_beats(beats: int, process: int, limit_s: float) -> None:
    """Kill a process from which no byte came for so long; return when it closes its end of the pipe.

    Looks are counted and not a clock's seconds, so that time in which this process was stopped is one look.
    """
    idle, look_s = 0, limit_s / _LOOKS
    while idle < _LOOKS:
        ready, _, _ = select.select([beats], [], [], look_s)
        if ready and not os.read(beats, 4096):
            return
        idle = 0 if ready or _is_stopped(process) else idle + 1
    if os.getppid() == process:  # else it has ended, and its number may be another one's
        told = f"error: no step for {limit_s:.0f} s, and Python itself stands still; given up\n"
        os.write(sys.stderr.fileno(), told.encode())
        os.kill(process, signal.SIGKILL)


def _is_stopped(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].strip()
    except OSError:  # no Linux, or it has ended
        told = subprocess.run(
            ["ps", "-o", "state=", "-p", str(process)], capture_output=True, text=True, check=False
        )
        state = told.stdout.strip()
    return state[:1] in ("T", "t")


if __name__ == "__main__":
    wait_for_beats(sys.stdin.fileno(), int(sys.argv[1]), float(sys.argv[2]))
