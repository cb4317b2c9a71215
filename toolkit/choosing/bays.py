"""A candidate in a process of its own, from outside: asked with a time limit, and ended where it hangs."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import IO, Any

from toolkit.choosing import Candidate, LostError
from toolkit.choosing.forking import ForkServer, ForkServers
from toolkit.choosing.requests import EngineOpened, OpenEngine, Request, RequestFailed, Response
from toolkit.choosing.starting import start
from toolkit.errors import CnnkitError

WORKER = "toolkit.choosing.worker"
# a runtime is imported and a network compiled in it, beside other work
OPENING_S = 60.0


class Bay:
    """The process of one candidate, to be closed; `takes` are its batches once it is open."""

    def __init__(self, candidate: Candidate, limit_s: float, server: ForkServer | None = None) -> None:
        """Start the process, or have a server fork it; `limit_s` is how long it may take to answer."""
        self.candidate, self.limit_s = candidate, limit_s
        ours, theirs = socket.socketpair()
        self._told = _scratch()
        with theirs:
            forked = server.fork(theirs.fileno(), self._told.fileno()) if server else None
            self._process = forked or start(WORKER, theirs.fileno(), told=self._told)
        self.pipe: Connection[Request, Response] = Connection(ours.detach())
        self.takes = EngineOpened(least=1, most=None)
        self._asked, self._allowed_s, self._asked_at = "", limit_s, 0.0

    @property
    def process(self) -> int:
        """The process's number."""
        return self._process.pid

    def ask(self, request: Request, more_s: float = 0.0) -> None:
        """Send a request that may take so many seconds more than usual, or less; do not wait.

        Raises LostError.
        """
        self._asked, self._allowed_s = _said(request), self.limit_s + more_s
        self._asked_at = time.monotonic()
        try:
            self.pipe.send(request)
        except OSError:
            raise LostError(self._ended()) from None

    @property
    def left_s(self) -> float:
        """The seconds that it still has for its answer."""
        return max(0.0, self._asked_at + self._allowed_s - time.monotonic())

    def take(self) -> Response:
        """Return the answer to what was asked. Raises LostError where it failed, crashed, or takes longer."""
        try:
            if not self.pipe.poll(self.left_s):
                self.close()
                raise LostError(f"{self._asked} took over {self._allowed_s:g} s and was ended")
            reply = self.pipe.recv()
        except (EOFError, OSError):
            raise LostError(self._ended()) from None
        if isinstance(reply, RequestFailed):
            raise LostError(reply.why)
        return reply

    def get(self, request: Request, more_s: float = 0.0) -> Any:
        """Return the answer to a request. Raises LostError."""
        self.ask(request, more_s)
        return self.take()

    def _ended(self) -> str:
        """Say how the process ended, with the last thing that it said."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        code = self._process.returncode
        how = f"with status {code}" if code is None or code >= 0 else f"by {signal.Signals(-code).name}"
        said = ""
        if not self._told.closed:
            self._told.seek(0)
            lines = self._told.read().decode(errors="replace").strip().splitlines()
            said = f": {lines[-1]}" if lines else ""
        self.close()
        return f"{self._asked} ended its process {how}{said}"

    def close(self) -> None:
        """End the process, whatever it is doing, and those that it started, as a compiler."""
        self.pipe.close()
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # it leads a session of its own
        self._process.wait()
        self._told.close()


def _scratch() -> IO[bytes]:
    """Return a file for what a process says, which is closed with it; on Linux a full disk is none to it."""
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create("cnnkit-said"), "w+b")
    try:
        return tempfile.TemporaryFile()
    except OSError as error:
        raise CnnkitError(
            f"cannot make a temporary file for a candidate's process: {error.strerror or error}; free some "
            "space or set TMPDIR"
        ) from None


def _said(request: Request) -> str:
    words = {"OpenEngine": "opening", "AnswerPictures": "answering pictures", "TimeCalls": "a call"}
    return words.get(type(request).__name__, "a call")


def open_bays(
    openings: Sequence[OpenEngine],
    lost: dict[str, str],
    *,
    at_once: int,
    limit_s: float,
    opening_s: float = OPENING_S,
    servers: ForkServers | None = None,
) -> dict[str, Bay]:
    """Start candidates' processes and open them; note in `lost` why one could not be.

    `limit_s` is how long each may take to answer, `opening_s` to open.
    `servers` fork the processes of their backends, the others are started afresh. `at_once` are opening at
    any time: a slow runtime keeps one core busy while the others open the next. They are keyed as the
    candidates are. Nothing is left running where this raises.
    """
    bays: dict[str, Bay] = {}
    waiting, opening = list(reversed(openings)), list[Bay]()
    try:
        while waiting or opening:
            while waiting and len(opening) < at_once:
                one = waiting.pop()
                server = servers.of(one.candidate.backend) if servers else None
                bay = bays[one.candidate.key] = Bay(one.candidate, limit_s, server)
                with _noted(bays, bay, lost):
                    bay.ask(one, opening_s - limit_s)
                    opening.append(bay)
            ready = wait([bay.pipe for bay in opening], min((bay.left_s for bay in opening), default=0.0))
            for bay in [each for each in opening if each.pipe in ready or each.left_s == 0]:
                opening.remove(bay)
                with _noted(bays, bay, lost):
                    opened = bay.take()
                    assert isinstance(opened, EngineOpened)
                    bay.takes = opened
    except BaseException:
        close_all(bays)
        raise
    return bays


@contextlib.contextmanager
def _noted(bays: dict[str, Bay], bay: Bay, lost: dict[str, str]) -> Iterator[None]:
    """Note a bay that is lost inside the block, and leave it out."""
    try:
        yield
    except LostError as error:
        key = bay.candidate.key
        lost[key] = str(error)
        bays.pop(key).close()


def close_all(bays: dict[str, Bay]) -> None:
    """End every process."""
    while bays:
        bays.popitem()[1].close()
