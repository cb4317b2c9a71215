"""Models loaded and unloaded by name while serving, only where that was allowed, only from the folder."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.serve.conftest import MODEL, Server, serving, tensor
from toolkit.artifacts import sidecar

ASK = {"inputs": [tensor(np.zeros((1, 1, 28, 28), dtype=np.float32))]}
OTHER = "second"


@pytest.fixture(scope="module")
def controlled(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("controlled")
    (root / OTHER).mkdir()
    copy = root / OTHER / f"{OTHER}.onnx"
    shutil.copy(shipped, copy)
    shutil.copy(sidecar(shipped), sidecar(copy))
    with serving(root, MODEL, "--no-page", "--model-control") as server:
        yield server
    assert "Traceback" not in server.log


def control(server: Server, name: str, action: str, body: dict[str, object] | None = None) -> tuple[int, str]:
    answer = server.ask("POST", f"/v2/repository/models/{name}/{action}", body)
    return answer.status, answer.json.get("error", "")


def infer(server: Server, name: str) -> int:
    return server.ask("POST", f"/v2/models/{name}/infer", ASK).status


def test_a_model_of_the_folder_is_loaded_served_and_unloaded_under_load(controlled: Server) -> None:
    assert infer(controlled, OTHER) == 404
    assert control(controlled, OTHER, "load") == (200, "")
    statuses: list[int] = []
    stop = threading.Event()

    def call() -> None:
        while not stop.is_set():
            statuses.append(infer(controlled, OTHER))

    caller = threading.Thread(target=call)
    caller.start()
    for _ in range(3):  # opened anew
        assert control(controlled, OTHER, "load") == (200, "")
    stop.set()
    caller.join(20)
    assert set(statuses) == {200}
    assert control(controlled, OTHER, "unload", {"parameters": {"unload_dependents": False}}) == (200, "")
    assert infer(controlled, OTHER) == 404
    index = controlled.ask("POST", "/v2/repository/index", {}).json
    assert {"name": OTHER, "version": "", "state": "UNAVAILABLE", "reason": "unloaded"} in index
    assert infer(controlled, MODEL) == 200


@pytest.mark.parametrize(
    ("name", "action", "body", "status", "words"),
    [
        ("none", "load", None, 400, "no artifact of that name"),
        ("..%2F..%2Fetc", "load", None, 400, "NAME/load"),
        ("lenet", "load", None, 400, "no artifact of that name"),
        ("none", "unload", None, 404, "no model"),
        (MODEL, "load", {"parameters": {"config": "{}"}}, 400, "unload_dependents at most"),
        (MODEL, "load", {"parameters": 3}, 400, "parameters"),
    ],
)
def test_what_cannot_be_loaded_or_unloaded_is_said(
    controlled: Server, name: str, action: str, body: dict[str, object] | None, status: int, words: str
) -> None:
    found, error = control(controlled, name, action, body)
    assert (found, words in error) == (status, True), error


def test_tritons_client_loads_and_unloads(controlled: Server) -> None:
    http = pytest.importorskip("tritonclient.http", reason="tritonclient is not installed (extra test)")
    client = http.InferenceServerClient(f"127.0.0.1:{controlled.port}")
    client.load_model(OTHER)
    assert client.is_model_ready(OTHER)
    client.unload_model(OTHER)
    assert not client.is_model_ready(OTHER)
    client.close()


def test_without_leave_nothing_is_loaded(api: Server) -> None:
    found, error = control(api, MODEL, "load")
    assert (found, "--model-control" in error) == (400, True)
    found, error = control(api, MODEL, "unload")
    assert (found, "--model-control" in error) == (400, True)
