"""What Prometheus reads at /metrics. Unlabelled by client, so that no request can make it grow."""

from __future__ import annotations

import functools
from typing import Any, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from serve.api import Reply

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
Step = Literal["queue", "infer", "decode_wait", "decode", "preprocess"]
STEPS: dict[Step, str] = {
    "queue": "Time in the queue",
    "infer": "Time of a batch in the engine",
    "decode_wait": "Time that a picture waited for a decoder",
    "decode": "Time to decode a picture",
    "preprocess": "Time to bring a picture to the input",
}


class ServerMetrics:
    """Counters and histograms in a registry of this server's own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        # looking a metric's child up by its labels costs more than observing it
        self._child = functools.cache(lambda metric, *labels: metric.labels(*labels))
        here: dict[str, Any] = {"registry": self.registry}
        self._request_seconds = Histogram(
            "cnnkit_request_seconds",
            "Time from a request's head to its reply",
            ["route"],
            buckets=SECONDS,
            **here,
        )
        self._requests = Counter("cnnkit_requests", "Answered requests", ["route", "status"], **here)
        self._errors = Counter(
            "cnnkit_errors", "Requests answered with 4xx or 5xx", ["route", "status"], **here
        )
        self._shed = Counter(
            "cnnkit_shed", "Requests refused for lack of room or time", ["model", "version", "reason"], **here
        )
        self._reloads = Counter("cnnkit_reloads", "Newer artifacts taken up while serving", ["model"], **here)
        self._seconds = {
            step: Histogram(f"cnnkit_{step}_seconds", text, ["model", "version"], buckets=SECONDS, **here)
            for step, text in STEPS.items()
        }
        self._batch = Histogram(
            "cnnkit_batch_rows", "Rows that ran together", ["model", "version"], buckets=ROWS, **here
        )
        self.waiting = Gauge("cnnkit_waiting_rows", "Rows in the queue", ["model", "version"], **here)
        self.waiting_pictures = Gauge("cnnkit_waiting_pictures", "Pictures that wait for a decoder", **here)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count one answered request; `route` is a pattern, never a path, `page` for all of the page's."""
        self._child(self._request_seconds, route).observe(seconds)
        self._child(self._requests, route, status).inc()
        if status >= 400:
            self._child(self._errors, route, status).inc()

    def shed(self, model: str, version: str, reason: str) -> None:
        """Count a request that was turned away."""
        self._child(self._shed, model, version, reason).inc()

    def took(self, step: Step, model: str, version: str, seconds: float) -> None:
        """Note how long a step of a request, or a batch in the engine, took."""
        self._child(self._seconds[step], model, version).observe(seconds)

    def batch(self, model: str, version: str, rows: int, seconds: float) -> None:
        """Note a batch."""
        self._child(self._batch, model, version).observe(rows)
        self.took("infer", model, version, seconds)

    def reloaded(self, model: str) -> None:
        """Count a newer artifact that was taken up."""
        self._child(self._reloads, model).inc()

    def page(self) -> Reply:
        """Return the metrics in Prometheus' text format."""
        return Reply(
            body=generate_latest(self.registry),
            content_type=b"text/plain; version=0.0.4; charset=utf-8",
        )
