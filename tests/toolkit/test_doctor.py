"""`cnnkit doctor` looks instead of believing, and says what to type."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import cnnkit
from toolkit import catalog
from toolkit.machine import survey as _machine
from toolkit.machine.cuda import device_count


def doctor() -> dict:  # type: ignore[type-arg]
    result = CliRunner().invoke(cnnkit.main, ["doctor", "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)  # type: ignore[no-any-return]


def test_every_backend_says_what_it_is_or_why_it_is_not() -> None:
    payload = doctor()
    assert set(payload) == {"backends", "datasets", "machine"}
    assert set(payload["backends"]) == set(catalog.names("backend"))
    for state in payload["backends"].values():
        assert set(state) == {"available", "version", "devices", "why_not", "how_to_get"}
        assert state["available"] or (state["why_not"] and state["how_to_get"])


def test_the_sample_that_ships_is_always_at_hand() -> None:
    assert doctor()["datasets"]["fashion-mnist-sample"]["available"] is True


@pytest.mark.skipif(device_count() > 0, reason="an NVIDIA GPU is here")
def test_providers_that_are_only_compiled_in_are_not_called_working() -> None:
    import onnxruntime as ort

    found = doctor()["machine"]["providers"]
    assert set(found) == set(ort.get_available_providers())
    assert found["CPUExecutionProvider"] is None
    for name in set(found) - {"CPUExecutionProvider"}:
        assert found[name], f"{name} cannot work without a GPU"


def test_nothing_but_the_object_is_printed() -> None:
    command = [sys.executable, "-m", "cnnkit", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    json.loads(done.stdout)
    assert "EP Error" not in done.stdout + done.stderr


def test_people_get_tables() -> None:
    result = CliRunner().invoke(cnnkit.main, ["doctor"])
    assert result.exit_code == 0
    for word in ("Backends", "Data sets", "Machine", "ORT CPU"):
        assert word in result.output


def test_two_onnxruntimes_in_one_folder_are_a_problem() -> None:
    said = _machine._problems({"onnxruntime": "1.31", "onnxruntime-gpu": "1.31"})
    assert "break each other: pip uninstall -y onnxruntime onnxruntime-gpu" in said[0]


def test_libraries_of_two_cuda_generations_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_machine, "_torch_cuda", lambda: 12)
    monkeypatch.setattr(_machine, "_needs", lambda name, library: {"nvinfer": 10, "cublas": 13}[library])
    monkeypatch.setattr(_machine, "driver_version", lambda: "12.4")
    said = " ".join(_machine._problems({}))
    assert "PyTorch is built for CUDA 12 and ONNX Runtime for CUDA 13" in said
    assert "the NVIDIA driver serves CUDA 12.4, packages here want CUDA 13" in said


def test_the_cuda_of_torch_is_read_without_importing_it() -> None:
    pytest.importorskip("torch")
    code = (
        "import sys; from toolkit.machine.survey import _torch_cuda\n"
        "print(_torch_cuda(), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    import torch

    major = torch.version.cuda.split(".")[0] if torch.version.cuda else "None"
    assert done.stdout.split() == [major, "False"]


def test_the_tiny_model_of_the_probe_is_a_valid_one() -> None:
    onnx = pytest.importorskip("onnx")
    onnx.checker.check_model(onnx.load_from_string(_machine.IDENTITY), full_check=True)


def test_the_file_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_machine, "PARTS", {"page": ("no_such_package",)})
    assert _machine._missing()["no_such_package"] == "pip install 'cnnkit[page]'"
