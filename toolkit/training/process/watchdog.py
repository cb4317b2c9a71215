"""Says where a run hangs: when no step was made for a while, the stack of every thread.

Time in which the whole process was stopped (Ctrl-Z, SIGSTOP) is no hang: the watching thread slept
through it too, and takes it off.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from toolkit.training.process import ender

_BEAT_S = 2.0
_LATE_S = 5.0  # a beat so much too late was not a busy machine's: the process was stopped
# The alarm for a locked interpreter cannot tell a stopped process, so it comes only after so many limits, and
# ends nothing: another process does that, later, so that the stack is told first.
_ALARM_LIMITS, _END_LIMITS = 5, 6


class Watchdog:
    """Use as a context manager; call `step` after each step. Prints at most once for each hang.

    With `give_up_s` the process is ended after so long without a step: for unattended runs.
    """

    def __init__(
        self, say: Callable[[str], None], *, limit_s: float = 60.0, give_up_s: float | None = None
    ) -> None:
        self._say = say
        self._limit_s = limit_s
        self._give_up_s = give_up_s
        self._last = time.monotonic()
        self._told = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="cnnkit-watchdog", daemon=True)
        self._shortest_s = min(limit_s, limit_s if give_up_s is None else give_up_s)
        self._ender: subprocess.Popen[bytes] | None = None

    def step(self) -> None:
        """Note that the run moves."""
        self._last = time.monotonic()
        self._told = False

    def __enter__(self) -> Self:
        if self._give_up_s is not None and os.name == "posix":  # no other system stops a process
            self._ender = _started(_END_LIMITS * self._give_up_s)
        self.step()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        faulthandler.cancel_dump_traceback_later()
        if self._ender is not None:
            self._ender.kill()  # a loader's process may hold its input open
            self._ender.communicate()

    def _watch(self) -> None:
        beat = min(_BEAT_S, self._shortest_s / 4)
        before = time.monotonic()
        while not self._stop.wait(beat):
            # if some library hangs with the interpreter locked, this thread cannot run, but this alarm can
            faulthandler.dump_traceback_later(
                _ALARM_LIMITS * (self._give_up_s or self._limit_s),
                exit=self._give_up_s is not None and not self._is_watched(),
                file=sys.__stderr__ or sys.stderr,
            )
            self._beat()
            now = time.monotonic()
            self._judge(now, late=now - before - beat)
            before = now

    def _is_watched(self) -> bool:
        return self._ender is not None and self._ender.poll() is None

    def _beat(self) -> None:
        if self._ender is not None and self._ender.stdin is not None:
            with contextlib.suppress(BrokenPipeError, BlockingIOError):
                os.write(self._ender.stdin.fileno(), b".")

    def _judge(self, now: float, *, late: float) -> None:
        """Say that the run hangs if it does; `late` is how much longer than asked this thread slept."""
        if late > min(_LATE_S, self._shortest_s):
            self._last = min(now, self._last + late)
        idle = now - self._last
        if idle >= self._limit_s and not self._told:
            self._told = True
            self._say(f"no step for {idle:.0f} s; every thread is here (Ctrl-C stops, --resume goes on):")
            faulthandler.dump_traceback(file=sys.__stderr__ or sys.stderr)
        if self._give_up_s is not None and idle >= self._give_up_s:
            self._say(f"error: no step for {idle:.0f} s; given up")
            os._exit(1)  # the hanging thread cannot be asked to end


def _started(limit_s: float) -> subprocess.Popen[bytes]:
    """Start the program that ends this process where no beat comes for so long."""
    words = [sys.executable, "-I", "-S", ender.__file__, str(os.getpid()), str(limit_s)]
    # of a session of its own: what a terminal sends to stop or end a run is not for it
    started = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
    )
    assert started.stdin is not None  # as asked for
    os.set_blocking(started.stdin.fileno(), False)
    return started
