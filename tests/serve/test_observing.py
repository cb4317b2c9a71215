"""What the server tells of its requests: lines of JSON, OpenTelemetry's spans, the page's traffic."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from tests.serve.conftest import MODEL, Server, serving, tensor

ASK = {"inputs": [tensor(np.zeros((1, 1, 28, 28), dtype=np.float32))]}
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_line_of_json_a_request(shipped: Path, tmp_path: Path) -> None:
    out = tmp_path / "log"
    with serving(tmp_path, MODEL, "--no-page", "--log-requests", stdout=out) as server:
        headers = {"X-Request-Id": "mine"}
        server.ask("POST", f"/v2/models/{MODEL}/versions/fp32/infer?a=secret", ASK, headers)
        server.ask("GET", "/v2/models/none")
        server.ask("GET", "/nothing")
    infer, unknown, nothing = (json.loads(line) for line in out.read_text().splitlines())
    route = "/v2/models/{model}/versions/{version}/infer"
    assert (infer["id"], infer["status"], infer["route"]) == ("mine", 200, route)
    assert (infer["model"], infer["version"], infer["method"]) == (MODEL, "fp32", "POST")
    assert infer["client"] == "127.0.0.1"
    assert 0 < infer["ms"] < 10_000
    assert "secret" not in json.dumps(infer)
    assert (unknown["status"], unknown["version"]) == (404, None)
    assert (nothing["route"], nothing["status"]) == ("other", 404)


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    found: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", found
    server.shutdown()
    server.server_close()


def test_spans_go_where_the_standard_variables_say(
    shipped: Path, tmp_path: Path, collector: tuple[str, list[bytes]]
) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="OpenTelemetry is not installed")
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    url, found = collector
    env = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_COMPRESSION": "none"}
    with serving(tmp_path, MODEL, "--no-page", env=env) as server:
        server.ask("POST", f"/v2/models/{MODEL}/infer", ASK, {"traceparent": PARENT, "X-Request-Id": "mine"})
    spans = [
        span
        for body in found
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    (span,) = [one for one in spans if one.name == "POST /v2/models/{model}/infer"]
    assert span.trace_id.hex() == PARENT.split("-")[1]
    assert span.parent_span_id.hex() == PARENT.split("-")[2]
    said = {pair.key: pair.value.string_value or pair.value.int_value for pair in span.attributes}
    assert (said["http.response.status_code"], said["cnnkit.model"], said["cnnkit.request_id"]) == (
        200,
        MODEL,
        "mine",
    )
    assert 0 < span.end_time_unix_nano - span.start_time_unix_nano < 10**10


def test_the_pages_traffic_is_counted(page: Server) -> None:
    page.ask("GET", "/")
    assert 'cnnkit_requests_total{route="page",status="200"}' in page.ask("GET", "/metrics").body.decode()
