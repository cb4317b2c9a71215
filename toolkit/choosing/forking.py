"""A process that has imported a runtime and forks those of its candidates: none of them imports it again.

    python -m toolkit.choosing.forking FD BACKEND

Each candidate still has a process of its own, which may hang or crash alone. What is confirmed is started
afresh instead: forked processes share where their libraries lie, and so a part of their luck.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle

from toolkit.backends import BACKENDS
from toolkit.choosing.starting import start
from toolkit.choosing.worker import serve
from toolkit.closing import Closable
from toolkit.processes import end_with_parent

SERVER = "toolkit.choosing.forking"
# until a runtime is imported
IMPORT_S = 60.0
# how often a process that is waited for is looked at
LOOK_S = 0.005


@dataclass(frozen=True, kw_only=True)
class ForkWorker:
    """Fork a process that serves the pipe and writes to the file that are sent next."""


@dataclass(frozen=True, kw_only=True)
class AwaitWorker:
    """Wait for a forked process to end, so many seconds at most."""

    pid: int
    seconds: float


class ForkedProcess:
    """A process that was forked by a server, with as much of `subprocess.Popen` as a candidate's needs."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        self.server, self.pid = server, pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return its status, as Popen does; None while it runs."""
        return self.wait(0)

    def wait(self, timeout: float = 60.0) -> int | None:
        """Return its status once it has ended, None where it has not in that time."""
        if self.returncode is None:
            self.returncode = self.server.status(AwaitWorker(pid=self.pid, seconds=timeout))
        return self.returncode


class ForkServer:
    """A backend's process that forks, from outside; to be closed after what it forked."""

    def __init__(self, backend: str) -> None:
        """Start the process; the runtime is imported meanwhile."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = start(SERVER, theirs.fileno(), backend, told=subprocess.DEVNULL)
        self._pipe: Connection[ForkWorker | AwaitWorker, int | None] = Connection(ours.detach())

    def fork(self, pipe: int, told: int) -> ForkedProcess | None:
        """Return a process that serves a pipe; None where the runtime cannot even be imported."""
        try:
            self._pipe.send(ForkWorker())
            for each in (pipe, told):
                send_handle(self._pipe, each, self._process.pid)
            pid = self._pipe.recv() if self._pipe.poll(IMPORT_S) else None
        except (EOFError, OSError, RuntimeError):
            pid = None
        if pid is None:
            # an answer that came late would be taken for another fork's, and two would read one pipe
            self._process.kill()
        return ForkedProcess(self, pid) if pid is not None else None

    def status(self, asked: AwaitWorker) -> int | None:
        """Return the status of a process that it forked; None where that still runs.

        With the server, the processes that it forked are ended, too.
        """
        try:
            self._pipe.send(asked)
            return self._pipe.recv()
        except (EOFError, OSError):
            return -signal.SIGKILL

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.kill()
        self._process.wait()


class ForkServers(Closable):
    """The servers of several backends by name; use as a context manager."""

    def __init__(self, backends: Iterable[str] = ()) -> None:
        self._by_backend: dict[str, ForkServer] = {}
        self.start(backends)

    def start(self, backends: Iterable[str]) -> None:
        """Have the runtimes of those backends imported that may be before a fork, each once."""
        for name in backends:
            backend = BACKENDS.load(name)
            if name not in self._by_backend and backend.forks and backend.installed():
                self._by_backend[name] = ForkServer(name)

    def of(self, backend: str) -> ForkServer | None:
        """Return a backend's server, None where it has none."""
        return self._by_backend.get(backend)

    def close(self) -> None:
        """End every server."""
        while self._by_backend:
            self._by_backend.popitem()[1].close()


def main(words: Sequence[str]) -> None:
    """Import a backend's runtime, and fork as asked until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    pipe: Connection[int | None, ForkWorker | AwaitWorker] = Connection(int(words[0]))
    BACKENDS.load(words[1]).import_runtime()
    while True:
        try:
            asked = pipe.recv()
        except (EOFError, OSError):
            return
        pipe.send(_forked(pipe) if isinstance(asked, ForkWorker) else _status(asked))


def _forked(pipe: Connection[int | None, ForkWorker | AwaitWorker]) -> int:
    """Return the number of a new process, which leads a group of its own."""
    own, told = recv_handle(pipe), recv_handle(pipe)
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        end_with_parent()
        pipe.close()
        for stream in (1, 2):
            os.dup2(told, stream)
        serve(own)
        os._exit(0)
    os.setpgid(pid, pid)  # whichever of the two comes first: who is told the number may end the group at once
    for each in (own, told):
        os.close(each)
    return pid


def _status(asked: AwaitWorker) -> int | None:
    ends = time.monotonic() + asked.seconds
    while True:
        done, status = os.waitpid(asked.pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= ends:
            return None
        time.sleep(LOOK_S)


if __name__ == "__main__":
    main(sys.argv[1:])
