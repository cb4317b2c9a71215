"""Processes and a timekeeper whose milliseconds and bytes are made up: no clock and no runtime tells them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from toolkit.artifacts import open_artifact, shipped_root
from toolkit.choosing import Candidate
from toolkit.choosing.measuring import Timekeeper
from toolkit.choosing.requests import (
    AnswerPictures,
    CallTimes,
    EngineOpened,
    OpenEngine,
    PeakTold,
    PictureAnswers,
    Request,
    Response,
    TellPeak,
)
from toolkit.profiling.measuring.yardstick import Yardstick


class MadeUpBay:
    """No process: its calls' milliseconds and its bytes are made up by batch, its answers are zeros."""

    process, takes = 1, EngineOpened(least=1, most=None)

    def __init__(
        self,
        ms: Callable[[int], Sequence[float]] = lambda batch: (1.0,),
        held: Callable[[int], int | None] = lambda batch: 1,
    ) -> None:
        self.ms, self.held = ms, held
        self.candidate: Candidate | None = None
        self.peak: int | None = 0
        self.asked: list[Request] = []

    def get(self, request: Request, more_s: float = 0.0) -> Response:
        self.asked.append(request)
        if isinstance(request, TellPeak):
            held = self.held(request.batch)
            self.peak = held and max(held, self.peak or 0)
            return PeakTold(peak_bytes=self.peak)
        if isinstance(request, AnswerPictures):
            return PictureAnswers(scores=np.zeros((request.stop - request.start, 10), np.float32))
        assert not isinstance(request, OpenEngine)
        return CallTimes(ms=tuple(self.ms(request.batch)))

    def close(self) -> None:
        pass


# makes a process by the name of the backend that is opened in it
MakeUp = Callable[[Callable[[str], MadeUpBay]], None]


class Scripted(Yardstick):
    """A yardstick whose times are written down."""

    def __init__(self, times: list[float]) -> None:
        super().__init__(1)
        self.times = times

    def __call__(self) -> None:
        self.now = self.times.pop(0)

    @property
    def latest(self) -> dict[str, float]:
        return {"compute_ms": self.now, "stream_ms": self.now}


def keeping(by_round: Sequence[float]) -> Timekeeper:
    """Return a timekeeper whose yardstick takes so many milliseconds in each round."""
    return Timekeeper(yardstick=Scripted([ms for ms in by_round for _ in range(2)]), busy=float("inf"))


def candidate(backend: str) -> Candidate:
    """Return a candidate that no made-up process opens."""
    path = shipped_root() / "lenet-maxpool" / "lenet-maxpool.onnx"
    return Candidate(backend=backend, artifact=open_artifact(path))
