"""How often a version was asked and where the time went, as Triton's statistics extension counts it."""

from __future__ import annotations

import time
from bisect import bisect_left

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
        self.ns += int(seconds * 1e9)

    def merge(self, other: Span) -> None:
        """Add another's."""
        self.count += other.count
        self.ns += other.ns


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
    """One version's statistics; `last_inference` is in milliseconds since 1970, 0 for never.

    Touched on the event loop alone.
    """

    name: str
    version: str
    last_inference: int
    inference_count: int
    execution_count: int
    inference_stats: RequestSpans
    batch_stats: list[BatchSpan]

    @classmethod
    def none_yet(cls, name: str, version: str) -> ModelStatistics:
        """Return the statistics of a version that nobody asked yet."""
        return cls(name, version, 0, 0, 0, RequestSpans(*(Span() for _ in range(6))), [])

    def answered(self, rows: int, *, read_s: float, queue_s: float, infer_s: float, write_s: float) -> None:
        """Count a request with an answer: `read` and `write` turn its body into rows, and back."""
        self.inference_count += rows
        self.last_inference = time.time_ns() // 1_000_000
        spans = self.inference_stats
        spans.compute_input.add(read_s)
        spans.queue.add(queue_s)
        spans.compute_infer.add(infer_s)
        spans.compute_output.add(write_s)
        spans.success.add(read_s + queue_s + infer_s + write_s)

    def add(self, other: ModelStatistics) -> None:
        """Add what another process counted of the same version."""
        self.inference_count += other.inference_count
        self.execution_count += other.execution_count
        self.last_inference = max(self.last_inference, other.last_inference)
        for name in RequestSpans.__struct_fields__:
            getattr(self.inference_stats, name).merge(getattr(other.inference_stats, name))
        for batch in other.batch_stats:
            self._batch(batch.batch_size).merge(batch.compute_infer)

    def failed(self, seconds: float) -> None:
        """Count a request that was refused once its body was there."""
        self.inference_stats.fail.add(seconds)

    def ran(self, rows: int, seconds: float) -> None:
        """Count one run of the engine; batch sizes are kept in their order."""
        self.execution_count += 1
        self._batch(rows).add(seconds)

    def _batch(self, rows: int) -> Span:
        """Return the span of a batch size; one that is thrown away where there are too many sizes."""
        at = bisect_left(self.batch_stats, rows, key=lambda batch: batch.batch_size)
        if at == len(self.batch_stats) or self.batch_stats[at].batch_size != rows:
            if len(self.batch_stats) >= MOST_SIZES:
                return Span()
            self.batch_stats.insert(at, BatchSpan(rows, Span()))
        return self.batch_stats[at].compute_infer


class StatisticsReply(Struct):
    """The statistics of every version that was asked for."""

    model_stats: list[ModelStatistics]
