"""How often a version was asked and where the time went, as Triton's statistics extension counts it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

# Batch sizes come from callers, so only so many different ones are kept apart.
MOST_SIZES = 256


@dataclass(kw_only=True)
class Span:
    """How often something took place, and how long all of it took."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one more."""
        self.count += 1
        self.seconds += seconds

    def as_json(self) -> dict[str, int]:
        """Return the protocol's count and nanoseconds."""
        return {"count": self.count, "ns": round(self.seconds * 1e9)}


@dataclass(kw_only=True)
class Tally:
    """The statistics of one version; touched on the event loop alone."""

    rows: int = 0
    last_ms: int = 0
    success: Span = field(default_factory=Span)
    fail: Span = field(default_factory=Span)
    queue: Span = field(default_factory=Span)
    read: Span = field(default_factory=Span)
    infer: Span = field(default_factory=Span)
    write: Span = field(default_factory=Span)
    executions: int = 0
    by_size: dict[int, Span] = field(default_factory=dict)

    def answered(self, rows: int, *, read_s: float, queue_s: float, infer_s: float, write_s: float) -> None:
        """Count a request with an answer: `read` and `write` turn its body into rows, and back."""
        self.rows += rows
        self.last_ms = time.time_ns() // 1_000_000
        self.read.add(read_s)
        self.queue.add(queue_s)
        self.infer.add(infer_s)
        self.write.add(write_s)
        self.success.add(read_s + queue_s + infer_s + write_s)

    def ran(self, rows: int, seconds: float) -> None:
        """Count one run of the engine."""
        self.executions += 1
        span = self.by_size.get(rows)
        if span is None:
            if len(self.by_size) >= MOST_SIZES:
                return
            span = self.by_size[rows] = Span()
        span.add(seconds)

    def as_json(self, name: str, version: str) -> dict[str, Any]:
        """Return one entry of the protocol's `model_stats`."""
        return {
            "name": name,
            "version": version,
            "last_inference": self.last_ms,
            "inference_count": self.rows,
            "execution_count": self.executions,
            "inference_stats": {
                "success": self.success.as_json(),
                "fail": self.fail.as_json(),
                "queue": self.queue.as_json(),
                "compute_input": self.read.as_json(),
                "compute_infer": self.infer.as_json(),
                "compute_output": self.write.as_json(),
            },
            "batch_stats": [
                {"batch_size": size, "compute_infer": span.as_json()}
                for size, span in sorted(self.by_size.items())
            ],
        }
