"""NVIDIA's own client, which knows nothing of this project, speaks to a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve.classifier import Classifier
from serve.settings import OpeningSettings
from tests.serve.conftest import MODEL, Server

http = pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed (extra test)")
InferenceServerException = pytest.importorskip("tritonclient.utils").InferenceServerException
Rows = np.ndarray[Any, np.dtype[np.float32]]


@pytest.fixture(scope="module")
def client(api: Server) -> Iterator[Any]:
    with http.InferenceServerClient(f"127.0.0.1:{api.port}", concurrency=4) as made:
        yield made


@pytest.fixture(scope="module")
def expected(shipped: Path, rows: Rows, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    choice = OpeningSettings(root=tmp_path_factory.mktemp("empty"))
    return Classifier(choice.find(MODEL, "ort"), "ort").run(rows)[0]


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


def test_the_repository_lists_what_is_served(client: Any) -> None:
    rows = client.get_model_repository_index()
    assert {"name": MODEL, "version": "fp32", "state": "READY"} in rows


def test_statistics_count_what_was_asked(client: Any, rows: Rows) -> None:
    def stats(**where: str) -> Any:
        (found,) = [
            row
            for row in client.get_inference_statistics(**where)["model_stats"]
            if (row["name"], row["version"]) == (MODEL, "fp32")
        ]
        return found

    given = http.InferInput("input", list(rows.shape), "FP32")
    given.set_data_from_numpy(rows)
    before = stats()
    client.infer(MODEL, [given])
    after = stats(model_name=MODEL, model_version="fp32")
    assert after["inference_count"] - before["inference_count"] == len(rows)
    assert after["execution_count"] - before["execution_count"] == 1
    for span in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        assert after["inference_stats"][span]["count"] - before["inference_stats"][span]["count"] == 1
        assert after["inference_stats"][span]["ns"] > before["inference_stats"][span]["ns"]
    assert after["last_inference"] >= before["last_inference"]
    assert len(rows) in {entry["batch_size"] for entry in after["batch_stats"]}
    assert stats(model_name=MODEL) == after

    given = http.InferInput("wrong", list(rows.shape), "FP32")
    given.set_data_from_numpy(rows)
    with pytest.raises(Exception, match="no input 'wrong'"):
        client.infer(MODEL, [given])
    assert stats()["inference_stats"]["fail"]["count"] == after["inference_stats"]["fail"]["count"] + 1


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda c: c.load_model("lenet"), "fixed when"),
        (lambda c: c.unload_model(MODEL), "fixed when"),
        (lambda c: c.get_system_shared_memory_status(), "shared memory is not offered"),
        (lambda c: c.register_system_shared_memory("a", "/etc/passwd", 10), "shared memory is not offered"),
        (lambda c: c.unregister_system_shared_memory(), "shared memory is not offered"),
        (lambda c: c.get_cuda_shared_memory_status(), "shared memory is not offered"),
        (lambda c: c.register_cuda_shared_memory("a", b"x", 0, 10), "shared memory is not offered"),
        (lambda c: c.unregister_cuda_shared_memory(), "shared memory is not offered"),
        (lambda c: c.get_trace_settings(), "traces are not offered"),
        (lambda c: c.update_trace_settings(MODEL, {}), "traces are not offered"),
        (lambda c: c.get_log_settings(), "log settings"),
        (lambda c: c.update_log_settings({}), "log settings"),
        (lambda c: c.get_inference_statistics("nope"), "no model 'nope'"),
    ],
)
def test_what_is_not_offered_is_said(client: Any, call: Any, why: str) -> None:
    with pytest.raises(InferenceServerException, match=why):
        call(client)
