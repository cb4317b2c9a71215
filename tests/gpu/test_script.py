"""The script itself, as `make gpu` calls it, on the CPU that stands in for a GPU."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gpu.plan import NETWORKS, REPO
from toolkit.machine.cuda import device_count

# what a machine without those packages answers to an import of theirs, and to a look for them
BLOCKED = """
import sys
from importlib.abc import MetaPathFinder

class Missing(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

    def invalidate_caches(self):
        pass

sys.meta_path.insert(0, Missing())
import importlib.util
_find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: (
    None if name.partition(".")[0] in {names!r} else _find(name, package)
)
"""


def script(
    folder: Path, *words: str, without: tuple[str, ...] = (), **more: str
) -> tuple[int, str, subprocess.CompletedProcess[str]]:
    """Run the script in an empty folder; return its status, its page and what it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **more}
    if without:
        (folder / "sitecustomize.py").write_text(BLOCKED.format(names=set(without)))
    environment["PYTHONPATH"] = os.pathsep.join((str(folder), str(REPO)))
    ran = subprocess.run(
        [sys.executable, "-m", "tests.gpu", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    page = folder / "gpu.md"
    return ran.returncode, page.read_text("utf-8") if page.is_file() else "", ran


@pytest.mark.skipif(device_count() > 0, reason="this machine has a GPU")
def test_without_a_gpu_it_says_so_and_exits_with_3(tmp_path: Path) -> None:
    status, page, _ = script(tmp_path)
    assert status == 3
    assert "No NVIDIA GPU can be used here, so nothing was run." in page
    assert re.search(r"\| GPU \| .*NVIDIA driver", page)


def test_pytorch_trains_and_proves_itself_by_the_commands_that_users_type(tmp_path: Path) -> None:
    words = ("--device", "cpu", "--quick", "--networks", "lenet-maxpool", "--only", "train,verify,look")
    status, page, ran = script(tmp_path, *words)
    assert "| train lenet-maxpool | passed |" in page, ran.stdout + ran.stderr
    assert "| verify lenet-maxpool on PyTorch | passed |" in page
    assert "500 of 500 alike, largest difference 0 (allowed" in page
    # what was left away by --only was not profiled, so the walk is not complete
    assert status == 4
    assert "**Not complete** on the CPU, which stands in for a GPU: profile lenet-maxpool on PyTorch." in page
    assert list(tmp_path.iterdir()) == [tmp_path / "gpu.md"]


def test_without_its_packages_every_part_is_skipped_by_name_and_the_status_is_4(tmp_path: Path) -> None:
    without = ("torch", "onnxruntime", "onnx", "pytest")
    status, page, ran = script(tmp_path, "--device", "cpu", "--quick", "--budget", "60", without=without)
    assert status == 4, ran.stdout + ran.stderr
    for line in (
        "tests marked gpu: not installed: pytest, torch",
        "train alexnet28: not installed: torch",
        "export alexnet28: not installed: torch, onnx, onnxruntime",
        "verify alexnet28.onnx: not installed: onnxruntime",
    ):
        assert f"- {line}" in page


def test_an_unknown_network_is_wrong_usage(tmp_path: Path) -> None:
    status, page, ran = script(tmp_path, "--networks", "lenet5000")
    assert (status, page) == (2, "")
    assert "no network lenet5000; known: lenet-maxpool, alexnet28, resnet18-cifar" in ran.stderr


@pytest.mark.slow
def test_the_whole_walk_passes_on_the_cpu(tmp_path: Path) -> None:
    status, page, ran = script(tmp_path, "--device", "cpu", "--quick", "--budget", "1500")
    assert status == 0, page + ran.stdout + ran.stderr
    assert "No step failed." in page
    for network in NETWORKS:
        assert f"| compare {network.name} | passed |" in page


@pytest.mark.slow
def test_a_training_needs_neither_matplotlib_nor_tensorboard(tmp_path: Path) -> None:
    words = ("--device", "cpu", "--quick", "--networks", "lenet-maxpool")
    status, page, ran = script(tmp_path, *words, without=("matplotlib", "tensorboard", "torchvision"))
    assert status == 0, page + ran.stdout + ran.stderr
