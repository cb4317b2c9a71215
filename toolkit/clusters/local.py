"""This machine, on which one command runs after another, each in a process of its own.

A command is stopped as it stops itself: the step ended, the state saved.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO

from toolkit.clusters import Cluster, Demand, Ended, Sent, Work, Workplace
from toolkit.processes import end_with_parent, stopped_as_by_ctrl_c
from toolkit.telling import Tell

# a terminal's Ctrl-C reaches the child, too, which then needs no word of ours
_BY_ITSELF_S, _ASKED_S = 10.0, 60.0
_LOOK_S = 0.5  # so often is asked whether the child has done enough


def run_child(
    command: Sequence[str],
    *,
    log: IO[bytes] | None = None,
    timeout_s: float | None = None,
    enough: Callable[[], bool] | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[int, bytes]:
    """Run a command to its end; return its exit status and what it printed on stdout.

    Its stderr goes to `log`, or where ours goes. Raises subprocess.TimeoutExpired after `timeout_s`, and
    KeyboardInterrupt when this process is stopped by Ctrl-C or a polite kill, once the child has saved
    what it needs to go on, or has taken too long to. The child never outlives the call, nor, on Linux, the
    thread that makes it. Where `enough`, which is asked now and then, says so, the child is ended, and its
    status is a signal's.
    """
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=log,
        stdin=subprocess.DEVNULL,
        env=os.environ | dict(environment or {}),
        preexec_fn=end_with_parent,  # noqa: PLW1509  (nothing that it needs is another thread's)
    )
    try:
        asked: list[int] = []

        def hand_on(number: int) -> None:
            asked.append(number)
            process.send_signal(number)

        with stopped_as_by_ctrl_c(hand_on):
            try:
                output = _output(process, timeout_s, enough)
            except KeyboardInterrupt:
                _wait(process, asked=bool(asked))
                raise
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    return process.returncode, output


def _output(
    process: subprocess.Popen[bytes], timeout_s: float | None, enough: Callable[[], bool] | None
) -> bytes:
    if enough is None:
        return process.communicate(timeout=timeout_s)[0]
    end = math.inf if timeout_s is None else time.monotonic() + timeout_s
    while True:
        try:
            return process.communicate(timeout=min(_LOOK_S, max(0.0, end - time.monotonic())))[0]
        except subprocess.TimeoutExpired:
            if time.monotonic() >= end:
                raise
            if enough():
                process.kill()
                return process.communicate()[0]


def _wait(process: subprocess.Popen[bytes], *, asked: bool) -> None:
    """Give a child time to save and end; ask it to where nobody has."""
    if not asked:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=_BY_ITSELF_S)
            return
        process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=_ASKED_S)


class LocalWorkplace(Workplace):
    """This machine."""

    def run(self, work: Work) -> Ended:
        command = [sys.executable, "-m", "cnnkit", *work.words("")]
        began = time.monotonic()
        with work.log.open("wb") as log:
            status, output = run_child(
                command,
                log=log,
                timeout_s=work.timeout_s,
                enough=work.enough,
                environment=work.variables(""),
            )
        wall_s = time.monotonic() - began
        return Ended(status=status, output=output, where=socket.gethostname(), wall_s=wall_s)


class LocalCluster(Cluster):
    """Runs work here; what it needs is taken as it comes."""

    name = "local"
    summary = "this machine, one after another"

    @contextlib.contextmanager
    def open(
        self, address: str | None, sent: Sent, need: Demand, *, tell: Tell, verbose: bool
    ) -> Iterator[Workplace]:
        yield LocalWorkplace()


CLUSTER = LocalCluster()
