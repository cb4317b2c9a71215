"""Whatever a client sends: no 5xx, no hang, no growth, always valid JSON."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import threading
import time
from typing import Any
from urllib.parse import urlencode

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.serve.conftest import MODEL, Answer, Server, png, tensor

INFER = f"/v2/models/{MODEL}/infer"
FUZZ = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
numbers = st.one_of(st.integers(-(2**70), 2**70), st.floats(), st.booleans(), st.none(), st.text(max_size=4))
trees = st.recursive(
    numbers,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)
shapes = st.one_of(st.lists(st.integers(-2, 10**12), max_size=6), trees, st.just([1, 1, 28, 28]))
names = st.sampled_from(["input", "../etc/passwd", "", "input\0", "logits"]) | trees
tensors = st.fixed_dictionaries(
    {},
    optional={
        "name": names,
        "shape": shapes,
        "datatype": st.sampled_from(["FP32", "FP64", "BYTES", "UINT8", ""]) | trees,
        "data": st.just([0.5] * 784) | trees,
        "parameters": trees | st.fixed_dictionaries({"binary_data_size": numbers}),
    },
)
requests = st.fixed_dictionaries(
    {},
    optional={
        "id": trees,
        "inputs": st.lists(tensors, max_size=3) | trees,
        "outputs": trees | st.lists(st.fixed_dictionaries({"name": names}), max_size=3),
        "parameters": trees,
    },
)


def fine(answer: Answer) -> None:
    assert answer.status < 500, answer.body
    if answer.headers["content-type"] == "application/json":
        json.loads(answer.body, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


@FUZZ
@given(request=requests)
def test_json_of_any_shape(api: Server, request: dict[str, Any]) -> None:
    fine(api.ask("POST", INFER, json.dumps(request).encode()))


@FUZZ
@given(body=st.binary(max_size=400), length=st.integers(-5, 500) | st.text("0123456789abc-", max_size=20))
def test_binary_that_lies(api: Server, body: bytes, length: int | str) -> None:
    fine(api.ask("POST", INFER, body, {"Inference-Header-Content-Length": str(length)}))


@FUZZ
@given(cut=st.integers(0, 4000), size=numbers | st.sampled_from([3136, 3136.0]))
@example(cut=3136, size=3136.0)
def test_sizes_that_lie(api: Server, cut: int, size: Any) -> None:
    entry = {k: v for k, v in tensor(np.zeros((1, 1, 28, 28), np.float32)).items() if k != "data"}
    entry["parameters"] = {"binary_data_size": size}
    head = json.dumps({"inputs": [entry]}).encode()
    body = head + b"\0" * cut
    answer = api.ask("POST", INFER, body, {"Inference-Header-Content-Length": str(len(head))})
    fine(answer)
    assert (answer.status == 200) == (size == cut == 3136 and isinstance(size, int))


@FUZZ
@given(
    data=st.binary(max_size=300),
    cut=st.integers(0, 90),
    kind=st.sampled_from(["", "image/png", "multipart/form-data; boundary=B"]),
)
def test_pictures_of_any_bytes(api: Server, data: bytes, cut: int, kind: str) -> None:
    whole = png()
    fine(api.ask("POST", "/v1/classify", whole[:cut] + data + whole[cut:], {"Content-Type": kind}))


@FUZZ
@given(path=st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#?"), max_size=40))
def test_paths_of_any_text(api: Server, path: str) -> None:
    fine(api.ask("GET", f"/v2/models/{path}"))
    fine(api.ask("POST", f"/v1/classify?model={path}", png()))


@FUZZ
@given(
    body=st.binary(max_size=200), tail=st.binary(max_size=20), name=st.sampled_from(["gzip", "deflate", "x"])
)
def test_compressed_bodies_with_tails(api: Server, body: bytes, tail: bytes, name: str) -> None:
    fine(api.ask("POST", INFER, gzip.compress(body) + tail, {"Content-Encoding": name}))


@FUZZ
@given(
    what=st.sampled_from(["answer", "inside", "heat", "layer", "x"]),
    query=st.dictionaries(
        st.sampled_from(["model", "engine", "invert", "centre", "index", "layer"]), st.text(max_size=20)
    ),
    body=st.binary(max_size=200),
)
def test_the_pages_own_requests(page: Server, what: str, query: dict[str, str], body: bytes) -> None:
    fine(page.ask("POST", f"/page/{what}?{urlencode(query)}", body))


def waiting_rows(api: Server) -> float:
    page = api.ask("GET", "/metrics").body.decode()
    (line,) = [line for line in page.splitlines() if line.startswith("cnnkit_waiting_rows{")]
    return float(line.rpartition(" ")[2])


def test_clients_that_vanish_leave_nothing_behind(api: Server) -> None:
    request = json.dumps({"inputs": [tensor(np.zeros((64, 1, 28, 28), np.float32))]}).encode()
    head = f"POST {INFER} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(request)}\r\n\r\n".encode()

    def vanish(share: float) -> None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", api.port)) as sock:
            sock.sendall((head + request)[: int(share * (len(head) + len(request)))])

    process = psutil.Process(api.process.pid)
    for _ in range(3):
        callers = [threading.Thread(target=vanish, args=(i / 20,)) for i in range(1, 21)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(20)
    answer = api.ask("GET", "/v2/health/ready")
    assert answer.status == 200
    end = time.monotonic() + 20
    # who came whole is still answered
    while (many := len(process.net_connections()) >= 10 or waiting_rows(api)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not many
    assert api.infer({"inputs": [tensor(np.zeros((1, 1, 28, 28), np.float32))]}).status == 200


# five minutes together
EACH_S = 50.0
LONG = [
    test_json_of_any_shape,
    test_binary_that_lies,
    test_sizes_that_lie,
    test_pictures_of_any_bytes,
    test_paths_of_any_text,
    test_compressed_bodies_with_tails,
]


@pytest.mark.slow
@pytest.mark.parametrize("fuzz", LONG, ids=lambda fuzz: fuzz.__name__.removeprefix("test_"))
def test_for_minutes(api: Server, fuzz: Any) -> None:
    process = psutil.Process(api.process.pid)
    fuzz(api=api)
    before = process.memory_info().rss
    end = time.monotonic() + EACH_S
    while time.monotonic() < end:
        fuzz(api=api)
    assert process.memory_info().rss - before < 64 * 2**20
