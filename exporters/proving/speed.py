"""Which of two files is faster on this machine, measured in turns."""

from __future__ import annotations

from functools import partial
from statistics import fmean, median

from toolkit.answering import smallest_batch
from toolkit.artifacts import Artifact
from toolkit.backends import EngineOptions, opener
from toolkit.images import Inputs
from toolkit.passports import PrecisionSpeed
from toolkit.traces import timed

WINDOWS = 7
# long enough that a window's mean is steady, short enough that an export is not held up
WINDOW_MS = 30.0


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
        calls = [partial(engine.run, batch) for engine in (first, second)]
        # the first three calls warm up
        counts = [max(1, int(WINDOW_MS / max(1e-3, fmean(timed(call, 8)[3:])))) for call in calls]
        windows = [
            [fmean(timed(call, count)) for call, count in zip(calls, counts, strict=True)]
            for _ in range(WINDOWS)
        ]
    before_ms, after_ms = map(median, zip(*windows, strict=True))
    return PrecisionSpeed(batch=len(batch), fp32_ms=before_ms, int8_ms=after_ms)
