"""The protocol over gRPC, asked by NVIDIA's own client: answered as over HTTP, refused what HTTP refuses."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve.api.app import MAX_BODY
from serve.api.bodies import MOST_BODY_BYTES
from tests.serve.conftest import MODEL, Server, serving, tensor
from tests.stamping import stamp
from toolkit.artifacts import read_passport

pytest.importorskip("grpc", reason="grpcio is not installed (extra grpc)")
grpc_client = pytest.importorskip("tritonclient.grpc", reason="tritonclient is not installed (extra test)")
http_client = pytest.importorskip("tritonclient.http", reason="tritonclient is not installed (extra test)")

Rows = np.ndarray[Any, np.dtype[np.float32]]


@pytest.fixture(scope="module")
def server(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    args = ("--no-page", "--grpc-port", "0", "--model-control", "--token", "secret")
    with serving(tmp_path_factory.mktemp("grpc"), MODEL, *args) as made:
        yield made
    assert made.log == "" or "Traceback" not in made.log


@pytest.fixture(scope="module")
def address(server: Server) -> str:
    return f"127.0.0.1:{server.grpc_port}"


TOKEN = {"authorization": "Bearer secret"}


@pytest.fixture
def client(address: str) -> Iterator[Any]:
    made = grpc_client.InferenceServerClient(address)
    yield made
    made.close()


def asked(rows: Rows, name: str = "input", datatype: str = "FP32") -> list[Any]:
    made = grpc_client.InferInput(name, list(rows.shape), datatype)
    made.set_data_from_numpy(rows)
    return [made]


def test_both_protocols_answer_alike(client: Any, server: Server, rows: Rows) -> None:
    over_http = server.ask("POST", f"/v2/models/{MODEL}/infer", {"inputs": [tensor(rows)]}, TOKEN).json
    found = client.infer(MODEL, asked(rows), request_id="mine", headers=TOKEN)
    np.testing.assert_array_equal(
        found.as_numpy("logits"), np.float32(over_http["outputs"][0]["data"]).reshape(3, 10)
    )
    response = found.get_response()
    assert (response.id, response.model_name, response.model_version) == ("mine", MODEL, "fp32")


def alike(over_http: Any, found: Any) -> bool:
    """Tell whether gRPC's JSON says the same: whole numbers are texts there, 0 and empty are left out."""
    if isinstance(over_http, dict):
        return all(alike(value, found.get(key)) for key, value in over_http.items())
    if isinstance(over_http, list):
        return len(over_http) == len(found or []) and all(map(alike, over_http, found or []))
    return str(over_http) == str(found) or (not over_http and found is None)


def test_health_and_descriptions_are_the_same(client: Any, server: Server) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL, headers=TOKEN)
    for path, call in (
        ("", client.get_model_metadata),
        ("/config", client.get_model_config),
        ("/stats", client.get_inference_statistics),
    ):
        over_http = server.ask("GET", f"/v2/models/{MODEL}{path}", headers=TOKEN).json
        found = call(MODEL, headers=TOKEN, as_json=True)
        assert alike(over_http, found.get("config", found)), path
    shape = client.get_model_metadata(MODEL, headers=TOKEN).inputs[0].shape
    assert list(shape) == [-1, 1, 28, 28]
    assert client.get_model_config(MODEL, headers=TOKEN).config.max_batch_size == 32
    assert client.get_server_metadata(headers=TOKEN).name == "cnnkit"


def test_labels_and_numbers_in_contents(client: Any, address: str, rows: Rows) -> None:
    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    wanted = grpc_client.InferRequestedOutput("logits", class_count=3)
    labels = client.infer(MODEL, asked(rows), outputs=[wanted], headers=TOKEN).as_numpy("logits")
    assert labels.shape == (3, 3)
    assert labels[0, 0].decode().count(":") == 2
    request = service_pb2.ModelInferRequest(model_name=MODEL)
    entry = request.inputs.add(name="input", datatype="FP32", shape=rows.shape)
    entry.contents.fp32_contents.extend(rows.ravel().tolist())
    with grpc.insecure_channel(address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        found = stub.ModelInfer(request, metadata=[("authorization", "Bearer secret")])
    plain = client.infer(MODEL, asked(rows), headers=TOKEN).as_numpy("logits")
    np.testing.assert_array_equal(
        np.frombuffer(found.raw_output_contents[0], np.float32).reshape(3, 10), plain
    )


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"model": "none"}, "NOT_FOUND", "no model"),
        ({"version": "int3"}, "NOT_FOUND", "no version"),
        ({"name": "pixels"}, "INVALID_ARGUMENT", "no input"),
        ({"shape": (3, 1, 28, 27)}, "INVALID_ARGUMENT", "takes the shape"),
        ({"fill": np.nan}, "INVALID_ARGUMENT", "NaN or infinite"),
        ({"token": "wrong"}, "UNAUTHENTICATED", "password or token"),
        ({"output": "labels"}, "INVALID_ARGUMENT", "no output"),
    ],
    ids=str,
)
def test_what_is_refused_over_http_is_refused_here(
    client: Any, change: dict[str, Any], code: str, words: str
) -> None:
    rows = np.full(change.get("shape", (3, 1, 28, 28)), change.get("fill", 0.0), np.float32)
    outputs = [grpc_client.InferRequestedOutput(change["output"])] if "output" in change else None
    with pytest.raises(Exception, match=words) as refused:
        client.infer(
            change.get("model", MODEL),
            asked(rows, change.get("name", "input")),
            model_version=change.get("version", ""),
            outputs=outputs,
            headers={"authorization": f"Bearer {change.get('token', 'secret')}"},
        )
    assert code in str(refused.value)


