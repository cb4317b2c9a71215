"""What the process that measures a candidate is asked, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.choosing import Candidate


@dataclass(frozen=True, kw_only=True)
class OpenEngine:
    """Open a candidate; `pictures` is a file of (N, C, H, W) uint8 pixels or of inputs (`ready`)."""

    candidate: Candidate
    pictures: Path
    ready: bool
    seed: int
    model_file: Path | None


@dataclass(frozen=True, kw_only=True)
class AnswerPictures:
    """Answer pictures `start` to `stop`, in batches of `batch`, None for the usual ones."""

    start: int
    stop: int
    batch: int | None = None


@dataclass(frozen=True, kw_only=True)
class TimeCalls:
    """Call a batch for so many seconds, after `wake_s` seconds untimed."""

    batch: int
    seconds: float
    wake_s: float


@dataclass(frozen=True, kw_only=True)
class TellPeak:
    """Tell the most memory that the process held since it began, after a call of a batch."""

    batch: int


Request = OpenEngine | AnswerPictures | TimeCalls | TellPeak


@dataclass(frozen=True, kw_only=True)
class EngineOpened:
    """The smallest and the largest batch that it takes; None where it has no end."""

    least: int
    most: int | None

    def fits(self, batch: int) -> bool:
        """Tell whether it takes a batch of that many."""
        return self.least <= batch and (self.most is None or batch <= self.most)

    def words(self) -> str:
        """Say which batches it takes."""
        most = "or more" if self.most is None else f"to {self.most}"
        return f"{self.least}" if self.least == self.most else f"{self.least} {most}"


@dataclass(frozen=True, kw_only=True)
class PictureAnswers:
    """Scores (N, K) float32, and the outputs beside them, (N, …) each, of the first few pictures."""

    scores: NDArray[np.float32]
    further: tuple[NDArray[Any], ...] = ()


@dataclass(frozen=True, kw_only=True)
class CallTimes:
    """Milliseconds of each call, and the processor seconds that the process spent, waking up included."""

    ms: tuple[float, ...]
    cpu_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class PeakTold:
    """Bytes; None where the system does not tell."""

    peak_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class RequestFailed:
    """Why a request came to nothing, in one line."""

    why: str


Response = EngineOpened | PictureAnswers | CallTimes | PeakTold | RequestFailed
