"""Versions are opened on demand: one that cannot be is 503 in words, and is not said to be ready."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("prometheus_client", reason="prometheus_client is not installed (extra serve)")

from serve.api import HttpRequest, RefusedError
from serve.api.admission import Admission
from serve.api.metrics import ServerMetrics
from serve.api.protocol import Protocol
from serve.classifier import Classifier
from serve.lineup import line_up
from serve.registry import Registry
from serve.served import ServedModel
from serve.settings import BatchingSettings, OpeningSettings
from tests.serve.conftest import MODEL, serving, tensor
from tests.stamping import stamp
from toolkit.artifacts import Artifact, read_passport
from toolkit.backends import BACKENDS
from toolkit.errors import CnnkitError, NotFoundError

IMAGE = np.zeros((1, 1, 28, 28), dtype=np.float32)


def half(shipped: Path, root: Path, content: bytes | None = None) -> Artifact:
    """Write a version `fp16` under `root`: the shipped file's bytes, or others."""
    path = root / MODEL / f"{MODEL}.fp16.onnx"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(shipped.read_bytes() if content is None else content)
    return stamp(path, dataclasses.replace(read_passport(shipped), precision="fp16"))


def test_a_version_that_cannot_be_opened_is_503_and_listed_as_unavailable(
    shipped: Path, tmp_path: Path
) -> None:
    half(shipped, tmp_path, b"no graph")
    with serving(tmp_path, MODEL, "--no-page") as server:
        path = f"/v2/models/{MODEL}/versions/fp16"
        assert server.ask("GET", f"{path}/ready").status == 200
        for _ in range(2):
            answer = server.ask("POST", f"{path}/infer", {"inputs": [tensor(IMAGE)]})
            assert answer.status == 503
            assert "ONNX Runtime cannot open" in answer.json["error"]
            assert int(answer.headers["retry-after"]) >= 1
        assert server.ask("GET", f"{path}/ready").status == 503
        rows = {row["version"]: row for row in server.ask("POST", "/v2/repository/index").json}
        assert rows["fp32"]["state"] == "READY"
        assert rows["fp16"]["state"] == "UNAVAILABLE"
        assert "ONNX Runtime cannot open" in rows["fp16"]["reason"]
        ready = server.ask("POST", "/v2/repository/index", {"ready": True}).json
        assert [row["version"] for row in ready] == ["fp32"]
        assert server.ask("GET", f"/v2/models/{MODEL}").json["versions"] == ["fp32"]
        assert server.ask("GET", "/v1/models").json["models"][0]["versions"] == ["fp32"]


def started(root: Path) -> ServedModel:
    (model,) = line_up([MODEL], "ort", OpeningSettings(root=root), others=False)
    model.classifier()
    model.look()
    return model


def test_a_fault_is_remembered_until_there_is_another_file(shipped: Path, tmp_path: Path) -> None:
    half(shipped, tmp_path, b"no graph")
    model = started(tmp_path)
    with pytest.raises(CnnkitError, match="cannot open"):
        model.classifier("fp16")
    half(shipped, tmp_path)
    with pytest.raises(CnnkitError, match="cannot open"):
        model.classifier("fp16")
    assert model.fault("fp16") is not None
    model.look()
    assert model.fault("fp16") is None
    assert model.classifier("fp16").artifact.passport.precision == "fp16"
    model.close()


class Slow(ServedModel):
    """A model whose other versions take longer to open than a request may."""

    opens = 0

    def open(self, artifact: Artifact) -> Classifier:
        if artifact.passport.precision == "fp16":
            self.opens += 1
            time.sleep(0.5)
        return super().open(artifact)


def test_a_version_that_opens_slowly_is_504_first_and_there_later(shipped: Path, tmp_path: Path) -> None:
    half(shipped, tmp_path)
    opening = OpeningSettings(root=tmp_path)
    model = Slow(
        name=MODEL, backend=BACKENDS.load("ort"), opening=opening, artifact=opening.find(MODEL, "ort")
    )
    registry = Registry([model], BatchingSettings(), lambda name, rows, seconds: None)
    registry.start()
    protocol = Protocol(registry, Admission(ServerMetrics(), 10))

    async def read() -> bytes:
        return b""

    def request(left_s: float) -> HttpRequest:
        came = asyncio.get_running_loop().time()
        return HttpRequest(query="", headers={}, came=came, deadline=came + left_s, read=read)

    async def go() -> None:
        with pytest.raises(RefusedError, match="still being opened") as refused:
            await protocol.version(request(0.01), MODEL, "fp16")
        assert refused.value.status == 504
        opened = await protocol.version(request(60), MODEL, "fp16")
        assert opened.classifier.artifact.passport.precision == "fp16"
        await registry.close()

    asyncio.run(go())
    assert model.opens == 1


def test_who_came_before_a_model_was_given_up_is_answered_by_it(shipped: Path, tmp_path: Path) -> None:
    half(shipped, tmp_path)
    registry = Registry([started(tmp_path)], BatchingSettings(), ServerMetrics().batch)
    registry.start()

    async def go() -> None:
        found = registry.opened(registry.models[MODEL], None)
        assert found is not None
        await registry.give_up(MODEL)
        with pytest.raises(NotFoundError, match=f"no model '{MODEL}'"):
            await registry.give_up(MODEL)
        rows = np.zeros((40, 1, 28, 28), np.float32)
        deadline = asyncio.get_running_loop().time() + 60
        arrays, _ = await Admission(ServerMetrics(), 60).run(found, rows, deadline)
        assert arrays[0].shape == (40, 10)

    asyncio.run(go())


def test_a_version_whose_file_is_gone_is_said(shipped: Path, tmp_path: Path) -> None:
    half(shipped, tmp_path)
    model = started(tmp_path)
    shutil.rmtree(tmp_path / MODEL)
    with pytest.raises(CnnkitError, match="no file"):
        model.classifier("fp16")
    model.look()
    with pytest.raises(NotFoundError, match="no version 'fp16'"):
        model.classifier("fp16")
    model.close()
