"""ONNX Runtime's providers looked at closely: which run here, which libraries they want, what clashes.

Looks, never assumes: `onnxruntime.get_available_providers()` lists what was compiled in, so each
provider is asked to run a graph with the fallback to the CPU forbidden.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import io
import re
from pathlib import Path
from typing import Any

from toolkit.machine.cuda import driver_version
from toolkit.machine.packages import package_version
from toolkit.tensorrt.flavours import FLAVOURS

# y = Identity(x), one float: the smallest ONNX model, so that probing needs no onnx package
IDENTITY = (
    b'\x08\x08:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n'
    b"\x02\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)


def providers() -> dict[str, str | None]:
    """Return each of ONNX Runtime's providers with None where it runs, else with the reason it does not."""
    try:
        import onnxruntime as ort
    except ImportError:
        return {}
    load_cuda_libraries()
    return {name: _provider(ort, name) for name in ort.get_available_providers()}


def load_cuda_libraries() -> None:
    """Load CUDA's and cuDNN's libraries from the Python packages that hold them, for this process.

    The system's loader does not look there. PyTorch loads those that it brought as it is imported, and
    ONNX Runtime those that lie beside it; the one that comes second finds what the other has loaded.
    """
    import onnxruntime as ort

    if torch_cuda() is not None:
        import torch  # noqa: F401  (for the libraries)
    # it prints what it does not find; what is missing in the end is told when the provider does not load
    with contextlib.redirect_stdout(io.StringIO()):
        ort.preload_dlls()


def _provider(ort: Any, name: str) -> str | None:
    settings = ort.SessionOptions()
    if name != "CPUExecutionProvider":
        # a provider that does not load is replaced by the CPU in silence unless this is forbidden
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    ort.set_default_logger_severity(4)  # its failure is reported here, not on the user's screen
    try:
        session = ort.InferenceSession(IDENTITY, settings, providers=[name], enable_fallback=0)
        if name in session.get_providers():
            return None
        return "ONNX Runtime put another provider in its place"
    except Exception as error:  # the runtime's own errors share no base class
        return _library_error(name) or str(error).strip().splitlines()[0]
    finally:
        ort.set_default_logger_severity(2)


def _provider_library(name: str) -> Path | None:
    """Return the shared library of a provider: `CUDAExecutionProvider` is libonnxruntime_providers_cuda."""
    short = name.removesuffix("ExecutionProvider").lower()
    return _file_of("onnxruntime", f"capi/libonnxruntime_providers_{short}.so")


def _file_of(package: str, inside: str) -> Path | None:
    """Return a file of a package, which is not imported; None where either is not there."""
    spec = importlib.util.find_spec(package)
    path = Path(spec.origin).parent / inside if spec and spec.origin else None
    return path if path and path.is_file() else None


def _library_error(name: str) -> str | None:
    """Return the loader's own reason, which names the library that is missing."""
    path = _provider_library(name)
    if path is None:
        return None
    try:
        ctypes.CDLL(str(path))
    except OSError as error:
        return str(error).partition(":")[0].strip() + " cannot be loaded"
    return None


def _needs(name: str, library: str) -> int | None:
    """Return the major version of a library that a provider was linked against; None where unknown."""
    path = _provider_library(name)
    if path is None:
        return None
    found = re.findall(rb"lib" + library.encode() + rb"\.so\.(\d+)", path.read_bytes())
    return max(map(int, found), default=None)


def problems() -> tuple[str, ...]:
    """Return in words what clashes between ONNX Runtime, its libraries, PyTorch and the driver."""
    found = []
    if all(package_version(name) for name in ("onnxruntime", "onnxruntime-gpu")):
        found.append(
            "onnxruntime and onnxruntime-gpu are both installed into one folder and break each other: "
            "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"
        )
    wanted = _needs("TensorrtExecutionProvider", "nvinfer")
    classic = FLAVOURS["classic"].version()
    if wanted and classic and int(classic.split(".")[0]) != wanted:
        found.append(
            f"ONNX Runtime's TensorRT provider was linked against TensorRT {wanted}, here is {classic}: "
            "it cannot load; cnnkit runs engines through TensorRT itself and does not need it"
        )
    for_torch, ort_cuda = torch_cuda(), _needs("CUDAExecutionProvider", "cublas")
    if for_torch and ort_cuda and for_torch != ort_cuda:
        found.append(
            f"PyTorch is built for CUDA {for_torch} and ONNX Runtime for CUDA {ort_cuda}: only one of them "
            f"can use the GPU unless both CUDA libraries are installed; install builds of one CUDA"
        )
    driver = driver_version()
    newest = max((v for v in (for_torch, ort_cuda) if v), default=None)
    if driver and newest and int(driver.split(".")[0]) < newest:
        found.append(
            f"the NVIDIA driver serves CUDA {driver}, packages here want CUDA {newest}: update the driver"
        )
    return tuple(found)


def torch_cuda() -> int | None:
    """Return the CUDA major that torch was built for, read from its version file without importing it."""
    file = _file_of("torch", "version.py")
    match = re.search(r"^cuda[^=]*=\s*'(\d+)", file.read_text("utf-8"), re.MULTILINE) if file else None
    return int(match.group(1)) if match else None
