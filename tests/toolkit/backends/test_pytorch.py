"""PyTorch as a backend: devices by name, the whole process's threads, what is told without importing it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from toolkit import zoo  # noqa: E402  (after the skip)
from toolkit.backends import BACKENDS, Engine, EngineOptions  # noqa: E402
from toolkit.backends.pytorch import torch_device  # noqa: E402
from toolkit.checkpoints import write_untrained  # noqa: E402
from toolkit.errors import MissingExtraError, NotFoundError, UnavailableError  # noqa: E402

OWN = Path(__file__).parent / "own_networks.py"


def opened(tmp_path: Path, model: str = "lenet-dropout", **options: object) -> Engine:
    artifact = write_untrained(zoo.model(model, model_file=OWN), tmp_path, model_file=OWN)
    return BACKENDS.load("pytorch").open(artifact, EngineOptions(model_file=OWN, **options))  # type: ignore[arg-type]


def test_a_network_is_opened_in_eval_mode(tmp_path: Path) -> None:
    """Dropout drops nothing: the same pictures get the same answers."""
    batch = np.random.default_rng(0).random((4, 1, 28, 28), dtype=np.float32)
    with opened(tmp_path) as engine:
        np.testing.assert_array_equal(engine.logits(batch), engine.logits(batch))
        assert engine.logits(batch).std() > 0


def test_every_output_of_a_tuple_is_an_array(tmp_path: Path) -> None:
    with opened(tmp_path, "two-headed") as engine:
        found = engine.run(np.zeros((3, 1, 12, 12), dtype=np.float32))
    assert [value.shape for value in found] == [(3, 7), (3, 3)]


def test_answers_hold_no_gradients_and_a_bound_call_runs_the_module(tmp_path: Path) -> None:
    with opened(tmp_path, "residual") as engine:
        call = engine.bind(np.ones((2, 3, 10, 9), dtype=np.float32))
        answer = call()
    assert isinstance(answer, torch.Tensor)
    assert answer.shape == (2, 5)
    assert not answer.requires_grad


def test_threads_are_those_of_the_whole_process(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        opened(tmp_path, threads=3).close()
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_device_is_named_and_what_is_possible_is_told() -> None:
    assert torch_device("cpu").type == "cpu"
    with pytest.raises(
        UnavailableError, match=r"no device 'toaster' for PyTorch; possible: cpu, cuda, cuda:N"
    ):
        BACKENDS.load("pytorch").device_for(EngineOptions(device="toaster"))
    with pytest.raises(UnavailableError, match="no device 'toaster' for PyTorch here; possible: cpu"):
        torch_device("toaster")
    with pytest.raises(UnavailableError, match="no device 'cuda:99' for PyTorch here; possible: cpu"):
        torch_device("cuda:99")


def test_a_network_of_ones_own_needs_its_file(tmp_path: Path) -> None:
    artifact = write_untrained(zoo.model("residual", model_file=OWN), tmp_path, model_file=OWN)
    with pytest.raises(NotFoundError, match="--model-file"):
        BACKENDS.load("pytorch").open(artifact, EngineOptions())


def test_whether_it_is_installed_is_told_without_importing_it() -> None:
    code = (
        "import sys; from toolkit.backends import BACKENDS\n"
        "print(BACKENDS.load('pytorch').installed(), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_a_box_without_torch_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    state = BACKENDS.load("pytorch").availability()
    assert (state.available, state.why_not) == (False, "PyTorch is not installed")
    assert state.how_to_get == "pip install 'cnnkit[train]'"
    with pytest.raises(MissingExtraError, match=r"cnnkit\[train\]"):
        torch_device("cpu")


def test_the_version_and_the_devices_are_those_of_this_machine() -> None:
    state = BACKENDS.load("pytorch").availability()
    assert state.available
    assert state.version == torch.__version__.split("+")[0] or state.version == torch.__version__
    assert state.devices[0] == "cpu"
