"""The repository in a real tritonserver, on loopback only.

The server comes from the package nvidia-pytriton, in an environment of its own (it wants numpy 1), and
has the python backend alone: a model.py of a few lines runs our ONNX file there. Config, labels,
batching, queue policy and warm-up are the exported ones.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.exporters.conftest import cnnkit_json
from tests.ports import free_port
from toolkit.artifacts import Artifact, open_artifact
from toolkit.backends import BACKENDS, EngineOptions

pytestmark = pytest.mark.slow

PACKAGES = ("nvidia-pytriton==0.7.0", "onnxruntime", "numpy<2")
MODEL = """
import os, sys
sys.path.insert(0, {site!r})
import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb

class TritonPythonModel:
    def initialize(self, args):
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        self.session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.input, self.output = self.session.get_inputs()[0].name, self.session.get_outputs()[0].name

    def execute(self, requests):
        given = [pb.get_input_tensor_by_name(request, self.input).as_numpy() for request in requests]
        found = [self.session.run(None, {{self.input: batch}})[0] for batch in given]
        return [pb.InferenceResponse([pb.Tensor(self.output, np.asarray(answer))]) for answer in found]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the server into an environment of its own; skip where it cannot be had."""
    folder = tmp_path_factory.mktemp("server")
    venv.create(folder, with_pip=True)
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", *PACKAGES]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"nvidia-pytriton cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
    return next((folder / "lib").glob("python3*/site-packages"))


@pytest.fixture
def server(site: Path, root: Path, tmp_path: Path) -> Iterator[str]:
    """Start the server over the exported repository; return its address on loopback."""
    payload = cnnkit_json(
        "export", "lenet-maxpool", "--format", "triton", "--images", "64", "--artifacts", root
    )
    repository = Path(payload["artifacts"][-1]["path"])
    config = repository / "lenet-maxpool" / "config.pbtxt"
    config.write_text(config.read_text().replace('backend: "onnxruntime"', 'backend: "python"'))
    (repository / "lenet-maxpool" / "1" / "model.py").write_text(MODEL.format(site=str(site)))
    home = site / "pytriton" / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = home / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.exists():
        pytest.skip(f"the server has no python backend for Python {version}")
    shutil.copytree(home / "backends", tmp_path / "backends")
    shutil.copy(stub, tmp_path / "backends" / "python")
    port = free_port()
    command = [
        *(str(home / "bin" / "tritonserver"), f"--model-repository={repository}"),
        *(f"--backend-directory={tmp_path / 'backends'}", "--http-address=127.0.0.1", f"--http-port={port}"),
        *("--allow-grpc=false", "--allow-metrics=false"),
    ]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(site / "nvidia_pytriton.libs")}
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            _wait_until_ready(f"http://127.0.0.1:{port}", process, tmp_path / "server.log")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(60)


def _wait_until_ready(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(120):
        if process.poll() is not None:
            pytest.fail(f"tritonserver ended: {log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(f"{address}/v2/models/lenet-maxpool/ready", timeout=1):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail("tritonserver did not become ready in a minute")


def ask(address: str, batch: Any, **parameters: Any) -> dict[str, Any]:
    given = {"name": "input", "shape": list(batch.shape), "datatype": "FP32", "data": batch.ravel().tolist()}
    body = {"inputs": [given], "outputs": [{"name": "logits", "parameters": parameters}]}
    request = urllib.request.Request(
        f"{address}/v2/models/lenet-maxpool/infer",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        output: dict[str, Any] = json.loads(reply.read())["outputs"][0]
    return output


def test_the_server_gives_our_answers_and_our_labels(server: str, root: Path) -> None:
    artifact: Artifact = open_artifact(root / "lenet-maxpool" / "lenet-maxpool.onnx")
    batch = np.random.default_rng(0).standard_normal((5, 1, 28, 28)).astype(np.float32)
    with BACKENDS.load("ort").open(artifact, EngineOptions()) as engine:
        ours = engine.logits(batch)
    theirs = np.array(ask(server, batch)["data"], np.float32).reshape(5, 10)
    np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-4)
    first = ask(server, batch[:1], classification=1)["data"][0].split(":")
    assert first[2] == artifact.passport.classes[int(ours[0].argmax())]
