"""A TensorRT that runs on host memory: the smallest module with which an engine can be driven.

Its engine doubles its input. Used with the stand-in of the driver, where a device address is an
ordinary pointer, so that the code for GPUs runs whole: upload, shapes, addresses, run, download.
"""

from __future__ import annotations

import ctypes
from enum import Enum
from typing import Any

import numpy as np


class TensorIOMode(Enum):
    INPUT = 0
    OUTPUT = 1


class LayerInformationFormat(Enum):
    JSON = 0


class EngineStat(Enum):
    TOTAL_WEIGHTS_SIZE = 0


class DynamicShapesKernelSpecializationStrategy(Enum):
    LAZY = 0
    EAGER = 1


class RuntimeCache:
    """Holds one kernel a shape that was run; refuses what another release wrote, as TensorRT does."""

    def __init__(self) -> None:
        self.kernels: set[str] = set()

    def deserialize(self, blob: bytes) -> bool:
        head, _, rest = bytes(blob).decode().partition(";")
        if head != "release 1":
            return False
        self.kernels = set(rest.split(","))
        return True

    def serialize(self) -> memoryview:
        return memoryview(f"release 1;{','.join(sorted(self.kernels))}".encode())


class RuntimeConfig:
    dynamic_shapes_kernel_specialization_strategy = DynamicShapesKernelSpecializationStrategy.LAZY
    cache: RuntimeCache | None = None

    def create_runtime_cache(self) -> RuntimeCache:
        return RuntimeCache()

    def set_runtime_cache(self, cache: RuntimeCache) -> bool:
        self.cache = cache
        return True


class ILogger:
    def log(self, severity: Any, msg: str) -> None: ...


class IProfiler:
    def report_layer_time(self, layer_name: str, ms: float) -> None: ...


def nptype(dtype: Any) -> Any:
    return dtype


class Context:
    def __init__(self, settings: RuntimeConfig) -> None:
        eager = DynamicShapesKernelSpecializationStrategy.EAGER
        assert settings.dynamic_shapes_kernel_specialization_strategy is eager
        self.settings = settings
        self.addresses: dict[str, int] = {}
        self.shape: tuple[int, ...] = ()
        self.profiler: Any = None
        self.enqueue_emits_profile = True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shape if name == "input" else (self.shape[0], 4)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == 7
        assert self.settings.cache is not None
        self.settings.cache.kernels.add("x".join(map(str, self.shape)))
        count = int(np.prod(self.shape))
        source = (ctypes.c_float * count).from_address(self.addresses["input"])
        target = (ctypes.c_float * count).from_address(self.addresses["logits"])
        np.frombuffer(target, np.float32)[:] = 2 * np.frombuffer(source, np.float32)
        return True

    def report_to_profiler(self) -> bool:
        self.profiler.report_layer_time("double", 0.25)
        return True


class Inspector:
    execution_context: Any = None

    def get_engine_information(self, form: LayerInformationFormat) -> str:
        assert isinstance(self.execution_context, Context)
        return '{"Layers": ["double"]}'


class Engine:
    num_io_tensors = 2
    device_memory_size_v2 = 4096

    def get_tensor_name(self, index: int) -> str:
        return ("input", "logits")[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name == "input" else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return np.float32

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        return [(1, 1, 2, 2), (4, 1, 2, 2), (8, 1, 2, 2)]

    def create_runtime_config(self) -> RuntimeConfig:
        return RuntimeConfig()

    def create_execution_context(self, settings: RuntimeConfig) -> Context:
        return Context(settings)

    def create_engine_inspector(self) -> Inspector:
        return Inspector()

    def get_engine_stat(self, stat: EngineStat) -> int:
        return 123


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self.logger = logger

    def deserialize_cuda_engine(self, data: bytes) -> Engine | None:
        if data != b"an engine":
            self.logger.log("Severity.ERROR", "magic tag does not match\nmore")
            return None
        return Engine()
