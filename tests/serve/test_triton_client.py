"""NVIDIA's own client, which knows nothing of this project, speaks to a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve.classifier import Choice, Classifier, find
from tests.serve.conftest import MODEL, Server

http = pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed (extra test)")
Rows = np.ndarray[Any, np.dtype[np.float32]]


@pytest.fixture(scope="module")
def client(api: Server) -> Iterator[Any]:
    with http.InferenceServerClient(f"127.0.0.1:{api.port}", concurrency=4) as made:
        yield made


@pytest.fixture(scope="module")
def expected(shipped: Path, rows: Rows, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    choice = Choice(root=tmp_path_factory.mktemp("empty"))
    return Classifier(find(MODEL, "ort", choice), "ort").run(rows)[0]


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert client.is_model_ready(MODEL, "fp32")
    assert not client.is_model_ready("nope")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert client.get_model_metadata(MODEL)["outputs"][0]["shape"] == [-1, 10]
    assert client.get_model_config(MODEL)["input"][0]["dims"] == [1, 28, 28]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_infer(
    client: Any, rows: Rows, expected: Rows, binary_in: bool, binary_out: bool, compression: str | None
) -> None:
    given = http.InferInput("input", list(rows.shape), "FP32")
    given.set_data_from_numpy(rows, binary_data=binary_in)
    result = client.infer(
        MODEL,
        [given],
        request_id="seven",
        outputs=[http.InferRequestedOutput("logits", binary_data=binary_out)],
        request_compression_algorithm=compression,
        response_compression_algorithm=compression,
    )
    np.testing.assert_allclose(result.as_numpy("logits"), expected, rtol=1e-5, atol=1e-5)
    assert result.get_response()["id"] == "seven"
    assert result.get_response()["model_version"] == "fp32"


def test_infer_with_no_outputs_named_and_a_version(client: Any, rows: Rows, expected: Rows) -> None:
    given = http.InferInput("input", list(rows.shape), "FP32")
    given.set_data_from_numpy(rows)
    result = client.infer(MODEL, [given], model_version="fp32", timeout=5_000_000)
    np.testing.assert_allclose(result.as_numpy("logits"), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("binary", [True, False])
def test_classification(client: Any, rows: Rows, expected: Rows, binary: bool) -> None:
    given = http.InferInput("input", list(rows.shape), "FP32")
    given.set_data_from_numpy(rows)
    wanted = http.InferRequestedOutput("logits", binary_data=binary, class_count=3)
    found = client.infer(MODEL, [given], outputs=[wanted]).as_numpy("logits")
    assert found.shape == (3, 3)
    first = found[0, 0].decode() if isinstance(found[0, 0], bytes) else found[0, 0]
    assert int(first.split(":")[1]) == int(expected[0].argmax())


def test_many_at_once(client: Any, rows: Rows, expected: Rows) -> None:
    given = http.InferInput("input", list(rows.shape), "FP32")
    given.set_data_from_numpy(rows)
    for request in [client.async_infer(MODEL, [given]) for _ in range(20)]:
        found = request.get_result().as_numpy("logits")
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_mistakes_come_back_in_words(client: Any, rows: Rows) -> None:
    given = http.InferInput("wrong", list(rows.shape), "FP32")
    given.set_data_from_numpy(rows)
    with pytest.raises(Exception, match="no input 'wrong'"):
        client.infer(MODEL, [given])
