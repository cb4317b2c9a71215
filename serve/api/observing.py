"""What each answered request was, for whoever wants to know: log lines of JSON, and OpenTelemetry's spans."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import TextIO

import msgspec

from toolkit.errors import CnnkitError

# either says where spans go; the first stands for every kind of signal
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
PACKAGES = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


@dataclass(frozen=True, kw_only=True)
class AnsweredRequest:
    """One request and its reply. `route` is a pattern; `model` and `version` are the path's, "" for none.

    `headers` are the request's; `client` is an address as the proxy that is trusted tells it.
    """

    id: str
    method: str
    path: str
    route: str
    status: int
    seconds: float
    client: str
    model: str
    version: str
    headers: Mapping[bytes, bytes]


Observer = Callable[[AnsweredRequest], None]


class LogLine(msgspec.Struct):
    """What the log says of one request; `time` is its end in UTC, `ms` how long it took."""

    time: str
    id: str
    client: str
    method: str
    path: str
    route: str
    model: str | None
    version: str | None
    status: int
    ms: float


class RequestLog:
    """Writes one line of JSON a request."""

    def __init__(self, out: TextIO | None = None) -> None:
        """`out` is standard output where nothing else is given."""
        self.out = out or sys.stdout

    def __call__(self, asked: AnsweredRequest) -> None:
        """Write one line; a reader that went away ends neither the server nor the log."""
        line = LogLine(
            time=datetime.now(UTC).isoformat(timespec="milliseconds"),
            id=asked.id,
            client=asked.client,
            method=asked.method,
            path=asked.path,
            route=asked.route,
            model=asked.model or None,
            version=asked.version or None,
            status=asked.status,
            ms=round(asked.seconds * 1e3, 3),
        )
        try:
            print(msgspec.json.encode(line).decode(), file=self.out, flush=True)
        except OSError:
            return


def tracing() -> tuple[Observer, Callable[[], None]] | None:
    """Return what makes a span of each request, and what sends the last of them; None where nobody asked.

    OpenTelemetry's standard variables ask, and say where to, under which name, how many. Raises CnnkitError
    where one of them is set and the packages are missing.
    """
    asked = next((name for name in ENDPOINTS if os.environ.get(name)), None)
    if asked is None or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    if any(_missing(package) for package in PACKAGES):
        raise CnnkitError(
            f"{asked} is set, and OpenTelemetry is not installed: "
            "`pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http`, or unset it"
        )
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import SpanKind, Status, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {SERVICE_NAME: "cnnkit"}
    provider = TracerProvider(resource=Resource.create(named))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    tracer, propagator = provider.get_tracer("cnnkit"), TraceContextTextMapPropagator()

    def observe(asked: AnsweredRequest) -> None:
        carrier = {
            name: asked.headers[name.encode()].decode("latin-1")
            for name in ("traceparent", "tracestate")
            if name.encode() in asked.headers
        }
        end_ns = time.time_ns()
        span = tracer.start_span(
            f"{asked.method} {asked.route}",
            context=propagator.extract(carrier),
            kind=SpanKind.SERVER,
            start_time=end_ns - round(asked.seconds * 1e9),
            attributes={
                "http.request.method": asked.method,
                "http.route": asked.route,
                "url.path": asked.path,
                "http.response.status_code": asked.status,
                "client.address": asked.client,
                "cnnkit.request_id": asked.id,
                **{f"cnnkit.{key}": value for key in ("model", "version") if (value := getattr(asked, key))},
            },
        )
        if asked.status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end(end_ns)

    return observe, provider.shutdown


def _missing(package: str) -> bool:
    try:
        return find_spec(package) is None
    except ModuleNotFoundError:
        return True
