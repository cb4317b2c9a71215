"""TensorRT: runs engines on an NVIDIA GPU, whichever flavour built them.

Opening an engine compares its passport with this machine first, so that the wrong GPU, release or
flavour is one line instead of a failed deserialisation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from toolkit.artifacts import Artifact
from toolkit.backends import Availability, Backend, Engine, EngineOptions, opener
from toolkit.errors import CorruptError, ShapeError, UnavailableError
from toolkit.graphs import GRAPH
from toolkit.machine.cuda import Device, device_count, driver_trouble, driver_version, gpus
from toolkit.passports import Format
from toolkit.tensorrt.fit import GET_CLASSIC, beyond, explain_refusal, here, misfit
from toolkit.tensorrt.flavours import (
    DEFAULT_FLAVOUR,
    FLAVOURS,
    BuilderLog,
    guarded,
    load,
    new_logger,
    new_profiler,
)
from toolkit.tensorrt.kernels import KernelCache, kernels_path
from toolkit.tensorrt.layers import SPELLING, node_of, read_layers
from toolkit.traces import Copies, ForeignFiles, ForeignTrace, Trace, TraceMemory, trimmed_mean

NO_GPU = "it needs an NVIDIA GPU and none is visible"


class TrtEngine(Engine):
    """An engine with its execution context, stream and device buffers."""

    backend = "trt"

    def __init__(self, artifact: Artifact, options: EngineOptions) -> None:
        super().__init__(artifact, options)
        target = artifact.passport.target
        flavour = FLAVOURS[(target.flavour if target else None) or DEFAULT_FLAVOUR]
        self.trt = load(flavour.name)
        self.log = BuilderLog()
        self._logger = new_logger(self.trt, self.log)
        self.device = Device(_device_index(BACKEND.device_for(options)))
        # which bound call's batch the context is set to, None for that of a run; and how many were bound
        self._set_to: str | None = None
        self._bound = 0
        # RTX only: what it compiled for this GPU, kept from one process to the next
        self.kernels: KernelCache | None = None
        try:
            self._open(artifact)
        except BaseException:
            self.close()
            raise

    def _open(self, artifact: Artifact) -> None:
        trt, data = self.trt, artifact.path.read_bytes()
        self._runtime = guarded("making a TensorRT runtime", self.log, lambda: trt.Runtime(self._logger))
        self.engine = self._runtime.deserialize_cuda_engine(data)
        if self.engine is None:
            why = explain_refusal(trt, self._runtime, data) or self.log.first_error() or "no reason given"
            raise CorruptError(
                f"TensorRT cannot open {artifact.path}: {why}; "
                f"`cnnkit verify {artifact.path} --rebuild` makes it again for this machine"
            )
        self.context = guarded("making an execution context", self.log, self._context)
        names = [self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors)]
        mode = self.engine.get_tensor_mode
        self.inputs = [name for name in names if mode(name) == trt.TensorIOMode.INPUT]
        self.outputs = [name for name in names if mode(name) == trt.TensorIOMode.OUTPUT]

    def _context(self) -> Any:
        """Make a context; RTX's must compile its kernels for a shape before the first answer.

        By default it answers with slow fallback kernels while it compiles in the background, which
        would make every latency measured meanwhile meaningless.
        """
        trt = self.trt
        if not hasattr(trt, "DynamicShapesKernelSpecializationStrategy"):
            return self.engine.create_execution_context()
        settings = self.engine.create_runtime_config()
        settings.dynamic_shapes_kernel_specialization_strategy = (
            trt.DynamicShapesKernelSpecializationStrategy.EAGER
        )
        self.device.activate()  # a stored cache is checked against the GPU that is current
        path = kernels_path(self.artifact.passport.sha256, gpus()[self.device.index].capability)
        self.kernels = KernelCache(settings, path)
        return self.engine.create_execution_context(settings)

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(self.outputs)

    def run(self, batch: NDArray[Any]) -> list[NDArray[Any]]:
        self.check(batch)
        self._enqueue(batch)
        found = self._download()
        self.device.synchronise()
        return found

    def call_times(self, batch: NDArray[Any], *, runs: int) -> Copies:
        """Time the copies to the GPU and back apart from the layers, by events on the stream.

        Host memory is the caller's, not pinned, as it is in `run`.
        """
        self.check(batch)
        parts = []
        steps: tuple[Callable[[], object], ...] = (lambda: self._upload(batch), self._execute, self._download)
        for _ in range(runs):
            marks, kept = [self.device.mark()], []
            for step in steps:
                kept.append(step())  # the answers are alive until their copies are done
                marks.append(self.device.mark())
            self.device.synchronise()
            parts.append([self.device.elapsed_ms(a, b) for a, b in pairwise(marks)])
            self.device.forget(marks)
            del kept
        upload, _, download = np.median(parts, axis=0).tolist()
        return Copies(upload_ms=upload, download_ms=download)

    @property
    def batch_sizes(self) -> tuple[int, int | None]:
        if self.artifact.passport.input.shape[0]:
            return super().batch_sizes
        low, _, high = self._profile
        return low, high

    @property
    def device_name(self) -> str:
        gpu = gpus()[self.device.index]
        return f"cuda:{gpu.index} {gpu.name} ({gpu.capability})"

    @property
    def _profile(self) -> tuple[int, int, int]:
        """The smallest, the usual and the largest batch that the engine was built for."""
        low, usual, high = self.engine.get_tensor_profile_shape(self.inputs[0], 0)
        return int(low[0]), int(usual[0]), int(high[0])

    def wider(self, asked: int) -> str:
        low, usual, high = self._profile
        precision, sizes = self.artifact.passport.precision, f"{min(low, asked)},{usual},{max(high, asked)}"
        return f"`cnnkit export {self.artifact.name} --format trt --precision {precision} --batch {sizes}`"

    def _enqueue(self, batch: NDArray[Any]) -> None:
        self._upload(batch)
        self._execute()

    def _upload(self, batch: NDArray[Any], bound: str | None = None) -> int:
        """Copy a batch to the GPU, set the context to it, and return its address there.

        A batch that is `bound` lies in a buffer of that name, which no other batch is copied to.
        """
        self.device.activate()
        name = self.inputs[0]
        values = np.ascontiguousarray(batch, dtype=self.trt.nptype(self.engine.get_tensor_dtype(name)))
        with self.within_memory(batch):
            address = self.device.upload(bound or name, values)
            self._set(values.shape, address, bound)
        return address

    def _set(self, shape: tuple[int, ...], address: int, bound: str | None) -> None:
        """Tell the context an input's shape and address, and where outputs of that size lie."""
        name, context = self.inputs[0], self.context
        self._set_to = None  # should the context refuse it
        if not context.set_input_shape(name, shape):
            raise ShapeError(f"TensorRT refused the shape {shape}: {self.log.first_error()}")
        context.set_tensor_address(name, address)
        for output in self.outputs:
            extents, dtype = self._output(output)
            size = int(np.prod(extents)) * dtype.itemsize
            context.set_tensor_address(output, self.device.buffer(output, size))
        self._set_to = bound

    def _execute(self) -> None:
        if not self.context.execute_async_v3(self.device.stream):
            raise UnavailableError(f"TensorRT could not run the engine: {self.log.first_error()}")

    def _output(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        shape = tuple(self.context.get_tensor_shape(name))
        return shape, np.dtype(self.trt.nptype(self.engine.get_tensor_dtype(name)))

    def _download(self) -> list[NDArray[Any]]:
        """Queue the copies of all outputs into new arrays; they are filled once the device is done."""
        return [self.device.download(name, *self._output(name)) for name in self.outputs]

    def layer_times(self, batch: NDArray[Any], *, runs: int) -> list[list[tuple[str, float]]]:
        """Run `runs` times under TensorRT's profiler; return each run's layers, with ms, in their order.

        Profiling slows the engine down: take the end-to-end latency from unprofiled runs.
        """
        self.check(batch)
        seen: list[tuple[str, float]] = []
        self.context.profiler = new_profiler(self.trt, seen)
        # without this each enqueue would wait for its report and time the host, too
        self.context.enqueue_emits_profile = False
        found: list[list[tuple[str, float]]] = []
        try:
            for _ in range(runs):
                self._enqueue(batch)
                self.device.synchronise()
                seen.clear()
                self.context.report_to_profiler()
                found.append([*seen])
        finally:
            self.context.enqueue_emits_profile = True
            self.context.profiler = None
        return found

    def bind(self, batch: NDArray[Any]) -> Callable[[], object]:
        """Return one enqueue on the device and the wait for it; copies to and from it are not timed.

        What else was run or bound since, the call sets the context back to its own batch first.
        """
        self.check(batch)
        self._bound += 1
        own, shape = f"bound {self._bound}", batch.shape
        address = self._upload(batch, own)
        self._execute()
        self.device.synchronise()

        def call() -> None:
            self.device.activate()  # a call may come from another thread than the one that bound it
            if self._set_to != own:
                self._set(shape, address, own)
            self._execute()
            self.device.synchronise()

        return call

    def trace(self, batch: NDArray[Any], *, windows: int, runs: int) -> Trace:
        seen = self.layer_times(batch, runs=windows * runs)
        names = [name for name, _ in seen[0]]
        samples = np.array([[ms for _, ms in run] for run in seen])
        by_window = samples.reshape(windows, runs, len(names)).transpose(0, 2, 1)
        known = {node.name: node for node in read_layers(self.inspect(), what="the engine's own inspector")}
        memory = TraceMemory(
            weights_bytes=int(self.engine.get_engine_stat(self.trt.EngineStat.TOTAL_WEIGHTS_SIZE)),
            peak_activation_bytes=int(self.engine.device_memory_size_v2),
        )
        return Trace(
            nodes=tuple(known.get(name) or node_of(name) for name in names),
            node_ms=trimmed_mean(by_window),
            total_ms=(),  # enqueued runs under the profiler have no honest wall time of their own
            runs=windows * runs,
            memory=memory,
            note="activations are the context's memory for the largest shapes of its profile",
        )

    def inspect(self) -> str:
        """Return the engine inspector's JSON: the layers as this GPU runs them."""
        inspector = self.engine.create_engine_inspector()
        inspector.execution_context = self.context
        return str(inspector.get_engine_information(self.trt.LayerInformationFormat.JSON))

    def close(self) -> None:
        if self.kernels is not None:
            self.kernels.close()
        # children before parents, and all of TensorRT's before the CUDA context
        for name in ("context", "engine", "_runtime"):
            setattr(self, name, None)
        self.device.close()


class Trt(Backend):
    """TensorRT for RTX, or classic TensorRT, on an NVIDIA GPU."""

    name = "trt"
    title = "TensorRT"
    summary = "TensorRT engines on an NVIDIA GPU"
    platform = "tensorrt_plan"
    formats: ClassVar[Mapping[Format, str | None]] = {"trt": "trt"}
    device_words = ("cuda", "cuda:N")
    default_device = "cuda"
    order = 2
    spelling = SPELLING
    foreign = (
        "the inspector's JSON",
        "its text (`trtexec --exportLayerInfo`)",
        "layers' times (`trtexec --exportProfile`)",
    )

    def read_foreign(self, files: ForeignFiles) -> ForeignTrace | None:
        from toolkit.tensorrt.foreign import read_foreign

        return read_foreign(files)

    def static(self, artifact: Artifact, graph: Path | None, *, batch: int) -> Trace | None:
        from toolkit.tensorrt.static import static_trace

        return static_trace(artifact, graph, batch=batch)

    def availability(self) -> Availability:
        machine = here()
        version = ", ".join(f"{FLAVOURS[name].label} {v}" for name, v in machine.versions.items()) or None
        if version is None:
            return Availability(
                available=False,
                why_not="no TensorRT is installed",
                how_to_get="pip install 'cnnkit[export]' (TensorRT for RTX, x86-64 Linux)",
            )
        here_are = gpus()
        if not here_are:
            return Availability(
                available=False, version=version, why_not=no_gpu(), how_to_get="run on a machine with one"
            )
        # each GPU with why no TensorRT here runs on it
        lacking = {gpu: beyond(gpu.capability, machine.versions) for gpu in here_are}
        devices = tuple(
            f"cuda:{gpu.index} {gpu.name} ({gpu.capability})" for gpu, why in lacking.items() if why is None
        )
        if not devices:
            why = next(why for why in lacking.values() if why)
            return Availability(available=False, version=version, why_not=why, how_to_get=GET_CLASSIC)
        return Availability(available=True, version=version, devices=devices)

    def open(self, artifact: Artifact, options: EngineOptions) -> Engine:
        index = _device_index(self.device_for(options))
        machine = here(index)
        why = misfit(artifact, machine)
        if why is None and machine.capability is None:
            why = f"backend 'trt' cannot run {artifact.path.name} here: {no_gpu(index)}"
            if artifact.passport.model:
                why += f"; `--backend {opener(GRAPH).name}` runs {artifact.name} on this machine"
        if why is not None:
            raise UnavailableError(why)
        return TrtEngine(artifact, options)


def no_gpu(index: int = 0) -> str:
    """Say why the GPU of that index cannot be used, where it cannot."""
    count, trouble = device_count(), driver_trouble()
    if trouble is not None and driver_version() is not None:  # without any driver there is no GPU to speak of
        return f"it needs an NVIDIA GPU, and {trouble}"
    if not count:
        return NO_GPU
    return f"there is no GPU {index}; `--device` takes {', '.join(f'cuda:{one}' for one in range(count))}"


def _device_index(device: str) -> int:
    """Return the GPU meant by `cuda:1`; `cuda` means the first one."""
    return int(device.partition(":")[2] or 0)


BACKEND = Trt()
