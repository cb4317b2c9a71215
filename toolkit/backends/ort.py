"""ONNX Runtime: runs ONNX files on the CPU, or on an NVIDIA GPU where its CUDA provider really loads."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from toolkit.artifacts import Artifact, Format
from toolkit.backends import Availability, Backend, Engine, EngineOptions
from toolkit.errors import CorruptError, UnavailableError

HOW_TO_GET = "pip install cnnkit"


class OrtEngine(Engine):
    """An ONNX file in an inference session."""

    backend = "ort"

    def __init__(self, artifact: Artifact, options: EngineOptions) -> None:
        super().__init__(artifact, options)
        import onnxruntime as ort

        settings = ort.SessionOptions()
        settings.log_severity_level = 3
        if options.threads:
            settings.intra_op_num_threads = options.threads
        wanted = "CUDAExecutionProvider" if options.device.startswith("cuda") else "CPUExecutionProvider"
        if options.device not in ("cpu", "cuda") and not options.device.startswith("cuda:"):
            raise UnavailableError(f"no device {options.device!r} for ONNX Runtime; possible: cpu, cuda")
        try:
            self.session = ort.InferenceSession(artifact.path, settings, providers=[wanted])
        except Exception as error:  # the runtime's own errors share no base class
            first = str(error).strip().splitlines()[0]
            raise CorruptError(f"ONNX Runtime cannot open {artifact.path}: {first}") from None
        # a session that was asked for CUDA falls back to the CPU without a word: look, never assume
        if wanted not in self.session.get_providers():
            raise UnavailableError(
                "ONNX Runtime has no working CUDA provider here; `--device cpu` runs on this machine"
            )

    def run(self, batch: NDArray[Any]) -> list[NDArray[Any]]:
        self.check(batch)
        name = self.session.get_inputs()[0].name
        return [np.asarray(v) for v in self.session.run(None, {name: np.ascontiguousarray(batch)})]


class Ort(Backend):
    """ONNX Runtime, part of the base install."""

    name = "ort"
    formats: ClassVar[tuple[Format, ...]] = ("onnx",)
    summary = "ONNX Runtime"

    def availability(self) -> Availability:
        try:
            import onnxruntime as ort
        except ImportError:
            return Availability(
                available=False, why_not="ONNX Runtime is not installed", how_to_get=HOW_TO_GET
            )
        return Availability(available=True, version=str(ort.__version__), devices=("cpu",))

    def open(self, artifact: Artifact, options: EngineOptions) -> Engine:
        try:
            import onnxruntime  # noqa: F401
        except ImportError:
            raise UnavailableError(f"ONNX Runtime is not installed; {HOW_TO_GET}") from None
        return OrtEngine(artifact, options)


BACKEND = Ort()
