"""The process that one candidate runs in: it opens, answers and times as asked, and ends with its pipe.

    python -m toolkit.choosing.worker FD

A runtime that hangs or crashes takes this process with it and no other.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from toolkit.backends import BACKENDS, Engine, EngineOptions
from toolkit.choosing.requests import (
    AnswerPictures,
    CallTimes,
    EngineOpened,
    OpenEngine,
    PeakTold,
    PictureAnswers,
    Request,
    RequestFailed,
    Response,
    TellPeak,
    TimeCalls,
)
from toolkit.errors import CnnkitError
from toolkit.machine.memory import peak_so_far
from toolkit.processes import end_with_parent
from toolkit.profiling.measuring.batches import feed
from toolkit.profiling.measuring.latency import timed_for


class _Bay:
    """One engine and what it is asked."""

    def __init__(self) -> None:
        self.asked: OpenEngine | None = None
        self.engine: Engine | None = None
        self.calls: dict[int, Callable[[], object]] = {}
        self.last_ms: dict[int, float] = {}
        self.spent_s = 0.0

    def answer(self, request: Request) -> Response:
        """Do what is asked. Raises what the runtime raises."""
        try:
            return self._answer(request)
        finally:
            self.spent_s = time.process_time()

    def _answer(self, request: Request) -> Response:
        match request:
            case OpenEngine():
                return self._open(request)
            case AnswerPictures():
                return self._pictures(request)
            case TimeCalls():
                return self._times(request)
            case TellPeak():
                self._call(request.batch)()
                return PeakTold(peak_bytes=peak_so_far())  # opening and compiling may take most

    def _open(self, asked: OpenEngine) -> EngineOpened:
        one = asked.candidate
        options = EngineOptions(threads=one.threads, model_file=asked.model_file, chosen=dict(one.settings))
        self.asked, self.engine = asked, BACKENDS.load(one.backend).open(one.artifact, options)
        least, most = self.engine.batch_sizes
        return EngineOpened(least=least, most=most)

    @property
    def _opened(self) -> tuple[OpenEngine, Engine]:
        assert self.asked is not None
        assert self.engine is not None
        return self.asked, self.engine

    def _pictures(self, request: AnswerPictures) -> PictureAnswers:
        # most processes only time calls, and are many: they need none of this
        from toolkit.answering import BATCH, answers, inputs_of_fitted
        from toolkit.exporting.further import further_of

        asked, engine = self._opened
        pictures: Any = np.load(asked.pictures, mmap_mode="r")[request.start : request.stop]
        passport = asked.candidate.artifact.passport
        inputs = pictures if asked.ready else inputs_of_fitted(pictures, passport)
        scores = answers(engine, inputs, batch=request.batch or BATCH)
        further = further_of(engine, inputs).values if request.start == 0 else ()
        return PictureAnswers(scores=scores, further=tuple(further))

    def _times(self, request: TimeCalls) -> CallTimes:
        call = self._call(request.batch)
        # a call that outlasts a window is not worth another one to wake up for, but for the first
        if self.last_ms.get(request.batch, 0.0) < request.seconds * 1e3:
            timed_for(call, request.wake_s)
        found = timed_for(call, request.seconds)
        self.last_ms[request.batch] = found[-1]
        # a runtime's idle workers spin on for a while after a call: this process's own work, not others'
        return CallTimes(ms=tuple(found), cpu_s=time.process_time() - self.spent_s)

    def _call(self, batch: int) -> Callable[[], object]:
        asked, engine = self._opened
        if batch not in self.calls:
            takes = asked.candidate.artifact.passport.input
            given = feed(takes.shape, takes.dtype, batch=batch, seed=asked.seed)
            # who serves it has its pictures in the host's memory: the copies to a device and back count
            copies = BACKENDS.load(asked.candidate.backend).on_gpu
            self.calls[batch] = partial(engine.run, given) if copies else engine.bind(given)
        return self.calls[batch]


def main() -> None:
    """Answer requests on the pipe that the command line names."""
    # Ctrl-C is for the process that chooses; it ends this one
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()  # where that one is killed, a runtime that hangs in here ends, too
    serve(int(sys.argv[1]))


def serve(pipe: int) -> None:
    """Answer requests on a pipe, given by its number, until it is closed."""
    connection: Connection[Response, Request] = Connection(pipe)
    bay = _Bay()
    while True:
        try:
            request = connection.recv()
        except (EOFError, OSError):
            return
        try:
            reply: Response = bay.answer(request)
        except CnnkitError as error:
            reply = RequestFailed(why=str(error))
        except Exception as error:  # a runtime's own errors share no base class
            first = (str(error).strip().splitlines() or ["no reason given"])[0]
            reply = RequestFailed(why=f"{type(error).__name__}: {first}")
        connection.send(reply)


if __name__ == "__main__":
    main()
