"""How often a version was asked and where the time went, as Triton's statistics extension counts it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from msgspec import Struct

# Batch sizes come from callers, so only so many different ones are kept apart.
MOST_SIZES = 256


class Span(Struct):
    """How often something took place, and how many nanoseconds all of it took."""

    count: int = 0
    ns: int = 0

    def add(self, seconds: float) -> None:
        """Count one more."""
        self.count += 1
        self.ns += round(seconds * 1e9)


class RequestSpans(Struct):
    """Requests, and the steps of those that were answered; `compute_…` are body to rows, engine, and back."""

    success: Span
    fail: Span
    queue: Span
    compute_input: Span
    compute_infer: Span
    compute_output: Span


class BatchSpan(Struct):
    """The runs of one batch size."""

    batch_size: int
    compute_infer: Span


class ModelStatistics(Struct):
    """One version's statistics; `last_inference` is in milliseconds since 1970, 0 for never."""

    name: str
    version: str
    last_inference: int
    inference_count: int
    execution_count: int
    inference_stats: RequestSpans
    batch_stats: list[BatchSpan]


class StatisticsReply(Struct):
    """The statistics of every version that was asked for."""

    model_stats: list[ModelStatistics]


@dataclass(kw_only=True)
class Tally:
    """Counts for one version; touched on the event loop alone."""

    rows: int = 0
    last_ms: int = 0
    executions: int = 0
    spans: RequestSpans = field(default_factory=lambda: RequestSpans(*(Span() for _ in range(6))))
    by_size: dict[int, Span] = field(default_factory=dict)

    def answered(self, rows: int, *, read_s: float, queue_s: float, infer_s: float, write_s: float) -> None:
        """Count a request with an answer: `read` and `write` turn its body into rows, and back."""
        self.rows += rows
        self.last_ms = time.time_ns() // 1_000_000
        self.spans.compute_input.add(read_s)
        self.spans.queue.add(queue_s)
        self.spans.compute_infer.add(infer_s)
        self.spans.compute_output.add(write_s)
        self.spans.success.add(read_s + queue_s + infer_s + write_s)

    def ran(self, rows: int, seconds: float) -> None:
        """Count one run of the engine."""
        self.executions += 1
        if rows in self.by_size or len(self.by_size) < MOST_SIZES:
            self.by_size.setdefault(rows, Span()).add(seconds)

    def statistics(self, name: str, version: str) -> ModelStatistics:
        """Return what was counted, under a model's name and version."""
        return ModelStatistics(
            name=name,
            version=version,
            last_inference=self.last_ms,
            inference_count=self.rows,
            execution_count=self.executions,
            inference_stats=self.spans,
            batch_stats=[BatchSpan(size, span) for size, span in sorted(self.by_size.items())],
        )
