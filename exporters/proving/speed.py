"""Which of two files is faster on this machine, measured in turns."""

from __future__ import annotations

import statistics
import time
from typing import Any

from numpy.typing import NDArray

from toolkit.answering import smallest_batch
from toolkit.artifacts import Artifact
from toolkit.backends import Engine, EngineOptions, opener
from toolkit.images import Inputs
from toolkit.passports import PrecisionSpeed

WINDOWS = 7
# long enough that a window's mean is steady, short enough that an export is not held up
WINDOW_SECONDS = 0.03


def speed_words(speed: PrecisionSpeed, before: str, after: str) -> str:
    """Say which of two files is faster here, with both figures."""
    ratio = speed.fp32_ms / speed.int8_ms
    how = f"{ratio:.1f} times faster" if ratio >= 1 else f"{1 / ratio:.1f} times SLOWER"
    return (
        f"{after} is {how} than {before} on this machine: {speed.int8_ms:.3g} ms against "
        f"{speed.fp32_ms:.3g} ms a batch of {speed.batch}"
    )


def compare_speed(before: Artifact, after: Artifact, inputs: Inputs) -> PrecisionSpeed:
    """Time an fp32 and an int8 ONNX file window by window in turns, so that other load meets both alike.

    The batch is the smallest that both take.
    """
    backend = opener(before.passport.format)
    with backend.open(before, EngineOptions()) as first, backend.open(after, EngineOptions()) as second:
        batch = smallest_batch(second, inputs)
        counts = [_count(engine, batch) for engine in (first, second)]
        times: list[list[float]] = [[], []]
        for _ in range(WINDOWS):
            for index, engine in enumerate((first, second)):
                times[index].append(_window(engine, batch, counts[index]))
    before_ms, after_ms = (1000 * statistics.median(each) for each in times)
    return PrecisionSpeed(batch=len(batch), fp32_ms=before_ms, int8_ms=after_ms)


def _count(engine: Engine, batch: NDArray[Any]) -> int:
    _window(engine, batch, 3)
    return max(1, int(WINDOW_SECONDS / max(1e-6, _window(engine, batch, 5))))


def _window(engine: Engine, batch: NDArray[Any], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        engine.run(batch)
    return (time.perf_counter() - start) / count
