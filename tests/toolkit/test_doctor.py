"""`cnnkit doctor` looks instead of believing, and says what to type."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from click.testing import CliRunner

from cnnkit import front_door
from toolkit.backends import BACKENDS, ort
from toolkit.backends import _ort_providers as providers
from toolkit.inspection import doctor as inspection
from toolkit.machine.cuda import Gpu, device_count
from toolkit.machine.packages import missing


def doctor() -> dict:  # type: ignore[type-arg]
    result = CliRunner().invoke(front_door.main, ["doctor", "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)  # type: ignore[no-any-return]


def test_every_backend_says_what_it_is_or_why_it_is_not() -> None:
    payload = doctor()
    assert set(payload) == {"backends", "datasets", "machine"}
    assert set(payload["backends"]) == set(BACKENDS.names())
    for state in payload["backends"].values():
        assert set(state) == {"available", "version", "devices", "why_not", "how_to_get"}
        assert state["available"] or (state["why_not"] and state["how_to_get"])


def test_the_sample_that_ships_is_always_at_hand() -> None:
    assert doctor()["datasets"]["fashion-mnist-sample"]["available"] is True


@pytest.mark.skipif(device_count() > 0, reason="an NVIDIA GPU is here")
def test_providers_that_are_only_compiled_in_are_not_called_working() -> None:
    import onnxruntime as ort

    found = doctor()["machine"]["providers"]
    compiled = set(ort.get_available_providers())
    assert compiled <= set(found)
    assert found["CPUExecutionProvider"] is None
    for name in compiled - {"CPUExecutionProvider"}:
        assert found[name], f"{name} cannot work without a GPU"


def test_nothing_but_the_object_is_printed() -> None:
    command = [sys.executable, "-m", "cnnkit", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    json.loads(done.stdout)
    assert "EP Error" not in done.stdout + done.stderr


def test_people_get_tables() -> None:
    result = CliRunner().invoke(front_door.main, ["doctor"])
    assert result.exit_code == 0
    for word in ("Backends", "Data sets", "Machine", "CPUExecutionProvider"):
        assert word in result.output


def test_two_onnxruntimes_in_one_folder_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "package_version", lambda name: "1.31")
    said = providers.problems()
    assert "break each other: pip uninstall -y onnxruntime onnxruntime-gpu" in said[0]


def test_libraries_of_two_cuda_generations_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "torch_cuda", lambda: 12)
    monkeypatch.setattr(providers, "_needs", lambda name, library: {"nvinfer": 10, "cublas": 13}[library])
    monkeypatch.setattr(providers, "driver_version", lambda: "12.4")
    said = " ".join(providers.problems())
    assert "PyTorch is built for CUDA 12 and ONNX Runtime for CUDA 13" in said
    assert "the NVIDIA driver serves CUDA 12.4, packages here want CUDA 13" in said


def test_the_cuda_of_torch_is_read_without_importing_it() -> None:
    pytest.importorskip("torch")
    code = (
        "import sys; from toolkit.backends._ort_providers import torch_cuda\n"
        "print(torch_cuda(), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    import torch

    major = torch.version.cuda.split(".")[0] if torch.version.cuda else "None"
    assert done.stdout.split() == [major, "False"]


def test_the_tiny_model_of_the_probe_is_a_valid_one() -> None:
    onnx = pytest.importorskip("onnx")
    onnx.checker.check_model(onnx.load_from_string(providers.IDENTITY), full_check=True)


def test_what_is_missing_is_read_from_the_metadata_of_cnnkit_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        "numpy>=2",
        "no-such-package>=1; extra == 'page'",
        "no-such-either; sys_platform == 'plan9' and extra == 'page'",
        "cnnkit[page]; extra == 'all'",
        "no-such-tool; extra == 'test'",
    ]
    monkeypatch.setattr("toolkit.machine.packages.metadata.requires", lambda name: lines)
    assert missing() == {"no-such-package": "pip install 'cnnkit[page]'"}


def test_a_gpu_that_had_to_be_tried_stands_among_its_backends_devices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = Gpu(index=0, name="Stand-in", capability="SM89", memory_bytes=1)
    monkeypatch.setattr(ort, "gpus", lambda: (gpu,))
    for why, devices in ((None, ("cuda:0",)), ("libcublas.so.13 cannot be loaded", ())):
        monkeypatch.setattr(providers, "providers", lambda why=why: {"CUDAExecutionProvider": why})
        assert ort.BACKEND.examine().devices == devices


def test_a_driver_that_does_not_start_is_told_beside_what_it_serves() -> None:
    found = inspection.doctor()
    here = replace(found.machine, driver_cuda="13.0", driver_why_not="it does not start: error 802")
    (facts,) = (table.rows for table in replace(found, machine=here).tables() if table.title == "Machine")
    assert dict(facts)["NVIDIA driver"] == "serves CUDA 13.0; it does not start: error 802"
