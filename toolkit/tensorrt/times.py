"""Times on the GPU: TensorRT's own of each layer, and the copies before and after them."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any


@dataclass(frozen=True, kw_only=True)
class LayerTime:
    """One layer of one run: the engine's name for it, and its milliseconds on the GPU."""

    name: str
    milliseconds: float


@dataclass(frozen=True, kw_only=True)
class CallTimes:
    """One call's parts by the GPU's clock, each the median over runs: copy in, layers, copy out."""

    upload_ms: float
    compute_ms: float
    download_ms: float
    runs: int


def layer_profiler(trt: ModuleType) -> Any:
    """Return a profiler of that module whose `seen` lists what was reported, in order."""
    base: Any = trt.IProfiler

    class LayerProfiler(base):  # type: ignore[misc]  # the bindings carry no types
        def __init__(self) -> None:
            base.__init__(self)
            self.seen: list[LayerTime] = []

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.seen.append(LayerTime(name=layer_name, milliseconds=float(ms)))

    return LayerProfiler()
