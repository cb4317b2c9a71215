"""What Prometheus reads at /metrics. Unlabelled by client, so that no request can make it grow."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from serve.api import Reply

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class ServerMetrics:
    """Counters and histograms in a registry of this server's own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"cnnkit_{name}", text, labels, registry=self.registry)

        def seconds(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(f"cnnkit_{name}_seconds", text, labels, registry=self.registry, buckets=SECONDS)

        self._requests = counter("requests", "Answered requests", "route", "status")
        self._errors = counter("errors", "Requests answered with 4xx or 5xx", "route", "status")
        self._shed = counter("shed", "Requests refused for lack of room or time", "model", "reason")
        self._queue = seconds("queue", "Time in the queue", "model")
        self._infer = seconds("infer", "Time of a batch in the engine", "model")
        self._decode_wait = seconds("decode_wait", "Time that a picture waited for a decoder", "model")
        self._decode = seconds("decode", "Time to decode a picture", "model")
        self._preprocess = seconds("preprocess", "Time to bring a picture to the input", "model")
        self._reloads = counter("reloads", "Newer artifacts taken up while serving", "model")
        self._batch = Histogram(
            "cnnkit_batch_rows",
            "Rows that ran together",
            ("model",),
            registry=self.registry,
            buckets=ROWS,
        )
        self.waiting = Gauge("cnnkit_waiting_rows", "Rows in the queue", ("model",), registry=self.registry)
        self.waiting_pictures = Gauge(
            "cnnkit_waiting_pictures", "Pictures that wait for a decoder", registry=self.registry
        )
        self._children: dict[tuple[Histogram, str], Histogram] = {}
        self._known: dict[tuple[str, int], tuple[Counter, Counter | None]] = {}

    def _of(self, histogram: Histogram, model: str) -> Histogram:
        # looking a child up by its labels costs more than observing it
        child = self._children.get((histogram, model))
        if child is None:
            child = self._children[(histogram, model)] = histogram.labels(model)
        return child

    def answered(self, route: str, status: int) -> None:
        """Count one answered request; `route` is a pattern, never a path."""
        pair = self._known.get((route, status))
        if pair is None:
            labels = (route, str(status))
            error = self._errors.labels(*labels) if status >= 400 else None
            pair = self._known[(route, status)] = (self._requests.labels(*labels), error)
        pair[0].inc()
        if pair[1] is not None:
            pair[1].inc()

    def shed(self, model: str, reason: str) -> None:
        """Count a request that was turned away."""
        self._shed.labels(model, reason).inc()

    def queued(self, model: str, seconds: float) -> None:
        """Note how long a request waited."""
        self._of(self._queue, model).observe(seconds)

    def batch(self, model: str, rows: int, seconds: float) -> None:
        """Note a batch."""
        self._of(self._batch, model).observe(rows)
        self._of(self._infer, model).observe(seconds)

    def prepared(self, model: str, wait_s: float, decode_s: float, preprocess_s: float) -> None:
        """Note how long a picture waited for a decoder, and took to decode and to bring to the input."""
        self._decode_wait.labels(model).observe(wait_s)
        self._decode.labels(model).observe(decode_s)
        self._preprocess.labels(model).observe(preprocess_s)

    def reloaded(self, model: str) -> None:
        """Count a newer artifact that was taken up."""
        self._reloads.labels(model).inc()

    def page(self) -> Reply:
        """Return the metrics in Prometheus' text format."""
        return Reply(
            body=generate_latest(self.registry),
            content_type=b"text/plain; version=0.0.4; charset=utf-8",
        )
