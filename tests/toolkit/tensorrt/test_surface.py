"""The code holds on to real names of TensorRT, in both flavours; nobody here can run the classic one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("surface.py")
WHEEL = "tensorrt-cu13-bindings==11.4.0.106"
# what the bindings want of libraries that no package index carries; NULL is enough to import them
FUNCTIONS = {
    "nvinfer": (
        *("createInferBuilder_INTERNAL", "createInferRuntime_INTERNAL", "createInferRefitter_INTERNAL"),
        *("getBuilderPluginRegistry", "getPluginRegistry"),
    ),
    "nvinfer_plugin": ("initLibNvInferPlugins",),
    "nvonnxparser": (
        *("createNvOnnxParser_INTERNAL", "createNvOnnxParserRefitter_INTERNAL", "getNvOnnxParserVersion"),
    ),
}


def surface(module: str, **options: object) -> dict[str, list[str]]:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), module], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_every_use_of_tensorrt_rtx_is_in_its_bindings() -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
    found = surface("tensorrt_rtx")
    assert (found["missing"], found["unfit"]) == ([], [])
    assert int(found["seen"][0]) > 70


def test_the_check_sees_a_name_that_is_not_there_and_a_call_that_cannot_fit(tmp_path: Path) -> None:
    fake = "\n".join(
        [
            "class Nothing:",
            "    def __getattr__(self, name): raise AttributeError(name)",
            "class IOptimizationProfile:",
            "    def set_shape(self): 'set_shape(self: x, input: str) -> None'",
            "    set_shape.__doc__ = 'set_shape(self: x, input: str) -> None'",
            "def __getattr__(name): return Nothing()",
        ]
    )
    (tmp_path / "fake_trt.py").write_text(fake)
    found = surface("fake_trt", env={"PYTHONPATH": str(tmp_path)})
    assert "builder.create_network" in found["missing"]
    assert found["unfit"] == ["shapes.set_shape called with 4"]


@pytest.fixture(scope="module")
def classic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack the classic bindings, with empty libraries beside them; skip where either cannot be had."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("gcc is not installed (Debian: apt-get install gcc)")
    folder = tmp_path_factory.mktemp("classic")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), WHEEL]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip(f"{WHEEL} cannot be downloaded here")
    zipfile.ZipFile(next(folder.glob("*.whl"))).extractall(folder)
    for library, names in FUNCTIONS.items():
        code = "".join(f"void *{name}(void) {{ return 0; }}\n" for name in names)
        (folder / "empty.c").write_text(code)
        output = folder / "tensorrt_bindings" / f"lib{library}.so.11"
        soname = f"-Wl,-soname,{output.name}"
        subprocess.run([compiler, "-shared", "-fPIC", soname, "-o", output, folder / "empty.c"], check=True)
    return folder


@pytest.mark.slow
def test_every_use_of_classic_tensorrt_is_in_its_bindings(classic: Path) -> None:
    found = surface("tensorrt_bindings", env={"PYTHONPATH": str(classic)})
    assert (found["missing"], found["unfit"]) == ([], [])
    assert int(found["seen"][0]) > 60


@pytest.mark.slow
def test_the_classic_bindings_are_the_real_ones(classic: Path) -> None:
    code = (
        "import tensorrt_bindings as trt\n"
        "try: trt.Builder(trt.Logger())\n"
        "except TypeError as error: print(error)\n"
        "print(trt.__version__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(classic)},
        check=True,
    )
    assert done.stdout.splitlines()[-1].startswith("11.")
