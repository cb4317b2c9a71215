"""What Prometheus reads at /metrics. Unlabelled by client, so that no request can make it grow.

It is counted here on the event loop alone, without prometheus_client's locks, which cost a LeNet's request a
tenth of its time; the library writes the page.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Literal, TypeVar

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from serve.api import Reply
from serve.counts import Counts, Key

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
VERSION = ("model", "version")
Value = TypeVar("Value")
Step = Literal["queue", "infer", "decode_wait", "decode", "preprocess"]


@dataclass(frozen=True)
class Described:
    """One metric: its name, what it is, its labels, and the buckets of one that is spread over some."""

    name: str
    text: str
    labels: Sequence[str] = ()
    buckets: Sequence[float] = ()


SPREADS = (
    Described("request_seconds", "Time from a request's head to its reply", ("route",), SECONDS),
    Described("queue_seconds", "Time in the queue", VERSION, SECONDS),
    Described("infer_seconds", "Time of a batch in the engine", VERSION, SECONDS),
    Described("decode_wait_seconds", "Time that a picture waited for a decoder", VERSION, SECONDS),
    Described("decode_seconds", "Time to decode a picture", VERSION, SECONDS),
    Described("preprocess_seconds", "Time to bring a picture to the input", VERSION, SECONDS),
    Described("batch_rows", "Rows that ran together", VERSION, ROWS),
)
TOTALS = (
    Described("requests", "Answered requests", ("route", "status")),
    Described("errors", "Requests answered with 4xx or 5xx", ("route", "status")),
    Described("shed", "Requests refused for lack of room or time", (*VERSION, "reason")),
    Described("reloads", "Newer artifacts taken up while serving", ("model",)),
)
LEVELS = (
    Described("waiting_rows", "Rows in the queue", VERSION),
    Described("waiting_pictures", "Pictures that wait for a decoder"),
    Described("memory_bytes", "Memory of a process that answers", ("process",)),
)


class ServerMetrics:
    """What this process counted so far; `process` is its number among those that answer on one port."""

    def __init__(self, process: int = 0) -> None:
        self.process = process
        self._totals: defaultdict[Key, float] = defaultdict(float)
        self._spreads: dict[Key, list[float]] = {}

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count one answered request; `route` is a pattern, never a path, `page` for all of the page's."""
        self._observe(SECONDS, ("request_seconds", route), seconds)
        self._totals["requests", route, str(status)] += 1
        if status >= 400:
            self._totals["errors", route, str(status)] += 1

    def shed(self, model: str, version: str, reason: str) -> None:
        """Count a request that was turned away."""
        self._totals["shed", model, version, reason] += 1

    def took(self, step: Step, model: str, version: str, seconds: float) -> None:
        """Note how long a step of a request, or a batch in the engine, took."""
        self._observe(SECONDS, (f"{step}_seconds", model, version), seconds)

    def batch(self, model: str, version: str, rows: int, seconds: float) -> None:
        """Note a batch."""
        self._observe(ROWS, ("batch_rows", model, version), rows)
        self.took("infer", model, version, seconds)

    def reloaded(self, model: str) -> None:
        """Count a newer artifact that was taken up."""
        self._totals["reloads", model] += 1

    def _observe(self, buckets: Sequence[float], key: Key, value: float) -> None:
        spread = self._spreads.get(key)
        if spread is None:
            spread = self._spreads[key] = [0.0] * (len(buckets) + 2)
        spread[bisect_left(buckets, value)] += 1
        spread[-1] += value

    def counts(self, waiting_rows: dict[tuple[str, str], int], waiting_pictures: int) -> Counts:
        """Return what was counted, and what waits now."""
        levels: dict[Key, float] = {("waiting_rows", *version): n for version, n in waiting_rows.items()}
        levels["waiting_pictures",] = waiting_pictures
        memory = resident_bytes()
        if memory is not None:
            levels["memory_bytes", str(self.process)] = memory
        return Counts(totals=dict(self._totals), levels=levels, spreads=self._spreads)


def resident_bytes(process: int | None = None) -> int | None:
    """Return how much memory a process holds, this one by default; None where the system does not say."""
    statm = Path(f"/proc/{process or 'self'}/statm")
    try:
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def metrics_page(counts: Counts) -> Reply:
    """Return what was counted in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_MetricsPage(counts))
    return Reply(body=generate_latest(registry), content_type=b"text/plain; version=0.0.4; charset=utf-8")


class _MetricsPage(Collector):
    def __init__(self, counts: Counts) -> None:
        self.counts = counts

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        for metric in SPREADS:
            spreads = HistogramMetricFamily(f"cnnkit_{metric.name}", metric.text, labels=self._labels(metric))
            for labels, spread in self._of(metric, lambda counts: counts.spreads):
                *fell, total = spread
                edges = [*map(str, metric.buckets), "+Inf"]
                spreads.add_metric(labels, list(zip(edges, accumulate(fell), strict=True)), total)
            yield spreads
        for metric in TOTALS:
            totals = CounterMetricFamily(f"cnnkit_{metric.name}", metric.text, labels=self._labels(metric))
            for labels, value in self._of(metric, lambda counts: counts.totals):
                totals.add_metric(labels, value)
            yield totals
        for metric in LEVELS:
            levels = GaugeMetricFamily(f"cnnkit_{metric.name}", metric.text, labels=self._labels(metric))
            for labels, value in self._of(metric, lambda counts: counts.levels):
                levels.add_metric(labels, value)
            yield levels

    def _labels(self, metric: Described) -> Sequence[str]:
        return (*metric.labels, "replica") if self.counts.parts else metric.labels

    def _of(
        self, metric: Described, kind: Callable[[Counts], dict[Key, Value]]
    ) -> Iterator[tuple[list[str], Value]]:
        for name, counts in (self.counts.parts or {"": self.counts}).items():
            for key, value in kind(counts).items():
                if key[0] == metric.name:
                    yield [*key[1:], *([name] if name else [])], value