def test_calls_are_counted_as_requests_are(client: Any, server: Server, rows: Rows) -> None:
    route = "/inference.GRPCInferenceService/ModelInfer"

    def counted(status: int) -> float:
        page = server.ask("GET", "/metrics", headers=TOKEN).body.decode()
        line = f'cnnkit_requests_total{{route="{route}",status="{status}"}} '
        return sum(float(one.removeprefix(line)) for one in page.splitlines() if one.startswith(line))

    before = counted(200), counted(404), counted(499)
    client.infer(MODEL, asked(rows), headers=TOKEN)
    with pytest.raises(Exception, match="no model"):
        client.infer("none", asked(rows), headers=TOKEN)
    assert (counted(200), counted(404), counted(499)) == (before[0] + 1, before[1] + 1, before[2])


def test_streams_are_refused_in_words(client: Any, rows: Rows) -> None:
    import queue

    found: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: found.put(error))
    # which the client refuses itself where the server's answer is there already
    with contextlib.suppress(grpc_client.InferenceServerException):
        client.async_stream_infer(MODEL, asked(rows))
    assert "streams are not offered" in str(found.get(timeout=20))
    client.stop_stream()


def test_models_are_loaded_and_unloaded(client: Any) -> None:
    client.load_model(MODEL, headers=TOKEN)
    index = client.get_model_repository_index(headers=TOKEN)
    assert (index.models[0].name, index.models[0].state) == (MODEL, "READY")
    with pytest.raises(Exception, match="no artifact"):
        client.load_model("none", headers=TOKEN)


def test_a_large_batch_passes(client: Any) -> None:
    rows = np.zeros((2_000, 1, 28, 28), np.float32)
    assert client.infer(MODEL, asked(rows), headers=TOKEN).as_numpy("logits").shape == (2_000, 10)


def test_without_the_extra_its_name_is_said(shipped: Path, tmp_path: Path) -> None:
    import subprocess

    from tests.serve.test_life import without

    command = [*without("grpc", tmp_path, "--no-page"), "--grpc-port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 3
    assert "pip install 'cnnkit[grpc]'" in done.stderr


def test_calls_without_a_message_hold_up_others_until_their_time_is_over(
    shipped: Path, tmp_path: Path, rows: Rows
) -> None:
    import grpc

    # the server's own module cannot be imported beside the client's, whose protocol has the same names
    most = MOST_BODY_BYTES // MAX_BODY
    with serving(tmp_path, MODEL, "--no-page", "--grpc-port", "0", "--deadline", "3") as server:
        address = f"127.0.0.1:{server.grpc_port}"
        silent = threading.Event()

        def nothing() -> Iterator[bytes]:
            silent.wait(30)
            yield b""

        with grpc.insecure_channel(address) as channel:
            call = channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")
            rude = [call.future(nothing()) for _ in range(most)]
            time.sleep(1.5)  # so much later is the polite one's deadline, which holds its answer
            polite = grpc_client.InferenceServerClient(address)
            assert polite.infer(MODEL, asked(rows)).as_numpy("logits").shape == (3, 10)
            polite.close()
            for one in rude:
                error = one.exception(10)
                assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
                assert "did not come in time" in error.details()
            silent.set()
    assert "Traceback" not in server.log


def test_what_is_no_message_is_refused_in_words(address: str) -> None:
    import grpc

    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError, match="the message cannot be read"):
            call(b"\xff\xff\xff", metadata=tuple(TOKEN.items()))
        with pytest.raises(grpc.RpcError, match="password or token"):
            call(b"\xff\xff\xff")


def test_a_length_that_may_be_any_is_minus_one_in_a_configuration(shipped: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra export)")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["input"], ["means"]),
            helper.make_node("Flatten", ["means"], ["flat"]),
            helper.make_node("MatMul", ["flat", "w"], ["logits"]),
        ],
        "g",
        [helper.make_tensor_value_info("input", kind, ["N", 1, "H", "W"])],
        [helper.make_tensor_value_info("logits", kind, ["N", 10])],
        [onnx.numpy_helper.from_array(np.ones((1, 10), np.float32), "w")],
    )
    path = tmp_path / "free" / "free.onnx"
    path.parent.mkdir()
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    known = read_passport(shipped)
    free = dataclasses.replace(known.input, shape=(None, 1, None, None))
    stamp(path, dataclasses.replace(known, model="free", input=free))
    with serving(tmp_path, "free", "--no-page", "--grpc-port", "0") as server:
        over_http = server.ask("GET", "/v2/models/free/config").json
        client = grpc_client.InferenceServerClient(f"127.0.0.1:{server.grpc_port}")
        over_grpc = client.get_model_config("free").config
        client.close()
    assert over_http["input"][0]["dims"] == list(over_grpc.input[0].dims) == [1, -1, -1]
    assert over_http["output"][0]["dims"] == list(over_grpc.output[0].dims) == [10]
