"""Which of two files is faster on this machine, measured in turns."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from toolkit import catalog
from toolkit.artifacts import Artifact
from toolkit.backends import Engine, EngineOptions
from toolkit.exporting.evidence import smallest_batch
from toolkit.graphs.running import Inputs

WINDOWS = 7
# long enough that a window's mean is steady, short enough that an export is not held up
WINDOW_SECONDS = 0.03


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Median milliseconds of a batch of `batch`, the smallest that both take, before and after."""

    batch: int
    before_ms: float
    after_ms: float

    def facts(self) -> dict[str, float]:
        """Return both figures as a passport keeps them."""
        return {"batch": self.batch, "fp32_ms": self.before_ms, "int8_ms": self.after_ms}

    def words(self, before: str, after: str) -> str:
        """Say which one is faster here, with both figures."""
        ratio = self.before_ms / self.after_ms
        how = f"{ratio:.1f} times faster" if ratio >= 1 else f"{1 / ratio:.1f} times SLOWER"
        return (
            f"{after} is {how} than {before} on this machine: {self.after_ms:.3g} ms against "
            f"{self.before_ms:.3g} ms a batch of {self.batch}"
        )


def compare_speed(before: Artifact, after: Artifact, inputs: Inputs) -> Speed:
    """Time two ONNX files window by window in turns, so that other load meets both alike."""
    backend = catalog.backend("ort")
    with backend.open(before, EngineOptions()) as first, backend.open(after, EngineOptions()) as second:
        batch = smallest_batch(second, inputs)
        counts = [_count(engine, batch) for engine in (first, second)]
        times: list[list[float]] = [[], []]
        for _ in range(WINDOWS):
            for index, engine in enumerate((first, second)):
                times[index].append(_window(engine, batch, counts[index]))
    before_ms, after_ms = (1000 * statistics.median(each) for each in times)
    return Speed(batch=len(batch), before_ms=before_ms, after_ms=after_ms)


def _count(engine: Engine, batch: NDArray[Any]) -> int:
    _window(engine, batch, 3)
    return max(1, int(WINDOW_SECONDS / max(1e-6, _window(engine, batch, 5))))


def _window(engine: Engine, batch: NDArray[Any], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        engine.run(batch)
    return (time.perf_counter() - start) / count
