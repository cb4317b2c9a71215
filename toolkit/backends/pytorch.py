"""PyTorch: runs checkpoints as their author wrote them; the reference that everything is held against."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from toolkit.artifacts import CHECKPOINT, Artifact
from toolkit.backends import Availability, Backend, BackendSetting, Engine, EngineOptions
from toolkit.checkpoints import load_module
from toolkit.errors import OutOfMemoryError, UnavailableError, is_out_of_memory, needs_extra
from toolkit.machine.arithmetic import plain_fp32
from toolkit.machine.threads import compute_with
from toolkit.passports import Format
from toolkit.traces import Trace


def torch_device(name: str) -> Any:
    """Return the torch.device of that name. Raises UnavailableError when it is not on this machine."""
    with needs_extra("train"):
        import torch
    kind, _, index = name.partition(":")
    here = {"cpu": 1, "cuda": _gpus(), "mps": int(torch.backends.mps.is_available())}
    if int(index or 0) >= here.get(kind, 0):
        able = ", ".join(device for device, count in here.items() if count)
        raise UnavailableError(f"no device {name!r} for PyTorch here; possible: {able}")
    return torch.device(name)


def _gpus() -> int:
    """Count the GPUs that this PyTorch can use; a driver that is too old for it may still count them."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def own_tensor(batch: NDArray[Any], device: Any) -> Any:
    """Return a batch as a tensor that shares none of its memory: a network may change its input in place."""
    import torch

    # what is copied to a device is a copy already; numpy's is the cheaper one, for small batches above all
    held = np.array(batch, order="C") if device.type == "cpu" else np.require(batch, None, ["C", "W"])
    return torch.from_numpy(held).to(device)


class PyTorchEngine(Engine):
    """A checkpoint as a torch module in eval mode."""

    backend = "pytorch"

    def __init__(self, artifact: Artifact, options: EngineOptions) -> None:
        super().__init__(artifact, options)
        self.device = torch_device(BACKEND.device_for(options))
        if self.device.type == "cuda":
            plain_fp32()
        if options.threads:
            compute_with(options.threads)  # of the whole process: torch knows no other way
        module = load_module(artifact, model_file=options.model_file, lean=True)
        try:
            self.module = module.to(self.device)
        except Exception as error:  # torch's own, and RuntimeError of CUDA's libraries
            if is_out_of_memory(error):
                raise OutOfMemoryError(
                    f"{self.device} has no memory for the weights of {artifact.path}"
                ) from None
            raise
        self.channels_last = BACKEND.setting(options, "channels_last") == "yes"
        if self.channels_last:
            import torch

            self.module = self.module.to(memory_format=torch.channels_last)
        self.call: Callable[[Any], Any] = self.module
        if BACKEND.setting(options, "compile") == "yes":
            import torch

            self.call = torch.compile(self.module)

    def _laid_out(self, given: Any) -> Any:
        """Return an input in the order that the module's weights lie in."""
        import torch

        turned = self.channels_last and given.ndim == 4
        return given.contiguous(memory_format=torch.channels_last) if turned else given

    def run(self, batch: NDArray[Any]) -> list[NDArray[Any]]:
        import torch

        self.check(batch)
        with self.within_memory(batch), torch.inference_mode():
            output = self.call(self._laid_out(own_tensor(batch, self.device)))
            outputs = output if isinstance(output, (list, tuple)) else [output]
            return [value.cpu().numpy() for value in outputs]

    def bind(self, batch: NDArray[Any]) -> Callable[[], object]:
        import torch

        self.check(batch)
        module, device, laid_out = self.call, self.device, self._laid_out
        with self.within_memory(batch):
            given = own_tensor(batch, device)
        waits: dict[str, Callable[[], object]] = {
            "cuda": partial(torch.cuda.synchronize, device),
            "mps": torch.mps.synchronize,
        }
        wait = waits.get(device.type, lambda: None)

        def call() -> object:
            try:
                with torch.inference_mode():
                    output = module(laid_out(given))
                wait()
            except Exception as error:  # torch's own, and RuntimeError of CUDA's libraries
                if is_out_of_memory(error):
                    raise self.no_memory(batch) from None
                raise
            return output

        return call

    def trace(self, batch: NDArray[Any], *, windows: int, runs: int) -> Trace:
        from toolkit.backends._torch_trace import trace_module

        self.check(batch)
        if self.call is not self.module:
            raise UnavailableError("a compiled module tells no time per layer; leave out `--compile`")
        with self.within_memory(batch):
            return trace_module(self.module, batch, self.device, windows=windows, runs=runs)


class PyTorch(Backend):
    """Eager PyTorch on a CPU, an NVIDIA GPU or Apple silicon."""

    name = "pytorch"
    title = "PyTorch"
    summary = "eager PyTorch, the reference"
    platform = "pytorch_eager"
    formats: ClassVar[Mapping[Format, str | None]] = {CHECKPOINT: None}
    device_words = ("cpu", "cuda", "cuda:N", "mps")
    order = 0
    settings: ClassVar[Mapping[str, BackendSetting]] = {
        "channels_last": BackendSetting(
            choices=("no", "yes"),
            default="no",
            help="Whether PyTorch's weights and inputs lie channels last.",
            tries=("yes",),
        ),
        "compile": BackendSetting(
            choices=("no", "yes"),
            default="no",
            help="Whether PyTorch compiles the module, which takes a C++ compiler.",
            tries=("yes",),
            costly=True,
        ),
    }

    def variants(self, artifact: Artifact, *, threads: int, batch: int) -> Iterator[Mapping[str, str]]:
        compiles = any(shutil.which(word) for word in ("c++", "g++", "clang++"))
        for one in super().variants(artifact, threads=threads, batch=batch):
            if compiles or "compile" not in one:
                yield one

    def installed(self) -> bool:
        return find_spec("torch") is not None  # importing it takes over a second

    def release(self) -> str | None:
        return metadata.version("torch") if self.installed() else None

    def availability(self) -> Availability:
        try:
            import torch
        except ImportError:
            return Availability(
                available=False,
                why_not="PyTorch is not installed",
                how_to_get="pip install 'cnnkit[train]'",
            )
        devices = ["cpu", *(f"cuda:{i}" for i in range(_gpus()))]
        if torch.backends.mps.is_available():
            devices.append("mps")
        return Availability(available=True, version=metadata.version("torch"), devices=tuple(devices))

    def import_runtime(self) -> None:
        import torch  # noqa: F401

    def open(self, artifact: Artifact, options: EngineOptions) -> Engine:
        return PyTorchEngine(artifact, options)


BACKEND = PyTorch()
